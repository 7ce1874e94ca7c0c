"""The reward of a photo without evident faults, judged without a reference."""

from __future__ import annotations

from collections.abc import Sequence

from retouch_gym.errors import ImageError
from retouch_gym.metrics import PhotoStatistics, photo_statistics
from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.tasks import Episode

CLIPPED = (0.15, 0.4)
"""Share of clipped values that costs nothing, and from which on it counts in full."""

CAST = (15.0, 40.0)
"""Distance of the mean colour from grey, in a*b*, that costs nothing, and from which on it counts in full."""

CONTRAST = (14.0, 28.0)
"""Standard deviations of L* between which contrast costs nothing; `_REACH` outside it counts in full."""

_REACH = 14.0


class StatisticsReward(Reward):
    """Minus the mean of three faults, each 0..1: clipped values, a colour cast, too little or too much contrast.

    The numbers are those of `retouch_gym.metrics.PhotoStatistics`. What costs nothing is what experts leave behind:
    of twelve photos by expert C of MIT-Adobe FiveK all have at most 15 % of their values clipped (mostly to black),
    eleven a mean colour within 15 of grey, and eleven a contrast of 14..28. From there the cost rises linearly.

    A guard rail and no judge of taste: it sees neither the request nor the subject, and a sunset is meant to be
    warm. It tells spoilt photos from sound ones and says nothing between two sound ones. Use it with a small
    weight beside a reward that knows what was asked for.
    """

    name = "statistics"
    range = (-1.0, 0.0)
    components = ("clipping", "cast", "contrast")
    splits = True

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order."""
        return [self._score_one(episode) for episode in episodes]

    def _score_one(self, episode: Episode) -> RewardOutput:
        try:
            faults = _faults(photo_statistics(episode.image))
        except ImageError as error:
            return RewardOutput(None, error=f"task {episode.task.id!r}: {error}")
        return RewardOutput(0.0 - sum(faults) / 3, dict(zip(self.components, faults, strict=True)))


def _faults(found: PhotoStatistics) -> tuple[float, float, float]:
    low, high = CONTRAST
    outside = max(low - found.contrast, found.contrast - high)
    clipped = found.clipped_low + found.clipped_high
    return _rise(clipped, *CLIPPED), _rise(found.cast, *CAST), _rise(outside, 0.0, _REACH)


def _rise(value: float, free: float, full: float) -> float:
    return min(max((value - free) / (full - free), 0.0), 1.0)
