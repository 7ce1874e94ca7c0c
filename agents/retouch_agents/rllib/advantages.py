"""Advantages as pure functions of the rewards: what an answer is worth over a baseline. No RLlib in here.

All take the same three arrays, so that an algorithm is one name in `ADVANTAGES`:

    rewards: One reward per answer, (N,). Values of invalid answers are never read.
    groups: Which prompt each answer belongs to, int (N,), in any order.
    valid: False where a reward could not be computed, (N,). All valid if None.

and return float32 (N,): 0 for an invalid answer, and for one that has nothing to be compared with. Deviations are of
the population (divided by n, as NumPy does), taken over valid answers. ε is small against rewards in [−1, 1] and keeps
rewards that agree up to rounding at an advantage of about 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

EPSILON = 1e-4

AdvantageName = Literal["grpo", "dr_grpo", "grpo_batch", "rloo", "reinforce++", "reinforce++_baseline"]


class Advantage(Protocol):
    """From rewards, groups and validity to advantages; see the module."""

    def __call__(
        self, rewards: NDArray[np.float32], groups: NDArray[np.int64], valid: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Advantages, float32 (N,)."""
        ...


def grpo(
    rewards: NDArray[np.float32],
    groups: NDArray[np.int64],
    valid: NDArray[np.bool_] | None = None,
    *,
    epsilon: float = EPSILON,
) -> NDArray[np.float32]:
    """A_i = (r_i − mean_g) / (std_g + ε): the group is baseline and yardstick. GRPO, arXiv 2402.03300, section 4.1.2.

    Raises:
        ValueError: If a valid reward is not finite.
    """
    advantages = np.zeros(len(rewards), dtype=np.float64)
    for members, values in _groups(rewards, groups, valid):
        advantages[members] = (values - values.mean()) / (values.std() + epsilon)
    return advantages.astype(np.float32)


def dr_grpo(
    rewards: NDArray[np.float32], groups: NDArray[np.int64], valid: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """A_i = r_i − mean_g: without the deviation, which favours tasks that are nearly solved or nearly hopeless.

    Dr. GRPO, arXiv 2503.20783, section 3.2.

    Raises:
        ValueError: If a valid reward is not finite.
    """
    advantages = np.zeros(len(rewards), dtype=np.float64)
    for members, values in _groups(rewards, groups, valid):
        advantages[members] = values - values.mean()
    return advantages.astype(np.float32)


def grpo_batch(
    rewards: NDArray[np.float32],
    groups: NDArray[np.int64],
    valid: NDArray[np.bool_] | None = None,
    *,
    epsilon: float = EPSILON,
) -> NDArray[np.float32]:
    """A_i = (r_i − mean_g) / (std of all rewards + ε): baseline of the group, yardstick of the batch.

    Lite PPO, arXiv 2508.08221.

    Raises:
        ValueError: If a valid reward is not finite.
    """
    usable = _usable(rewards, valid)
    deviation = rewards[usable].astype(np.float64).std() if usable.any() else 0.0
    return (dr_grpo(rewards, groups, valid) / (deviation + epsilon)).astype(np.float32)


def rloo(
    rewards: NDArray[np.float32], groups: NDArray[np.int64], valid: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """A_i = r_i − (1/(n − 1)) Σ_{j≠i} r_j: the baseline leaves the answer itself out and so is unbiased.

    n is the number of valid answers of the group. RLOO, arXiv 2402.14740.

    Raises:
        ValueError: If a valid reward is not finite.
    """
    advantages = np.zeros(len(rewards), dtype=np.float64)
    for members, values in _groups(rewards, groups, valid):
        advantages[members] = values - (values.sum() - values) / (len(values) - 1)
    return advantages.astype(np.float32)


def reinforce_pp(
    rewards: NDArray[np.float32],
    groups: NDArray[np.int64],
    valid: NDArray[np.bool_] | None = None,
    *,
    epsilon: float = EPSILON,
) -> NDArray[np.float32]:
    """A_i = (r_i − mean) / (std + ε) over the whole batch; groups are not looked at.

    REINFORCE++, arXiv 2501.03262. Its KL penalty is ours in the loss, not in the reward.

    Raises:
        ValueError: If a valid reward is not finite.
    """
    return whitened(rewards, _usable(rewards, valid), epsilon)


def reinforce_pp_baseline(
    rewards: NDArray[np.float32],
    groups: NDArray[np.int64],
    valid: NDArray[np.bool_] | None = None,
    *,
    epsilon: float = EPSILON,
) -> NDArray[np.float32]:
    """A_i = (b_i − mean_b) / (std_b + ε) over the batch, with b_i = r_i − mean_g.

    REINFORCE++-baseline, arXiv 2501.03262.

    Raises:
        ValueError: If a valid reward is not finite.
    """
    return whitened(dr_grpo(rewards, groups, valid), _usable(rewards, valid), epsilon)


ADVANTAGES: Mapping[AdvantageName, Advantage] = MappingProxyType(
    {
        "grpo": grpo,
        "dr_grpo": dr_grpo,
        "grpo_batch": grpo_batch,
        "rloo": rloo,
        "reinforce++": reinforce_pp,
        "reinforce++_baseline": reinforce_pp_baseline,
    }
)
"""Advantages by the name that a configuration calls them."""


def _usable(rewards: NDArray[np.float32], valid: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    usable = np.ones(len(rewards), dtype=np.bool_) if valid is None else valid.astype(np.bool_)
    if not np.isfinite(rewards[usable]).all():
        raise ValueError("A valid reward is not finite; mark answers that could not be scored as invalid instead.")
    return usable


def _groups(
    rewards: NDArray[np.float32], groups: NDArray[np.int64], valid: NDArray[np.bool_] | None
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.float64]]]:
    """The members of every group of at least two valid answers, and their rewards."""
    usable = _usable(rewards, valid)
    for group in np.unique(groups):
        members = (groups == group) & usable
        if members.sum() > 1:
            yield members, rewards[members].astype(np.float64)


def whitened(values: NDArray[np.float32], usable: NDArray[np.bool_], epsilon: float = EPSILON) -> NDArray[np.float32]:
    """(v − mean) / (std + ε) over the usable ones, 0 for the others and where there is only one, float32 (N,)."""
    found = np.zeros(len(values), dtype=np.float64)
    if usable.sum() > 1:
        known = values[usable].astype(np.float64)
        found[usable] = (known - known.mean()) / (known.std() + epsilon)
    return found.astype(np.float32)
