"""Which groups an iteration learns from: those it asked for, or only such as teach something (dynamic sampling)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from retouch_agents.rllib.rollouts import GroupRequest, Rollout, SampleResult, TaskOrder

LEAST_SPREAD = 1e-6
"""Rewards of a group that lie closer together than this agree: the difference is rounding."""


@dataclass(frozen=True)
class Drawn:
    """The answers of an iteration.

    Args:
        sampled: All of them, ordered by group and member.
        kept: Those to learn from.
        asked: Number of groups that were asked for.
        advance: How far the order of tasks has moved.
    """

    sampled: SampleResult
    kept: Sequence[Rollout]
    asked: int
    advance: int

    @property
    def lost(self) -> int:
        """Number of groups that nobody answered."""
        return self.asked - len({rollout.group for rollout in self.sampled.rollouts} | set(self.sampled.failures))

    @property
    def dropped(self) -> int:
        """Number of answered groups that are not learned from."""
        return len({r.group for r in self.sampled.rollouts}) - len({r.group for r in self.kept})


def draw(
    order: TaskOrder,
    start: int,
    count: int,
    sample: Callable[[Sequence[GroupRequest]], SampleResult],
    *,
    extra_rounds: int = 0,
) -> Drawn:
    """Sample `count` groups; with extra rounds, replace those that teach nothing by the next tasks in the order.

    A group teaches nothing if the rewards of its valid answers agree (over the group's baseline, every advantage is
    0), or if it has none. Which tasks are drawn depends on the order, the place in it and the answers, which are
    seeded by their place: so on nothing but seed and position.
    DAPO (arXiv 2503.14476, section 3.2) draws until the batch is full; the bound keeps a solved task set from hanging.

    Args:
        order: The order of tasks.
        start: Place in it.
        count: How many groups are wanted.
        sample: Has groups answered.
        extra_rounds: Most rounds after the first; 0 keeps every group, whether it teaches or not.

    Returns:
        The answers. With extra rounds, `kept` has only groups that teach, at most `count` of them.
    """
    parts: list[SampleResult] = []
    asked = advance = 0
    missing = count
    for _ in range(1 + extra_rounds):
        requests = order.requests(start + advance, missing)
        found = sample(requests)
        parts.append(found)
        asked += len(requests)
        if not found.rollouts and not found.failures:
            break  # every runner is down: the same groups are drawn when one is back
        advance += len(requests)
        missing = count - len(informative_groups([rollout for part in parts for rollout in part.rollouts]))
        if missing <= 0:
            break
    sampled = SampleResult.merged(parts)
    if not extra_rounds:
        return Drawn(sampled, sampled.rollouts, asked, advance)
    teaching = informative_groups(sampled.rollouts)
    return Drawn(sampled, [rollout for rollout in sampled.rollouts if rollout.group in teaching], asked, advance)


def informative_groups(rollouts: Sequence[Rollout]) -> set[int]:
    """Groups whose valid answers differ in reward."""
    rewards: dict[int, list[float]] = {}
    for rollout in rollouts:
        if rollout.valid:
            rewards.setdefault(rollout.group, []).append(rollout.reward)
    return {group for group, values in rewards.items() if np.ptp(values) > LEAST_SPREAD}
