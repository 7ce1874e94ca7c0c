"""PPO's parts that need a value head: advantages over turns, and the loss of the values. Pure functions.

A step is a turn of a conversation, not a token: the state is what the agent is shown, the action its whole answer, and
the advantage of a turn is that of all its tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def gae(
    rewards: NDArray[np.float32],
    values: NDArray[np.float32],
    next_values: NDArray[np.float32],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    mask: NDArray[np.bool_] | None = None,
    *,
    gamma: float = 1.0,
    lam: float = 0.95,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Generalised advantage estimation over the turns of N episodes (arXiv 1506.02438, section 3).

        δ_t = r_t + γ (1 − terminated_t) V(s_{t+1}) − V(s_t)
        A_t = δ_t + γ λ (1 − terminated_t) (1 − truncated_t) A_{t+1},   return_t = A_t + V(s_t)

    A truncated episode is cut but not over, so that its last turn still counts on V(s_{t+1}); a terminated one is worth
    nothing after its end. Several episodes may follow one another in a row.

    Args:
        rewards: Reward of every turn, (N, T). Never read where `mask` is False.
        values: V(s_t), (N, T).
        next_values: V of the observation after turn t (the last one of its episode, not the first of the next), (N, T).
        terminated: Whether the episode is over after turn t, (N, T).
        truncated: Whether it was cut after turn t, (N, T).
        mask: False on padding and on turns whose reward could not be computed, (N, T): they get 0, and nothing is
            carried over them. All True if None.
        gamma: γ, discount per turn.
        lam: λ; 0 trusts the values, 1 the rewards.

    Returns:
        Advantages and returns, float32 (N, T), 0 where `mask` is False.

    Raises:
        ValueError: If a reward or value that counts is not finite.
    """
    real = np.ones(rewards.shape, dtype=np.bool_) if mask is None else mask.astype(np.bool_)
    goes_on = ~terminated.astype(np.bool_)
    needed = [rewards[real], values[real], next_values[real & goes_on]]
    if not all(np.isfinite(part).all() for part in needed):
        raise ValueError("A reward or value of a turn that counts is not finite; leave such turns out of `mask`.")
    after = np.where(real & goes_on, next_values, 0.0).astype(np.float64)
    known = np.where(real, values, 0.0).astype(np.float64)
    delta = np.where(real, rewards, 0.0) + gamma * after - known
    linked = goes_on & ~truncated.astype(np.bool_)
    advantages = np.zeros(rewards.shape, dtype=np.float64)
    carried = np.zeros(len(rewards), dtype=np.float64)
    for turn in reversed(range(rewards.shape[1])):
        carried = np.where(real[:, turn], delta[:, turn] + gamma * lam * linked[:, turn] * carried, 0.0)
        advantages[:, turn] = carried
    return advantages.astype(np.float32), (advantages + known).astype(np.float32)


def value_loss(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor, clip: float | None = 0.2
) -> torch.Tensor:
    """PPO's loss of the values, to be minimised.

        L_t = ½ max((V_t − R_t)², (V_old,t + clip(V_t − V_old,t, ±c) − R_t)²)

    Clipping keeps values from moving far in one iteration; it is not in the paper (arXiv 1707.06347) but in OpenAI's
    baselines, and not always of use (arXiv 2006.05990).

    Args:
        values: V(s_t) under the current weights, (N, T), with gradient.
        old_values: V(s_t) when the turn was played, (N, T).
        returns: R_t, (N, T).
        mask: bool (N, T).
        clip: c; None does not clip.

    Returns:
        Loss per turn, (N, T), 0 outside the mask.
    """
    # Padding may hold anything; a NaN behind a mask would still reach the gradient.
    new, old, target = (torch.where(mask, tensor, 0.0) for tensor in (values, old_values, returns))
    squared = (new - target).square()
    if clip is not None:
        squared = torch.maximum(squared, (old + (new - old).clamp(-clip, clip) - target).square())
    return 0.5 * torch.where(mask, squared, 0.0)
