"""Several samples of one judge, averaged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retouch_gym.errors import ConfigurationError
from retouch_gym.rewards.base import RewardOutput
from retouch_gym.types import JSON
from retouch_reward_models.cases import Case
from retouch_reward_models.judges.base import CaseJudge, Sampling, check_positive, content_seed


class Ensemble(CaseJudge):
    """The mean of several samples of a judge, with their spread.

    All samples of all cases are asked for at once. Their seeds come from the case's content, so an episode gets the
    same samples alone and in any batch, as far as the backend honours seeds.

    Value and components are means over the valid samples (EditScore's ``average_last``: the value is the mean of the
    samples' values, not a function of the mean components). Details: ``spread`` (standard deviation of the valid
    values with n − 1; 0 for a single one), ``values`` (None for an invalid sample), ``valid``, ``samples``,
    ``problems`` (of the invalid ones), ``attempts`` and ``seconds`` over all, ``rationale`` of the first valid sample.

    Args:
        judge: What is sampled.
        samples: How many samples of each case.
        temperature: Of the sampling; above 0, or they would all be the same.
        quorum: Fewest valid samples for a value; by default more than half of them. Below it the output is an error.
        seed: Changes every sample's seed.

    Raises:
        ConfigurationError: If samples < 1, temperature ≤ 0, or the quorum is not in 1..samples.
    """

    def __init__(
        self, judge: CaseJudge, samples: int = 4, *, temperature: float = 0.7, quorum: int | None = None, seed: int = 0
    ) -> None:
        self.samples = check_positive("samples", samples)
        if temperature <= 0:
            raise ConfigurationError(
                f"temperature is {temperature}, expected above 0: greedy samples are all the same."
            )
        self.quorum = samples // 2 + 1 if quorum is None else quorum
        if not 1 <= self.quorum <= samples:
            raise ConfigurationError(f"quorum is {quorum}, expected 1..{samples}, the number of samples.")
        self.of = judge
        self.temperature = temperature
        self.seed = seed
        self.name = f"{judge.name}-x{samples}"
        self.range = judge.range
        self.components = judge.components

    def judge(self, cases: Sequence[Case], samplings: Sequence[Sampling] | None = None) -> list[RewardOutput]:
        """See `CaseJudge.judge`. A sampling's temperature replaces the ensemble's; its seed shifts the samples'."""
        bases = samplings if samplings is not None else [Sampling(self.temperature, self.seed)] * len(cases)
        drawn = [draw for case, base in zip(cases, bases, strict=True) for draw in self._draws(case, base)]
        outputs = self.of.judge([case for case in cases for _ in range(self.samples)], drawn)
        groups = (outputs[start : start + self.samples] for start in range(0, len(outputs), self.samples))
        return [self._mean(group) for group in groups]

    def _draws(self, case: Case, base: Sampling) -> list[Sampling]:
        first = (base.seed or 0) * self.samples
        return [Sampling(base.temperature, content_seed(case, first + number)) for number in range(self.samples)]

    def _mean(self, outputs: Sequence[RewardOutput]) -> RewardOutput:
        valid = [output for output in outputs if output.value is not None]
        values = [output.value for output in outputs]
        known = [value for value in values if value is not None]
        problems = [output.error for output in outputs if output.error is not None]
        details: dict[str, JSON] = {
            "samples": self.samples,
            "valid": len(known),
            "values": values,
            "problems": problems,
            "attempts": sum(_number(output, "attempts") for output in outputs),
            "seconds": sum(_number(output, "seconds") for output in outputs),
        }
        if len(known) < self.quorum:
            error = f"{len(known)} of {self.samples} samples are valid, {self.quorum} are needed; first: {problems[0]}"
            return RewardOutput(None, error=error, details=details)
        low, high = self.range
        # A mean of equal numbers can round past them by one unit in the last place.
        mean = float(np.clip(np.mean(known), low, high))
        shared = set.intersection(*(set(output.components) for output in valid))
        components = {
            name: float(np.mean([output.components[name] for output in valid]))
            for name in valid[0].components
            if name in shared
        }
        details["spread"] = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
        details["rationale"] = valid[0].details.get("rationale")
        return RewardOutput(mean, components, details=details)


def _number(output: RewardOutput, name: str) -> float:
    found = output.details.get(name, 0)
    return found if isinstance(found, int | float) else 0.0
