"""Wrappers that record what is played."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import gymnasium
from gymnasium import logger
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from retouch_gym.datasets.recording_format import DatasetNote, EnvironmentNote, Header
from retouch_gym.datasets.recordings import RecordedEpisode, RecordedTurn, Seeds
from retouch_gym.envs.base import BaseRetouchEnv
from retouch_gym.envs.chat import ChatView
from retouch_gym.envs.vector import BaseRetouchVectorEnv
from retouch_gym.errors import ConfigurationError
from retouch_gym.images import Pixels
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.tasks import Episode, Turn
from retouch_gym.types import Image
from retouch_gym.wrappers.writer import RecordingWriter, plain_arguments

Keep: TypeAlias = Callable[[RecordedEpisode], bool]
"""Says of a finished episode whether it is written."""


class _Track:
    """One environment's episode as it is seen from outside."""

    def __init__(self, turn_photos: bool) -> None:
        self.turn_photos = turn_photos
        self.seed: int | None = None
        self.count = -1
        self.restart(None)

    def reseed(self, seed: int | None) -> None:
        """Note the seed that a reset was given."""
        if seed is not None:
            self.seed, self.count = int(seed), -1

    def begin(self, episode: Episode) -> None:
        """Begin with an episode."""
        self.count += 1
        self.restart(episode)

    def restart(self, episode: Episode | None) -> None:
        """Forget what was seen."""
        self.task = None if episode is None else episode.task
        self.turns: tuple[Turn, ...] = ()
        self.rewards: list[float] = []
        self.photos: list[Image] = []
        self.whole = episode is not None and not episode.turns

    def follow(self, episode: Episode, reward: float) -> None:
        """Take a turn; notice if the episode is not the one that was seen so far (``set_state``)."""
        self.whole = self.whole and episode.task is self.task and episode.turns[:-1] == self.turns
        self.turns = episode.turns
        self.rewards.append(reward)
        if self.turn_photos:
            self.photos.append(episode.image)

    def finish(
        self,
        episode: Episode,
        state: Mapping[str, Any],
        ended: tuple[bool, bool],
        info: Mapping[str, Any],
    ) -> RecordedEpisode:
        """The episode at its end.

        Args:
            episode: As a reward sees it.
            state: The environment's state.
            ended: Whether it terminated, and whether it was truncated.
            info: The last ``info``.
        """
        # The 0 that a failed reward leaves is a placeholder, as is the one of an episode that was cut off unscored.
        valid = bool(info.get("reward_valid", False))
        rewards = [reward if math.isfinite(reward) else None for reward in map(float, self.rewards)]
        rewards[-1] = rewards[-1] if valid else None
        moments = state["session"]["moments"][1:]
        photos = [Pixels(image) for image in self.photos] if self.turn_photos else [None] * len(moments)
        turns = [
            RecordedTurn(
                turn, reward, Recipe.from_dict(moment["recipe"]), moment["feedback"], int(moment["requests"]), photo
            )
            for turn, reward, moment, photo in zip(episode.turns, rewards, moments, photos, strict=True)
        ]
        return RecordedEpisode(
            task=episode.task,
            requests=episode.requests,
            turns=tuple(turns),
            final=Pixels(episode.image),
            recipe=episode.recipe,
            components=dict(info.get("reward_components", {})),
            reward_error=info.get("reward_error"),
            finished=episode.finished,
            answer=episode.answer,
            terminated=ended[0],
            truncated=ended[1],
            seeds=Seeds(self.seed, self.count, int(state["user_seed"])),
        )


class _Recorder:
    """What the two wrappers share: a writer, a choice, and a track for each environment."""

    def __init__(self, writer: RecordingWriter, keep: Keep | None, turn_photos: bool, count: int) -> None:
        self.writer = writer
        self.keep = keep
        self.tracks = [_Track(turn_photos) for _ in range(count)]
        self.recorded = 0

    def finish(
        self,
        track: _Track,
        episode: Episode,
        state: Mapping[str, Any],
        ended: tuple[bool, bool],
        info: Mapping[str, Any],
    ) -> None:
        """Write an episode that is over, if it is wanted and was seen from its start."""
        if not track.whole:
            logger.warn(
                f"An episode of task {episode.task.id!r} was not recorded, because its start was not seen: its state "
                "was set, or something between this wrapper and the environment reset it."
            )
            return
        finished = track.finish(episode, state, ended, info)
        if self.keep is None or self.keep(finished):
            self.writer.write(finished)
            self.recorded += 1


