"""From rewards to what is learned: advantages, and with a critic returns, for every answer of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retouch_agents.rllib.advantages import ADVANTAGES, AdvantageName, whitened
from retouch_agents.rllib.objective import Objective
from retouch_agents.rllib.rollouts import Rollout, episode_numbers
from retouch_agents.rllib.turns import gae


@dataclass(frozen=True, eq=False)
class Lesson:
    """Answers and what is to be learned from them.

    Args:
        rollouts: N answers.
        advantages: float32 (N,).
        returns: What the values should have been, float32 (N,); 0 without a critic.
    """

    rollouts: Sequence[Rollout]
    advantages: NDArray[np.float32]
    returns: NDArray[np.float32]

    def part(self, rows: NDArray[np.int64]) -> Lesson:
        """Some of the answers."""
        return Lesson([self.rollouts[row] for row in rows], self.advantages[rows], self.returns[rows])

    def explained_variance(self) -> float:
        """1 − Var(R − V) / Var(R) over valid answers: 1 for a critic that knows, 0 for one that says a constant."""
        valid = np.array([rollout.valid for rollout in self.rollouts], dtype=np.bool_)
        returns = self.returns[valid].astype(np.float64)
        values = np.array([rollout.value for rollout in self.rollouts])[valid]
        spread = float(returns.var()) if valid.any() else 0.0
        return 1.0 - float((returns - values).var()) / spread if spread > 0 else 0.0


def lesson_of(rollouts: Sequence[Rollout], objective: Objective) -> Lesson:
    """What an objective makes of whole episodes.

    Args:
        rollouts: N answers; with a critic each with its value.
        objective: Which advantage.
    """
    if objective.critic:
        return _expected(rollouts, objective)
    assert objective.advantage != "gae"
    advantages = compared(rollouts, objective.advantage)
    return Lesson(rollouts, advantages, np.zeros(len(rollouts), dtype=np.float32))


def compared(rollouts: Sequence[Rollout], advantage: AdvantageName) -> NDArray[np.float32]:
    """Advantages of episodes over each other, float32 (N,): that of an episode is that of all its answers."""
    if not rollouts:
        return np.zeros(0, dtype=np.float32)
    numbers = episode_numbers(rollouts)
    firsts = [rollouts[row] for row in np.unique(numbers, return_index=True)[1]]
    found = ADVANTAGES[advantage](
        np.array([rollout.reward for rollout in firsts], dtype=np.float32),
        np.array([rollout.group for rollout in firsts], dtype=np.int64),
        np.array([rollout.valid for rollout in firsts], dtype=np.bool_),
    )
    return found[numbers]


def _expected(rollouts: Sequence[Rollout], objective: Objective) -> Lesson:
    """Advantages over what the critic expected, from turn to turn, whitened over the batch as PPO's usually are."""
    rows = episode_numbers(rollouts), np.array([rollout.turn for rollout in rollouts], dtype=np.int64)
    shape = (int(rows[0].max()) + 1, int(rows[1].max()) + 1)
    rewards, values = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    over, real = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
    rewards[rows] = [one.reward if one.step_reward is None else one.step_reward for one in rollouts]
    values[rows] = [one.value for one in rollouts]
    # The turns that are left are part of what is shown, so that running out of them is an end like any other.
    over[rows] = [one.last for one in rollouts]
    real[rows] = [one.valid for one in rollouts]
    following = np.concatenate([values[:, 1:], np.zeros((shape[0], 1), dtype=np.float32)], axis=1)
    advantages, returns = gae(
        rewards, values, following, over, np.zeros_like(over), real, gamma=objective.gamma, lam=objective.lam
    )
    return Lesson(rollouts, whitened(advantages[rows], real[rows]), returns[rows])
