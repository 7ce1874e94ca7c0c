"""The reward protocol."""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from retouch_gym.errors import RewardError
from retouch_gym.resolve import build
from retouch_gym.tasks import Episode
from retouch_gym.types import JSON

Scope: TypeAlias = Literal["episode", "group"]

ROUNDING = 1e-6
"""How far a value may lie outside the range that its reward declares."""


@dataclass(frozen=True)
class RewardOutput:
    """The reward of one episode.

    Args:
        value: The scalar, inside the reward's `range`; None if it could not be scored (see `error`).
        components: Named parts of the scalar, for logging.
        error: Why there is no value. A failed judge never scores: `value` is then None, never 0.
        details: Anything else that is worth keeping, JSON-able: a judge's criteria and rationale, the attempts it
            took. The environments hand it on as ``info["reward_details"]``.
    """

    value: float | None
    components: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    details: Mapping[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.value is None) == (self.error is None):
            raise ValueError(f"RewardOutput needs either a value or an error, got {self.value!r} and {self.error!r}.")

    @property
    def valid(self) -> bool:
        """Whether there is a value."""
        return self.value is not None


class Reward(ABC):
    """Scores a batch of episodes. Deterministic rules and learned judges alike.

    Implementations are picklable and give an episode the same score alone and in any batch, in order.
    One failing item yields a `RewardOutput` with `error` and leaves its neighbours alone. Check one
    with `retouch_gym.testing.check_reward`.

    Attributes:
        name: Short name.
        range: Smallest and largest value.
        components: Names of the parts that every valid output carries.
        needs_reference: Whether an episode's task must have a reference.
        splits: Whether parts of a batch may be scored in several threads at once. Rules on pixels gain by it; a
            judge wants the whole batch.
        scope: ``"episode"`` if an episode's score depends on that episode alone; ``"group"`` if it depends on the
            other episodes of the same task in the batch too (rankings), so that a group has to be scored whole.
    """

    name: str
    range: tuple[float, float]
    components: tuple[str, ...] = ()
    needs_reference: bool = False
    splits: bool = False
    scope: Scope = "episode"

    @abstractmethod
    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order.

        Raises:
            RewardError: If the whole batch cannot be scored.
        """

    async def score_async(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """`score` for callers with an event loop, which goes on meanwhile: by default in a thread.

        Raises:
            RewardError: If the whole batch cannot be scored.
        """
        return await asyncio.to_thread(self.score, episodes)


REWARDS: Mapping[str, str] = {
    "pixel-distance": "retouch_gym.rewards.likeness:PixelDistance",
    "likeness": "retouch_gym.rewards.likeness:Likeness",
    "usefulness": "retouch_gym.rewards.usefulness:Usefulness",
    "edit": "retouch_gym.rewards.usefulness:EditReward",
    "refine": "retouch_gym.rewards.refine:RefineReward",
    "summary": "retouch_gym.rewards.summary:SummaryReward",
    "intent": "retouch_gym.rewards.intent:IntentReward",
    "format": "retouch_gym.rewards.format:FormatReward",
    "l1": "retouch_gym.rewards.quality:L1",
    "l2": "retouch_gym.rewards.quality:L2",
    "psnr": "retouch_gym.rewards.quality:PSNR",
    "ssim": "retouch_gym.rewards.quality:SSIM",
    "delta-e": "retouch_gym.rewards.quality:DeltaE",
    "histogram": "retouch_gym.rewards.quality:Histogram",
    "statistics": "retouch_gym.rewards.statistics:StatisticsReward",
    "weighted": "retouch_gym.rewards.combination:WeightedSum",
    "geometric-mean": "retouch_gym.rewards.combination:GeometricMean",
    "minimum": "retouch_gym.rewards.combination:Minimum",
    "gate": "retouch_gym.rewards.gate:Gate",
    "normalised": "retouch_gym.rewards.normalise:Normalised",
    "rank": "retouch_gym.rewards.ranking:GroupRank",
    "task": "retouch_gym.rewards.combination:ByMode",
}
"""Short names of the rewards that come with the package."""


def get_reward(reward: str | Reward, /, **kwargs: Any) -> Reward:
    """The reward of a short name, a ``"module:attribute"`` string, or itself.

    Args:
        reward: Name or object.
        kwargs: Options for the constructor of a named reward, for instance ``alpha=0.5`` for ``"edit"``.

    Raises:
        ConfigurationError: If the name is not known, or options come with a ready object.
    """
    found: Reward = build(reward, REWARDS, "reward", Reward, **kwargs)
    return found


def score_batch(reward: Reward, episodes: Sequence[Episode]) -> list[RewardOutput]:
    """Score episodes and check that there is one output for each.

    A value that is no finite number or lies outside the reward's range is none: it becomes an error.

    Raises:
        RewardError: If the reward fails as a whole or returns the wrong number of outputs.
    """
    return _checked(reward, reward.score(episodes), len(episodes))


async def score_batch_async(reward: Reward, episodes: Sequence[Episode]) -> list[RewardOutput]:
    """`score_batch` for callers with an event loop.

    Raises:
        RewardError: If the reward fails as a whole or returns the wrong number of outputs.
    """
    return _checked(reward, await reward.score_async(episodes), len(episodes))


def score_one(reward: Reward, episode: Episode) -> RewardOutput:
    """Score one episode, as a batch of one.

    Returns:
        A valid output: `value` is a finite number.

    Raises:
        RewardError: If the episode could not be scored. A failure is never replaced by a number.
    """
    output = score_batch(reward, [episode])[0]
    if output.error is not None:
        raise RewardError(f"Reward {reward.name!r} could not score task {episode.task.id!r}: {output.error}")
    return output


def prefixed(prefix: str, names: Iterable[str]) -> list[str]:
    """Names of a part's components in the output of a reward that is made of parts."""
    return [f"{prefix}.{name}" for name in names]


def _checked(reward: Reward, outputs: Sequence[RewardOutput], count: int) -> list[RewardOutput]:
    if len(outputs) != count:
        raise RewardError(f"Reward {reward.name!r} returned {len(outputs)} outputs for {count} episodes.")
    return [_in_range(output, reward.range) for output in outputs]


def _in_range(output: RewardOutput, ends: tuple[float, float]) -> RewardOutput:
    low, high = ends
    if output.value is None:
        return output
    if not math.isfinite(output.value):
        problem = f"the value is {output.value}, expected a finite number"
    elif not low - ROUNDING <= output.value <= high + ROUNDING:
        problem = f"the value {output.value} is outside its range {low}..{high}"
    else:
        return output
    return RewardOutput(None, output.components, problem, output.details)
