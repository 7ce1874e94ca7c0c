"""EditReward: a vision-language model with a head that rates an edit by a mean and an uncertainty in each dimension."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from retouch_gym.errors import ConfigurationError, RewardError
from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.tasks import Episode
from retouch_gym.types import JSON
from retouch_reward_models.cases import Case, case_of
from retouch_reward_models.errors import BackendError

DIMENSIONS = ("instruction", "quality")
"""What the published models rate: how the instruction was followed, and how the photo looks."""

Pooling = Literal["mean", "min", "sum"]
"""How the dimensions' means become one number."""


@dataclass(frozen=True)
class Rating:
    """What the model says of one edit.

    Args:
        means: Mean rating in each dimension, any finite number; empty where there is an error.
        log_variances: The head's other output in each dimension: how unsure it is, as a logarithm.
        error: Why there is no rating; None if there is.
        attempts: How often it was asked for.
        seconds: Time that it took.
    """

    means: Mapping[str, float] = field(default_factory=dict)
    log_variances: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    attempts: int = 1
    seconds: float = 0.0


class Rater(ABC):
    """Rates edits in batches. One failure never spoils its neighbours; implementations are picklable.

    Attributes:
        name: Model and version.
        dimensions: What every rating holds.
    """

    name: str
    dimensions: tuple[str, ...]

    @abstractmethod
    def rate(self, cases: Sequence[Case]) -> list[Rating]:
        """Rate each case, which has one candidate, in order.

        Raises:
            BackendError: If the model cannot be used at all.
        """


class TigerEditReward(Reward):
    r"""EditReward (TIGER-Lab, arXiv 2509.26346) as a reward: 10 · σ((m − center) / width), 0..10.

    m is the mean, minimum or sum of the dimensions' **means**. The head's second output, the uncertainty, has no
    influence on the value: it is reported in ``details["log_variances"]`` and nowhere else. The logistic function
    bounds what the model leaves unbounded and keeps the order; a benchmark's accuracy is the same with and without.

    Known from the public repository TIGER-AI-Lab/EditReward: the backbone is Qwen2.5-VL or MiMo-VL; the head's two
    outputs are trained with a loss over a normal distribution and the first, the mean, is what is reported as the
    score; the released "multi-head" models rate two dimensions, instruction following and visual quality, each with a
    question and a head of its own, and average them (``pooling_strategy: mean``). The second output enters its code as
    the logarithm of a standard deviation; it is called log-variance here, as nothing depends on which. Assumed:
    `center` and `width`, from the annotators' scale of 1..4.

    Components: ``mean`` (m, unbounded) and one for each dimension, its mean.

    Args:
        rater: The model, from a folder (`retouch_reward_models.judges.edit_reward_model.EditRewardModel`) or behind an
            endpoint (`retouch_reward_models.judges.edit_reward_endpoint.EditRewardEndpoint`).
        pooling: How the dimensions' means become m.
        center: The m that is worth 5.
        width: How much further up m is worth 7.3.

    Raises:
        ConfigurationError: If the width is not above 0 or the pooling is not known.
    """

    name = "editreward"
    range = (0.0, 10.0)

    def __init__(self, rater: Rater, *, pooling: Pooling = "mean", center: float = 2.5, width: float = 1.0) -> None:
        if not width > 0:
            raise ConfigurationError(f"width is {width}, expected above 0.")
        if pooling not in ("mean", "min", "sum"):
            raise ConfigurationError(f"pooling is {pooling!r}, expected 'mean', 'min' or 'sum'.")
        self.rater = rater
        self.pooling = pooling
        self.center = center
        self.width = width
        self.components = ("mean", *rater.dimensions)

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """See `Reward.score`."""
        try:
            ratings = self.rater.rate([case_of(episode) for episode in episodes])
        except BackendError as error:
            raise RewardError(f"Reward {self.name!r} cannot reach its model: {error}") from error
        return [self._output(rating) for rating in ratings]

    def _output(self, rating: Rating) -> RewardOutput:
        spent: dict[str, JSON] = {"attempts": rating.attempts, "seconds": rating.seconds}
        if rating.error is not None:
            return RewardOutput(None, error=rating.error, details=spent)
        means = [rating.means[name] for name in self.rater.dimensions]
        pooled = {"mean": sum(means) / len(means), "min": min(means), "sum": sum(means)}[self.pooling]
        if not math.isfinite(pooled):
            return RewardOutput(None, error=f"the ratings are {means}, expected finite numbers", details=spent)
        # Reported where JSON can hold it; nothing else depends on it.
        unsure = {name: number if math.isfinite(number) else None for name, number in rating.log_variances.items()}
        details: dict[str, JSON] = {"model": self.rater.name, "log_variances": unsure, **spent}
        value = self.range[1] * logistic((pooled - self.center) / self.width)
        return RewardOutput(value, {"mean": pooled, **rating.means}, details=details)


def logistic(x: float) -> float:
    """1 / (1 + e^−x), without overflow."""
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    small = math.exp(x)
    return small / (1.0 + small)
