"""Rewards made of other rewards: sum, mean, minimum, and a choice by the task's mode."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from retouch_gym.errors import ConfigurationError
from retouch_gym.rewards.base import Reward, RewardOutput, get_reward, score_batch
from retouch_gym.rewards.combining import (
    Combination,
    Parts,
    finite_range,
    read_parts,
    score_concurrently,
    to_unit,
    widest_scope,
)
from retouch_gym.tasks import Episode, Mode


class WeightedSum(Combination):
    """The weighted sum of other rewards. Its range is that of the sum of the parts.

    See `Combination` for components, details and errors.

    Args:
        parts: Rewards or their names, with weights; a negative weight makes a penalty, 0 only logs.

    Raises:
        ConfigurationError: If there is no part, a weight is no finite number, a name is not known or occurs
            twice.
    """

    name = "weighted"

    def __init__(self, parts: Parts = (("edit", 0.9), ("format", 0.1))) -> None:
        super().__init__(read_parts(parts, "WeightedSum"))
        ends = [sorted(weight * end if weight else 0.0 for end in part.range) for part, weight in self.parts]
        self.range = (sum(low for low, _ in ends), sum(high for _, high in ends))

    def combine(self, values: Sequence[float]) -> float:
        """See `Combination.combine`."""
        return sum(weight * value for (_, weight), value in zip(self.parts, values, strict=True))


class GeometricMean(Combination):
    """The weighted geometric mean Π uᵢ^(wᵢ / Σw) of other rewards, each brought to u = 0..1 by its range.

    One part at its lowest makes the whole 0, so that no part can make up for another: √(SC · PQ) of VIEScore (Ku
    et al. 2024) is this with two equal weights. See `Combination` for components, details and errors.

    Args:
        parts: Rewards or their names, with weights above 0.

    Raises:
        ConfigurationError: As for `WeightedSum`, and if a weight is not above 0 or a part's range is not finite.
    """

    name = "geometric-mean"
    range = (0.0, 1.0)

    def __init__(self, parts: Parts = (("edit", 1.0), ("format", 1.0))) -> None:
        super().__init__(read_parts(parts, "GeometricMean"))
        for part, weight in self.parts:
            finite_range(part, "GeometricMean")
            if weight <= 0:
                raise ConfigurationError(f"GeometricMean weight {weight} of {part.name!r} should be above 0.")

    def combine(self, values: Sequence[float]) -> float:
        """See `Combination.combine`."""
        units = [to_unit(value, part) for (part, _), value in zip(self.parts, values, strict=True)]
        if 0.0 in units:
            return 0.0
        weights = [weight for _, weight in self.parts]
        logs = sum(weight * math.log(unit) for weight, unit in zip(weights, units, strict=True))
        return min(math.exp(logs / sum(weights)), 1.0)


class Minimum(Combination):
    """The lowest of other rewards, each brought to 0..1 by its range.

    See `Combination` for components, details and errors.

    Args:
        parts: Rewards or their names.

    Raises:
        ConfigurationError: If there is no part, a name is not known or occurs twice, or a range is not finite.
    """

    name = "minimum"
    range = (0.0, 1.0)

    def __init__(self, parts: Sequence[str | Reward] = ("edit", "format")) -> None:
        if isinstance(parts, str):
            raise ConfigurationError(f"Minimum parts is {parts!r}; expected a list of rewards, ['edit', 'format'].")
        super().__init__([(get_reward(part), 1.0) for part in parts])
        for part, _ in self.parts:
            finite_range(part, "Minimum")

    def combine(self, values: Sequence[float]) -> float:
        """See `Combination.combine`."""
        return min(to_unit(value, part) for (part, _), value in zip(self.parts, values, strict=True))


class ByMode(Reward):
    """Pays each episode by what was asked of it: another reward for every mode of `retouch_gym.tasks.Mode`.

    Each part scores its episodes in one call; a part that serves several modes scores them together. The
    outputs are the parts' own, so the components differ from mode to mode. The range spans all parts.

    Args:
        edit: Reward or name of it for photos and requests.
        refine: For changes of an earlier edit.
        summary: For words about an edit.
        match: For photos and their goal.
        transfer: For photos and an example.

    Raises:
        ConfigurationError: If a name is not known.
    """

    name = "task"

    def __init__(
        self,
        edit: str | Reward = "edit",
        refine: str | Reward = "refine",
        summary: str | Reward = "summary",
        match: str | Reward = "likeness",
        transfer: str | Reward = "likeness",
    ) -> None:
        given: dict[Mode, str | Reward] = {
            "edit": edit,
            "refine": refine,
            "summary": summary,
            "match": match,
            "transfer": transfer,
        }
        named = {part: get_reward(part) for part in given.values() if isinstance(part, str)}
        self.parts: Mapping[Mode, Reward] = {
            mode: named[part] if isinstance(part, str) else part for mode, part in given.items()
        }
        self.range = (
            min(part.range[0] for part in self.parts.values()),
            max(part.range[1] for part in self.parts.values()),
        )
        self.needs_reference = any(part.needs_reference for part in self.parts.values())
        self.splits = all(part.splits for part in self.parts.values())
        self.scope = widest_scope(list(self.parts.values()))

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order; one call per part.

        Raises:
            RewardError: If a part cannot score its episodes at all.
        """
        batches = self._batches(episodes)
        scored = [score_batch(part, [episodes[index] for index in batch]) for part, batch in batches]
        return _in_order([batch for _, batch in batches], scored)

    async def score_async(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order; one call per part, all at the same time.

        Raises:
            RewardError: If a part cannot score its episodes at all.
        """
        batches = self._batches(episodes)
        scored = await score_concurrently([(part, [episodes[index] for index in batch]) for part, batch in batches])
        return _in_order([batch for _, batch in batches], scored)

    def _batches(self, episodes: Sequence[Episode]) -> list[tuple[Reward, list[int]]]:
        """Each part with the places of its episodes."""
        batches: dict[int, tuple[Reward, list[int]]] = {}
        for index, episode in enumerate(episodes):
            part = self.parts[episode.task.mode]
            batches.setdefault(id(part), (part, []))[1].append(index)
        return list(batches.values())


def _in_order(batches: Sequence[Sequence[int]], scored: Sequence[Sequence[RewardOutput]]) -> list[RewardOutput]:
    found = {
        index: output
        for batch, outputs in zip(batches, scored, strict=True)
        for index, output in zip(batch, outputs, strict=True)
    }
    return [found[index] for index in range(len(found))]
