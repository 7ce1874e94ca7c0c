"""Wrappers that record what is played."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from retouch_gym.envs.base import BaseRetouchEnv
from retouch_gym.envs.vector import BaseRetouchVectorEnv
from retouch_gym.errors import ConfigurationError
from retouch_gym.wrappers.tracking import Keep, Recorder, header_of, info_of
from retouch_gym.wrappers.writer import RecordingWriter


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
        writer = RecordingWriter(folder, header_of(base), own_subfolder=worker)
        self._recorder = Recorder(writer, keep, turn_photos, 1)

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
        # Gymnasium's `Env.close` has no annotations.
        env: Any = self.env
        env.close()


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
        writer = RecordingWriter(folder, header_of(base), own_subfolder=worker)
        self._recorder = Recorder(writer, keep, turn_photos, base.num_envs)
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
                self._recorder.finish(track, episode, states[number], ended, info_of(infos, number))
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