class RecordEpisode(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Writes every finished episode of one of our environments into a folder. See docs/recordings.md.

    Photos are PNG files, written once each; the rest is a line of JSON. A line is appended when the episode is over,
    so that a killed process loses the episode in progress and no other; a folder that holds a recording of the same
    environment is gone on with. Load it as the dataset ``"recorded:FOLDER"`` or with
    `retouch_gym.datasets.recordings.read_episodes`.

    An episode that ends in an exception is not recorded. What `set_state` began elsewhere is not either.

    Args:
        env: `Retouch-v0`, `Chat-v0` or `Sliders-v0`, wrapped or not.
        folder: Where to write; made with the first episode.
        keep: Says of a `RecordedEpisode` whether it is written; None writes all.
        turn_photos: Whether the photo after every turn is written; otherwise only the last one.
        worker: Whether to write into a new subfolder ``worker-<pid>``, so that several processes (or environments)
            can share `folder`.

    Raises:
        ConfigurationError: If `env` is none of ours, or the folder holds a recording of another environment.

    Example:
        >>> import gymnasium, retouch_gym, tempfile
        >>> from retouch_gym import ToolCall
        >>> from retouch_gym.datasets import get_dataset
        >>> from retouch_gym.wrappers import RecordEpisode
        >>> folder = tempfile.mkdtemp()
        >>> env = RecordEpisode(gymnasium.make("Retouch/Retouch-v0", max_turns=1), folder)
        >>> observation, info = env.reset(seed=0)
        >>> observation, reward, *_ = env.step(ToolCall("exposure", {"value": 20}))
        >>> env.close()
        >>> dataset = get_dataset(f"recorded:{folder}")
        >>> dict(dataset[0].recipe.controls), dataset[0].metadata["reward"] == reward
        ({'exposure': 20}, True)
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        folder: str | os.PathLike[str],
        *,
        keep: Keep | None = None,
        turn_photos: bool = False,
        worker: bool = False,
    ) -> None:
        RecordConstructorArgs.__init__(
            self, folder=os.fspath(folder), keep=keep, turn_photos=turn_photos, worker=worker
        )
        gymnasium.Wrapper.__init__(self, env)
        base = env.unwrapped
        if not isinstance(base, BaseRetouchEnv):
            raise ConfigurationError(
                f"RecordEpisode was given a {type(base).__name__}; it records retouch-gym's own environments. "
                "For a vector environment use RecordVectorEpisode."
            )
        self._base = base
        writer = RecordingWriter(folder, _header(base), own_subfolder=worker)
        self._recorder = _Recorder(writer, keep, turn_photos, 1)

    @property
    def recorded(self) -> int:
        """Episodes written by this wrapper."""
        return self._recorder.recorded

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """See `gymnasium.Env.reset`. An episode that is not over is forgotten."""
        result = self.env.reset(seed=seed, options=options)
        track = self._recorder.tracks[0]
        track.reseed(seed)
        track.begin(self._base.episode)
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env.step`.

        Raises:
            DatasetError: If the episode is over and cannot be written.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        track, episode = self._recorder.tracks[0], self._base.episode
        track.follow(episode, float(reward))
        if terminated or truncated:
            self._recorder.finish(track, episode, self._base.get_state(), (terminated, truncated), info)
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """Close the recording and the environment."""
        self._recorder.writer.close()
        self.env.close()


class RecordVectorEpisode(VectorWrapper, RecordConstructorArgs):
    """`RecordEpisode` for our vector environments: all episodes go into one folder, in the order in which they end.

    With ``AutoresetMode.SAME_STEP`` an episode that is over is gone before it could be read; use one of the other
    modes. For `gymnasium.vector.SyncVectorEnv` and `AsyncVectorEnv` wrap each environment in
    ``RecordEpisode(env, folder, worker=True)`` instead.

    Args:
        env: A vector environment of ours, wrapped or not.
        folder: See `RecordEpisode`, as for all further arguments.
        keep: Which episodes are written.
        turn_photos: Whether the photo after every turn is written.
        worker: Whether to write into a subfolder of this process.

    Raises:
        ConfigurationError: If `env` is none of ours, begins anew in the same step, or the folder holds a recording
            of another environment.
    """

    # Until it is built there is nothing that `__del__` would have to close.
    closed = True

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        folder: str | os.PathLike[str],
        *,
        keep: Keep | None = None,
        turn_photos: bool = False,
        worker: bool = False,
    ) -> None:
        RecordConstructorArgs.__init__(
            self, folder=os.fspath(folder), keep=keep, turn_photos=turn_photos, worker=worker
        )
        VectorWrapper.__init__(self, env)
        base = env.unwrapped
        if not isinstance(base, BaseRetouchVectorEnv):
            raise ConfigurationError(
                f"RecordVectorEpisode was given a {type(base).__name__}; it records retouch-gym's own vector "
                "environments. Wrap each environment of Gymnasium's in RecordEpisode(env, folder, worker=True)."
            )
        if base.autoreset_mode is AutoresetMode.SAME_STEP:
            raise ConfigurationError(
                "autoreset_mode = SAME_STEP begins the next episode before the last one can be read. Record with "
                "NEXT_STEP or DISABLED."
            )
        self._base = base
        writer = RecordingWriter(folder, _header(base), own_subfolder=worker)
        self._recorder = _Recorder(writer, keep, turn_photos, base.num_envs)
        self._over = [False] * base.num_envs
        self.closed = False

    @property
    def recorded(self) -> int:
        """Episodes written by this wrapper."""
        return self._recorder.recorded

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """See `RetouchVectorEnv.reset`."""
        result = self._base_reset(seed, options)
        mask = (options or {}).get("reset_mask")
        for number, (track, episode) in enumerate(zip(self._recorder.tracks, self._base.episodes, strict=True)):
            if mask is None or mask[number]:
                track.reseed(self._seed_of(seed, number))
                track.begin(episode)
                self._over[number] = False
        return result

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """See `RetouchVectorEnv.step`.

        Raises:
            DatasetError: If an episode is over and cannot be written.
        """
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        states: Sequence[Mapping[str, Any]] | None = None
        for number, (track, episode) in enumerate(zip(self._recorder.tracks, self._base.episodes, strict=True)):
            if self._over[number]:
                track.begin(episode)
                self._over[number] = False
                continue
            track.follow(episode, float(rewards[number]))
            ended = bool(terminations[number]), bool(truncations[number])
            if any(ended):
                self._over[number] = True
                states = self._base.get_state() if states is None else states
                self._recorder.finish(track, episode, states[number], ended, _info_of(infos, number))
        return observations, rewards, terminations, truncations, infos

    def close(self, **kwargs: Any) -> None:
        """Close the recording and the environments."""
        self.closed = True
        self._recorder.writer.close()
        super().close(**kwargs)

    def _base_reset(
        self, seed: int | Sequence[int | None] | None, options: dict[str, Any] | None
    ) -> tuple[Any, dict[str, Any]]:
        given: Any = seed
        result: tuple[Any, dict[str, Any]] = self.env.reset(seed=given, options=options)
        return result

    def _seed_of(self, seed: int | Sequence[int | None] | None, number: int) -> int | None:
        if seed is None or isinstance(seed, Sequence):
            return None if seed is None else seed[number]
        return seed + number // self._base.group_size


def _header(env: BaseRetouchEnv | BaseRetouchVectorEnv) -> Header:
    engine = env.engine
    spec = env.spec
    kwargs, left_out = plain_arguments({} if spec is None else spec.kwargs)
    view = engine.view
    return Header(
        environment=EnvironmentNote(id=None if spec is None else spec.id, kwargs=kwargs, left_out=left_out),
        dataset=DatasetNote(name=engine.dataset.name, split=engine.dataset.split, size=len(engine.dataset)),
        toolset=engine.toolset.name,
        renderer=engine.renderer.name,
        reward=engine.reward.name,
        reward_at=engine.reward_at,
        max_turns=engine.max_turns,
        answer_format=view.answer_format.name if isinstance(view, ChatView) else None,
    )


def _info_of(infos: Mapping[str, Any], number: int) -> dict[str, Any]:
    """One environment's part of the infos of a vector environment."""
    own = {name: value for name, value in infos.items() if f"_{name}" in infos and infos[f"_{name}"][number]}
    return {
        name: _info_of(value, number) if isinstance(value, Mapping) else value[number] for name, value in own.items()
    }
