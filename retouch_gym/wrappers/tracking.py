"""Following an environment from outside, to know an episode whole when it is over."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from gymnasium import logger

from retouch_gym.datasets.base import Dataset
from retouch_gym.datasets.recording_format import DatasetNote, EnvironmentNote, Header
from retouch_gym.datasets.recordings import RecordedEpisode, RecordedTurn, Seeds
from retouch_gym.envs.base import BaseRetouchEnv
from retouch_gym.envs.chat import ChatView
from retouch_gym.envs.vector import BaseRetouchVectorEnv
from retouch_gym.images import Pixels
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.tasks import Episode, Turn
from retouch_gym.types import Image
from retouch_gym.wrappers.writer import RecordingWriter, plain_arguments

Keep: TypeAlias = Callable[[RecordedEpisode], bool]
"""Says of a finished episode whether it is written."""


class Track:
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


class Recorder:
    """What the two wrappers share: a writer, a choice, and a track for each environment."""

    def __init__(self, writer: RecordingWriter, keep: Keep | None, turn_photos: bool, count: int) -> None:
        self.writer = writer
        self.keep = keep
        self.tracks = [Track(turn_photos) for _ in range(count)]
        self.recorded = 0

    def finish(
        self,
        track: Track,
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


def header_of(env: BaseRetouchEnv | BaseRetouchVectorEnv) -> Header:
    """What every episode of an environment has in common."""
    engine = env.engine
    spec = env.spec
    kwargs, left_out = plain_arguments({} if spec is None else spec.kwargs)
    view = engine.view
    return Header(
        environment=EnvironmentNote(id=None if spec is None else spec.id, kwargs=kwargs, left_out=left_out),
        dataset=_dataset_note(engine.dataset),
        toolset=engine.toolset.name,
        renderer=engine.renderer.name,
        reward=engine.reward.name,
        reward_mode=engine.scorer.mode,
        discount=engine.scorer.discount,
        max_turns=engine.max_turns,
        answer_format=view.answer_format.name if isinstance(view, ChatView) else None,
    )


def info_of(infos: Mapping[str, Any], number: int) -> dict[str, Any]:
    """One environment's part of the infos of a vector environment."""
    own = {name: value for name, value in infos.items() if f"_{name}" in infos and infos[f"_{name}"][number]}
    return {
        name: info_of(value, number) if isinstance(value, Mapping) else value[number] for name, value in own.items()
    }


def _dataset_note(dataset: Dataset) -> DatasetNote:
    return DatasetNote(name=dataset.name, split=dataset.split, size=len(dataset), modes=list(dataset.modes))
