"""The arithmetic of GRPO as pure functions: advantages, clipped loss, KL penalty. No RLlib in here.

Group Relative Policy Optimization (DeepSeekMath, arXiv 2402.03300, section 4.1) samples G answers to one
prompt, scores each, and uses the group's own mean as the baseline, so that no value network is needed.

Shapes: N sequences of at most C sampled tokens; `mask` is bool (N, C), True on sampled tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

Scale = Literal["std", "none"]


def group_advantages(
    rewards: NDArray[np.float32],
    groups: NDArray[np.int64],
    valid: NDArray[np.bool_] | None = None,
    *,
    scale: Scale = "std",
    epsilon: float = 1e-4,
) -> NDArray[np.float32]:
    """Advantage of every answer over the other answers to its prompt.

        A_i = (r_i − mean_g) / (std_g + ε)      scale="std",  GRPO, arXiv 2402.03300, eq. 3 (outcome)
        A_i = r_i − mean_g                      scale="none", Dr. GRPO, arXiv 2503.20783

    mean and (population) standard deviation run over the valid members of the group. ε is small against
    rewards in [−1, 1] and keeps a group whose rewards agree up to rounding at an advantage of about 0.

    Args:
        rewards: One reward per answer, (N,). Values of invalid answers are never read.
        groups: Which group each answer belongs to, int (N,), in any order.
        valid: False where a reward could not be computed, (N,). All valid if None.
        scale: Whether to divide by the group's standard deviation.
        epsilon: ε above.

    Returns:
        float32 (N,): 0 for an invalid answer and for the only valid answer of a group.

    Raises:
        ValueError: If a valid reward is not finite.
    """
    usable = np.ones(len(rewards), dtype=bool) if valid is None else valid.astype(bool)
    if not np.isfinite(rewards[usable]).all():
        raise ValueError("A valid reward is not finite; mark answers that could not be scored as invalid instead.")
    advantages = np.zeros(len(rewards), dtype=np.float64)
    for group in np.unique(groups):
        members = (groups == group) & usable
        if members.sum() > 1:
            values = rewards[members].astype(np.float64)
            deviation = values.std() + epsilon if scale == "std" else 1.0
            advantages[members] = (values - values.mean()) / deviation
    return advantages.astype(np.float32)


def policy_loss(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    clip_low: float,
    clip_high: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """PPO's clipped objective on every token, to be minimised.

        ρ_t = exp(log π(y_t) − log π_old(y_t))
        L_t = −min(ρ_t A, clip(ρ_t, 1 − clip_low, 1 + clip_high) A)

    PPO (arXiv 1707.06347, eq. 7) has clip_low = clip_high; a larger clip_high lets unlikely tokens grow
    (DAPO, arXiv 2503.14476). The advantage of a sequence is that of all its tokens.

    Args:
        logprobs: log π of the sampled tokens under the current weights, (N, C), with gradient.
        old_logprobs: The same under the weights that sampled, (N, C).
        advantages: (N,).
        mask: bool (N, C).
        clip_low: Distance below 1 at which the ratio is clipped.
        clip_high: Distance above 1 at which the ratio is clipped.

    Returns:
        Loss per token (N, C), 0 outside the mask, and bool (N, C): where clipping took the gradient away.
    """
    ratio = torch.exp(torch.where(mask, logprobs - old_logprobs, 0.0))
    advantage = advantages[:, None]
    free = ratio * advantage
    bound = ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * advantage
    clipped = (bound < free) & mask
    return torch.where(mask, -torch.minimum(free, bound), 0.0), clipped


def kl_k3(logprobs: torch.Tensor, ref_logprobs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Low-variance estimate of KL(π ‖ π_ref) on sampled tokens, (N, C), ≥ 0, 0 outside the mask.

        k3 = exp(d) − d − 1,  d = log π_ref(y_t) − log π(y_t)

    Unbiased for tokens drawn from π (GRPO, arXiv 2402.03300, eq. 4).
    """
    difference = torch.where(mask, ref_logprobs - logprobs, 0.0)
    return torch.expm1(difference) - difference


def mean_per_sequence(values: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Σ_i w_i · (1/|y_i|) Σ_t v_it: GRPO's mean over the tokens of a sequence, then over sequences.

    With w_i = 1/N it is GRPO's normalisation: every answer counts the same, whatever its length. The
    weights are given and not computed here, so that a batch cut into parts sums to the same loss.

    Args:
        values: (N, C).
        mask: bool (N, C).
        weights: w_i, (N,); 0 drops a sequence.
    """
    lengths = mask.sum(dim=1).clamp(min=1)
    return (weights * torch.where(mask, values, 0.0).sum(dim=1) / lengths).sum()


@dataclass(frozen=True)
class LossTerms:
    """The loss of a (micro-)batch and what is logged about it.

    Args:
        loss: Scalar to minimise, weighted sum over sequences.
        sums: Sums over the tokens of valid sequences, to be divided by `tokens`: ``kl`` (k3 to the reference),
            ``clip_fraction``, ``entropy`` (nats), ``policy_shift`` (k3 estimate of KL(π_old ‖ π)).
        tokens: Number of sampled tokens of valid sequences.
    """

    loss: torch.Tensor
    sums: dict[str, torch.Tensor]
    tokens: torch.Tensor


def grpo_loss(
    *,
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    ref_logprobs: torch.Tensor | None,
    entropy: torch.Tensor,
    advantages: torch.Tensor,
    weights: torch.Tensor,
    mask: torch.Tensor,
    clip_low: float,
    clip_high: float,
    kl_coeff: float,
) -> LossTerms:
    """GRPO's loss, arXiv 2402.03300, eq. 3: Σ_i w_i (1/|y_i|) Σ_t (L_t + β · k3_t).

    Args:
        logprobs: (N, C), with gradient.
        old_logprobs: (N, C).
        ref_logprobs: (N, C); None without a reference model.
        entropy: Entropy of the distribution at every sampled token, nats, (N, C); only logged.
        advantages: (N,).
        weights: w_i, (N,): 1/N for valid sequences, 0 for those whose reward is invalid.
        mask: bool (N, C).
        clip_low: See `policy_loss`.
        clip_high: See `policy_loss`.
        kl_coeff: β; ignored without a reference model.
    """
    per_token, clipped = policy_loss(logprobs, old_logprobs, advantages, mask, clip_low, clip_high)
    counted = mask & (weights > 0)[:, None]
    sums = {
        "clip_fraction": clipped[counted].sum(),
        "entropy": entropy[counted].sum(),
        # Tokens were drawn from π_old, so π takes the place of the reference here.
        "policy_shift": kl_k3(old_logprobs, logprobs.detach(), mask)[counted].sum(),
    }
    if ref_logprobs is not None:
        kl = kl_k3(logprobs, ref_logprobs, mask)
        per_token = per_token + kl_coeff * kl
        sums["kl"] = kl.detach()[counted].sum()
    loss = mean_per_sequence(per_token, mask, weights)
    return LossTerms(loss, {name: total.detach().float() for name, total in sums.items()}, counted.sum())
