"""Rewards made of other rewards: a weighted sum, and a choice by the task's mode."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from retouch_gym.errors import ConfigurationError
from retouch_gym.rewards.base import Reward, RewardOutput, get_reward, score_batch
from retouch_gym.tasks import Episode, Mode

Parts = Mapping[str, float] | Sequence[tuple[str | Reward, float]]
"""Rewards and their weights, for instance ``{"edit": 0.9, "format": 0.1}`` or ``[(judge, 1), ("format", 0.1)]``."""


class WeightedSum(Reward):
    """The weighted sum of other rewards.

    Each part scores the whole batch in one call. Components are the value of each part under its name and the
    part's own components behind it (``"edit"``, ``"edit.likeness"``); none of them is weighted. The range is
    that of the sum of the parts. An episode that any part cannot score has an `error` that names the part.

    Args:
        parts: Rewards or their names, with weights; a negative weight makes a penalty, 0 only logs.

    Raises:
        ConfigurationError: If there is no part, a weight is no finite number, a name is not known or occurs
            twice.
    """

    name = "weighted"

    def __init__(self, parts: Parts = (("edit", 0.9), ("format", 0.1))) -> None:
        self.parts = _read(parts)
        names = [part.name for part, _ in self.parts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not names:
            problem = f"two parts are named {twice[0]!r}" if twice else "there are no parts"
            raise ConfigurationError(f"WeightedSum: {problem}; give each reward once with its weight.")
        ends = [sorted(weight * end for end in part.range) for part, weight in self.parts]
        self.range = (sum(low for low, _ in ends), sum(high for _, high in ends))
        self.components = tuple(
            name for part, _ in self.parts for name in (part.name, *_prefixed(part.name, part.components))
        )
        self.needs_reference = any(part.needs_reference for part, _ in self.parts)

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order; one call per part.

        Raises:
            RewardError: If a part cannot score the batch at all.
        """
        scored = [score_batch(part, episodes) for part, _ in self.parts]
        return [self._combine(outputs) for outputs in zip(*scored, strict=True)]

    def _combine(self, outputs: Sequence[RewardOutput]) -> RewardOutput:
        total = 0.0
        components: dict[str, float] = {}
        problems = []
        for (part, weight), output in zip(self.parts, outputs, strict=True):
            if output.value is None:
                problems.append(f"{part.name}: {output.error}")
                continue
            total += weight * output.value
            components[part.name] = output.value
            components.update(zip(_prefixed(part.name, output.components), output.components.values(), strict=True))
        return RewardOutput(None if problems else total, components, "; ".join(problems) or None)


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

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order; one call per part.

        Raises:
            RewardError: If a part cannot score its episodes at all.
        """
        batches: dict[int, list[int]] = {}
        for index, episode in enumerate(episodes):
            batches.setdefault(id(self.parts[episode.task.mode]), []).append(index)
        outputs: dict[int, RewardOutput] = {}
        for batch in batches.values():
            part = self.parts[episodes[batch[0]].task.mode]
            outputs.update(zip(batch, score_batch(part, [episodes[index] for index in batch]), strict=True))
        return [outputs[index] for index in range(len(episodes))]


def _prefixed(prefix: str, names: Iterable[str]) -> list[str]:
    return [f"{prefix}.{name}" for name in names]


def _read(parts: Parts) -> tuple[tuple[Reward, float], ...]:
    pairs = parts.items() if isinstance(parts, Mapping) else parts
    read = []
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2:
            raise ConfigurationError(f"WeightedSum part {pair!r} should be a reward and its weight, ('edit', 0.9).")
        reward, weight = pair
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise ConfigurationError(f"WeightedSum weight {weight!r} of {reward!r} should be a finite number.")
        read.append((get_reward(reward), float(weight)))
    return tuple(read)
