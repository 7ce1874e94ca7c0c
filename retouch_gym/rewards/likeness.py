"""Rewards that compare the edited photo with the reference, without rendering anything."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from retouch_gym.errors import RetouchError, RewardError
from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.rewards.distance import pixel_distance
from retouch_gym.tasks import Episode
from retouch_gym.types import Image


class ReferenceReward(Reward):
    """A rule that scores each episode by itself, against the task's reference.

    A missing or unreadable reference makes an output with `error`; the other episodes are scored.
    """

    needs_reference = True
    splits = True

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order."""
        return [self._score_or_explain(episode) for episode in episodes]

    def _score_or_explain(self, episode: Episode) -> RewardOutput:
        try:
            reference = load_reference(episode)
        except RetouchError as error:
            return RewardOutput(None, error=str(error))
        return self.compare(episode, reference)

    @abstractmethod
    def compare(self, episode: Episode, reference: Image) -> RewardOutput:
        """Score one episode against its reference, uint8 (H, W, 3)."""


def load_reference(episode: Episode) -> Image:
    """The reference of an episode.

    Raises:
        RewardError: If the task has none.
        ImageError: If it cannot be read.
    """
    reference = episode.reference
    if reference is None:
        raise RewardError(
            f"task {episode.task.id!r} has no reference; use a dataset with references or a reward that needs none"
        )
    return reference


def likeness(untouched: float, edited: float) -> float:
    """How much nearer an edit came to the reference: L = max(−1, (D(I₀,ref) − D(I,ref)) / D(I₀,ref)).

    Where the source already is the reference (D(I₀,ref) = 0) nothing can be gained: L is 0 if it was
    left so and −1 if it was spoilt.

    Args:
        untouched: D(I₀, ref), 0..1.
        edited: D(I, ref), 0..1.

    Returns:
        −1 (at least twice as far as before) over 0 (no nearer) to 1 (the reference exactly).
    """
    if untouched == 0:
        return 0.0 if edited == 0 else -1.0
    return max(-1.0, (untouched - edited) / untouched)


def untouched_distance(episode: Episode, reference: Image) -> float:
    """D(I₀, ref) of an episode, computed once for all episodes of its task.

    Args:
        episode: The episode.
        reference: Its reference, uint8 (H, W, 3).
    """
    return episode.remember("untouched_distance", lambda: pixel_distance(episode.source, reference))


class PixelDistance(ReferenceReward):
    """The negative pixel distance to the reference: −D(I, ref), in −1..0."""

    name = "pixel-distance"
    range = (-1.0, 0.0)
    components = ("distance",)

    def compare(self, episode: Episode, reference: Image) -> RewardOutput:
        """−D(I, ref)."""
        distance = pixel_distance(episode.image, reference)
        return RewardOutput(-distance, {"distance": distance})


class Likeness(ReferenceReward):
    """How much nearer to the reference the edit came, relative to the untouched photo. See `likeness`."""

    name = "likeness"
    range = (-1.0, 1.0)
    components = ("likeness", "distance", "untouched_distance")

    def compare(self, episode: Episode, reference: Image) -> RewardOutput:
        """L of the episode."""
        untouched = untouched_distance(episode, reference)
        distance = pixel_distance(episode.image, reference)
        value = likeness(untouched, distance)
        return RewardOutput(value, {"likeness": value, "distance": distance, "untouched_distance": untouched})
