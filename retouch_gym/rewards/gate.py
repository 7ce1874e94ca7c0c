"""Conditions before quality: an answer that fails them is not looked at any further."""

from __future__ import annotations

import math
from collections.abc import Sequence

from retouch_gym.errors import ConfigurationError
from retouch_gym.rewards.base import Reward, RewardOutput, get_reward, score_batch, score_batch_async
from retouch_gym.rewards.combining import (
    Parts,
    check_names,
    merged,
    read_parts,
    score_concurrently,
    widest_scope,
)
from retouch_gym.tasks import Episode


class Gate(Reward):
    """Pays a reward to the episodes that reach every threshold, and a low value to the others.

    "Format before quality": the reward, often a judge that costs something, is not asked about an episode that fails a
    gate; those that pass are scored in one call. Components are ``"passed"`` (1 or 0) and the gates' values, and, where
    the reward was asked, its value, each under its name with its own components behind it. An episode that a gate or
    the reward cannot score has an `error` that names it.

    Args:
        reward: Reward of the episodes that pass, or its name.
        gates: Rewards or their names, with the lowest value that passes.
        failed: The value of an episode that fails a gate; None for the lowest of the reward's range.

    Raises:
        ConfigurationError: If there is no gate, a threshold is no finite number or cannot be reached or failed, a name
            is not known or occurs twice, or the value of a failed gate is not finite or above the reward's lowest.

    Example:
        >>> Gate("edit", {"format": 1.0}).range
        (-1.0, 1.0)
    """

    name = "gate"

    def __init__(
        self,
        reward: str | Reward = "edit",
        gates: Parts = (("format", 1.0),),
        failed: float | None = None,
    ) -> None:
        self.reward = get_reward(reward)
        self.gates = tuple(read_parts(gates, "Gate"))
        check_names("Gate", [part for part, _ in self.gates])
        check_names("Gate", [self.reward, *(part for part, _ in self.gates)])
        for part, threshold in self.gates:
            low, high = part.range
            if not low < threshold <= high:
                raise ConfigurationError(
                    f"Gate threshold {threshold} of {part.name!r} decides nothing: its values are {low}..{high}."
                )
        low, high = self.reward.range
        self.failed = low if failed is None else float(failed)
        if not math.isfinite(self.failed) or self.failed > low:
            raise ConfigurationError(
                f"Gate failed = {self.failed}: expected a finite number, at most {low}, the lowest value of "
                f"{self.reward.name!r}. Otherwise failing could pay."
            )
        self.range = (self.failed, high)
        self.components = ("passed", *(part.name for part, _ in self.gates))
        rewards = [self.reward, *(part for part, _ in self.gates)]
        self.needs_reference = any(part.needs_reference for part in rewards)
        self.splits = all(part.splits for part in rewards)
        self.scope = widest_scope(rewards)

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order; one call per gate, and one for those that pass.

        Raises:
            RewardError: If a gate or the reward cannot score its batch at all.
        """
        gated = self._gated([score_batch(part, episodes) for part, _ in self.gates])
        passed = self._passed(gated)
        asked = [episodes[index] for index in passed]
        return self._paid(gated, passed, score_batch(self.reward, asked) if asked else [])

    async def score_async(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order; all gates are asked at the same time.

        Raises:
            RewardError: If a gate or the reward cannot score its batch at all.
        """
        gated = self._gated(await score_concurrently([(part, episodes) for part, _ in self.gates]))
        passed = self._passed(gated)
        asked = [episodes[index] for index in passed]
        return self._paid(gated, passed, await score_batch_async(self.reward, asked) if asked else [])

    def _gated(self, scored: Sequence[Sequence[RewardOutput]]) -> list[RewardOutput]:
        """What the gates say of each episode; the value is 1 where all are passed, and 0 elsewhere."""
        return [self._gate(outputs) for outputs in zip(*scored, strict=True)]

    def _gate(self, outputs: Sequence[RewardOutput]) -> RewardOutput:
        components, details = merged([part for part, _ in self.gates], outputs)
        passed, problems = True, []
        for (part, threshold), output in zip(self.gates, outputs, strict=True):
            if output.value is None:
                problems.append(f"{part.name}: {output.error}")
            elif output.value < threshold:
                passed = False
        if problems:
            return RewardOutput(None, components, "; ".join(problems), details)
        return RewardOutput(float(passed), {"passed": float(passed), **components}, details=details)

    def _passed(self, gated: Sequence[RewardOutput]) -> list[int]:
        return [index for index, gate in enumerate(gated) if gate.value == 1.0]

    def _paid(
        self, gated: Sequence[RewardOutput], passed: Sequence[int], scored: Sequence[RewardOutput]
    ) -> list[RewardOutput]:
        outputs = dict(zip(passed, scored, strict=True))
        return [self._pay(gate, outputs.get(index)) for index, gate in enumerate(gated)]

    def _pay(self, gate: RewardOutput, output: RewardOutput | None) -> RewardOutput:
        if gate.value is None:
            return gate
        if output is None:
            return RewardOutput(self.failed, gate.components, details=gate.details)
        components, details = merged([self.reward], [output])
        error = None if output.error is None else f"{self.reward.name}: {output.error}"
        return RewardOutput(output.value, {**gate.components, **components}, error, {**gate.details, **details})
