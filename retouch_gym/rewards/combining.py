"""What rewards that are made of other rewards have in common."""

from __future__ import annotations

import asyncio
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from retouch_gym.errors import ConfigurationError
from retouch_gym.rewards.base import Reward, RewardOutput, Scope, get_reward, prefixed, score_batch, score_batch_async
from retouch_gym.tasks import Episode
from retouch_gym.types import JSON

Parts: TypeAlias = Mapping[str, float] | Sequence[tuple[str | Reward, float]]
"""Rewards and their weights, for instance ``{"edit": 0.9, "format": 0.1}`` or ``[(judge, 1), ("format", 0.1)]``."""


class Combination(Reward):
    """Makes one value of the values of several rewards.

    Each part scores the whole batch in one call; `score_async` asks the parts at the same time. Components are the
    value of each part under its name and the part's own components behind it (``"edit"``, ``"edit.likeness"``), as
    the parts gave them. The details of a part are kept under its name. An episode that any part cannot score has an
    `error` that names the part.

    Args:
        parts: The rewards and a number for each, usually its weight.

    Raises:
        ConfigurationError: If there is no part or two have the same name.
    """

    def __init__(self, parts: Sequence[tuple[Reward, float]]) -> None:
        self.parts = tuple(parts)
        rewards = [part for part, _ in self.parts]
        check_names(type(self).__name__, rewards)
        self.components = tuple(name for part in rewards for name in (part.name, *prefixed(part.name, part.components)))
        self.needs_reference = any(part.needs_reference for part in rewards)
        self.splits = all(part.splits for part in rewards)
        self.scope = widest_scope(rewards)

    @abstractmethod
    def combine(self, values: Sequence[float]) -> float:
        """One value of the parts' values, which lie in the parts' ranges, in the order of `parts`."""

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order; one call per part.

        Raises:
            RewardError: If a part cannot score the batch at all.
        """
        return self._combined([score_batch(part, episodes) for part, _ in self.parts])

    async def score_async(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order; one call per part, all at the same time.

        Raises:
            RewardError: If a part cannot score the batch at all.
        """
        return self._combined(await score_concurrently([(part, episodes) for part, _ in self.parts]))

    def _combined(self, scored: Sequence[Sequence[RewardOutput]]) -> list[RewardOutput]:
        return [self._combine(outputs) for outputs in zip(*scored, strict=True)]

    def _combine(self, outputs: Sequence[RewardOutput]) -> RewardOutput:
        rewards = [part for part, _ in self.parts]
        components, details = merged(rewards, outputs)
        problems = [
            f"{part.name}: {output.error}" for part, output in zip(rewards, outputs, strict=True) if not output.valid
        ]
        values = [output.value for output in outputs if output.value is not None]
        value = None if problems else self.combine(values)
        return RewardOutput(value, components, "; ".join(problems) or None, details)


async def score_concurrently(asked: Sequence[tuple[Reward, Sequence[Episode]]]) -> list[list[RewardOutput]]:
    """What each reward says of its episodes, all asked at the same time. If one fails, the others are called off.

    Raises:
        RewardError: If a reward cannot score its episodes at all.
    """
    tasks = [asyncio.ensure_future(score_batch_async(reward, episodes)) for reward, episodes in asked]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def merged(rewards: Sequence[Reward], outputs: Sequence[RewardOutput]) -> tuple[dict[str, float], dict[str, JSON]]:
    """Components and details of the parts, each under its part's name."""
    components: dict[str, float] = {}
    details: dict[str, JSON] = {}
    for part, output in zip(rewards, outputs, strict=True):
        if output.value is not None:
            components[part.name] = output.value
            components.update(zip(prefixed(part.name, output.components), output.components.values(), strict=True))
        if output.details:
            details[part.name] = dict(output.details)
    return components, details


def read_parts(parts: Parts, owner: str) -> list[tuple[Reward, float]]:
    """Rewards and the number that comes with each.

    Args:
        parts: As given.
        owner: Whose parts, for messages.

    Raises:
        ConfigurationError: If one is no pair of a reward and a finite number, or a name is not known.
    """
    read = []
    for pair in parts.items() if isinstance(parts, Mapping) else parts:
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise ConfigurationError(f"{owner} part {pair!r} should be a reward and its weight, ('edit', 0.9).")
        reward, weight = pair
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise ConfigurationError(f"{owner} weight {weight!r} of {reward!r} should be a finite number.")
        read.append((get_reward(reward), float(weight)))
    return read


def check_names(owner: str, rewards: Sequence[Reward]) -> None:
    """Refuse no parts, and parts that could not be told apart.

    Raises:
        ConfigurationError: Naming the part.
    """
    names = [reward.name for reward in rewards]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        problem = f"two parts are named {twice[0]!r}" if twice else "there are no parts"
        raise ConfigurationError(f"{owner}: {problem}; give each reward once with its weight.")


def widest_scope(rewards: Sequence[Reward]) -> Scope:
    """``"group"`` if any of the rewards has to see groups whole."""
    return "group" if any(reward.scope == "group" for reward in rewards) else "episode"


def finite_range(reward: Reward, owner: str) -> tuple[float, float]:
    """The range that a reward declares.

    Args:
        reward: The reward.
        owner: What needs it, for the message.

    Raises:
        ConfigurationError: If it has no two different, finite ends.
    """
    low, high = reward.range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigurationError(
            f"{owner} needs a reward with a finite range; {reward.name!r} declares {low}..{high}. "
            "Use WeightedSum, or give the reward a bounded form."
        )
    return low, high


def to_unit(value: float, reward: Reward) -> float:
    """A value of a reward with a finite range, 0 at its lowest and 1 at its highest."""
    low, high = reward.range
    return min(max((value - low) / (high - low), 0.0), 1.0)
