"""Comparisons: which of two episodes of a task is better."""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from retouch_gym.errors import RewardError
from retouch_gym.tasks import Episode
from retouch_gym.types import JSON

Pair: TypeAlias = tuple[Episode, Episode]
"""Two episodes of the same task."""


@dataclass(frozen=True)
class Preference:
    """What came of one comparison.

    Args:
        first: Probability that the first episode is better, 0..1; 0.5 for a draw. None if there is no verdict.
        error: Why there is none. A failed judge prefers nobody: `first` is then None, never 0.5.
        details: Anything else that is worth keeping, JSON-able. See `RewardOutput.details`.
    """

    first: float | None
    error: str | None = None
    details: Mapping[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.first is None) == (self.error is None):
            raise ValueError(f"Preference needs either a verdict or an error, got {self.first!r} and {self.error!r}.")

    @property
    def valid(self) -> bool:
        """Whether there is a verdict."""
        return self.first is not None


class PairwiseReward(ABC):
    """Compares pairs of episodes in batches. A pair has the same verdict alone and in any batch.

    One failing pair yields a `Preference` with `error` and leaves its neighbours alone. A comparison is no reward by
    itself, as it has nothing to say about one episode; `retouch_gym.rewards.ranking.GroupRank` makes one of it.

    Attributes:
        name: Short name.
        symmetric: Whether swapping a pair always turns the verdict round, so that asking in both orders is wasted.
            Models that see one photo before the other are not.
        needs_reference: Whether an episode's task must have a reference.
    """

    name: str
    symmetric: bool = False
    needs_reference: bool = False

    @abstractmethod
    def compare(self, pairs: Sequence[Pair]) -> list[Preference]:
        """Compare each pair, in order.

        Raises:
            RewardError: If the whole batch cannot be compared.
        """

    async def compare_async(self, pairs: Sequence[Pair]) -> list[Preference]:
        """`compare` for callers with an event loop, which goes on meanwhile: by default in a thread.

        Raises:
            RewardError: If the whole batch cannot be compared.
        """
        return await asyncio.to_thread(self.compare, pairs)


def checked_preferences(judge: PairwiseReward, found: Sequence[Preference], count: int) -> list[Preference]:
    """What a judge returned for `count` pairs; a verdict that is no probability becomes an error.

    Raises:
        RewardError: If there is not one preference for each pair.
    """
    if len(found) != count:
        raise RewardError(f"Judge {judge.name!r} returned {len(found)} preferences for {count} pairs.")
    return [_probable(preference) for preference in found]


def compare_batch(judge: PairwiseReward, pairs: Sequence[Pair]) -> list[Preference]:
    """Compare pairs and check what comes back. See `checked_preferences`.

    Raises:
        RewardError: If the judge fails as a whole or returns the wrong number of preferences.
    """
    return checked_preferences(judge, judge.compare(pairs), len(pairs)) if pairs else []


async def compare_batch_async(judge: PairwiseReward, pairs: Sequence[Pair]) -> list[Preference]:
    """`compare_batch` for callers with an event loop.

    Raises:
        RewardError: If the judge fails as a whole or returns the wrong number of preferences.
    """
    return checked_preferences(judge, await judge.compare_async(pairs), len(pairs)) if pairs else []


def _probable(preference: Preference) -> Preference:
    if preference.first is None or (math.isfinite(preference.first) and 0 <= preference.first <= 1):
        return preference
    problem = f"the verdict is {preference.first}, expected a probability 0..1"
    return Preference(None, problem, preference.details)
