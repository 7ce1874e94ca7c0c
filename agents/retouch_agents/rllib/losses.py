"""The losses of the GRPO family as pure functions. No RLlib in here; how they are put together is `objective_loss`.

Shapes: N sequences of at most C sampled tokens; `mask` is bool (N, C), True on sampled tokens. What lies outside the
mask is never read: it may be anything, also infinite or NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from retouch_agents.rllib.objective import KLEstimator, Normalise, Objective, Ratio


def probability_ratio(
    logprobs: torch.Tensor, old_logprobs: torch.Tensor, mask: torch.Tensor, level: Ratio = "token"
) -> torch.Tensor:
    """How much likelier the answer has become since it was sampled, (N, C), 1 outside the mask.

        ρ_t = exp(log π(y_t) − log π_old(y_t))                    level="token", PPO, arXiv 1707.06347, eq. 6
        s   = exp((1/|y|) Σ_t (log π(y_t) − log π_old(y_t)))      level="sequence", GSPO, arXiv 2507.18071

    Args:
        logprobs: log π of the sampled tokens under the current weights, (N, C), with gradient.
        old_logprobs: The same before the updates on these answers, (N, C).
        mask: bool (N, C).
        level: ``"sequence"`` gives all tokens of an answer its length-normalised ratio.
    """
    difference = torch.where(mask, logprobs - old_logprobs, 0.0)
    if level == "sequence":
        mean = difference.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        difference = torch.where(mask, mean, 0.0)
    return torch.exp(difference)


@dataclass(frozen=True)
class Surrogate:
    """What `clipped_surrogate` finds.

    Args:
        loss: Loss per token (N, C), 0 outside the mask.
        clipped_low: bool (N, C): the ratio is below the clip and there is no gradient.
        clipped_high: bool (N, C): the ratio is above it and there is no gradient.
    """

    loss: torch.Tensor
    clipped_low: torch.Tensor
    clipped_high: torch.Tensor


def clipped_surrogate(
    ratio: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor, clip: tuple[float, float]
) -> Surrogate:
    """PPO's clipped objective on every token, to be minimised.

        L_t = −min(ρ_t A, clip(ρ_t, 1 − low, 1 + high) A)

    PPO (arXiv 1707.06347, eq. 7) has low = high; a larger `high` lets unlikely tokens grow ("clip-higher", DAPO,
    arXiv 2503.14476). The advantage of a sequence is that of all its tokens.

    Args:
        ratio: ρ, (N, C), with gradient.
        advantages: A, (N,).
        mask: bool (N, C).
        clip: (low, high).
    """
    low, high = clip
    advantage = advantages[:, None]
    free = ratio * advantage
    bound = ratio.clamp(1.0 - low, 1.0 + high) * advantage
    clipped = (bound < free) & mask
    loss = torch.where(mask, -torch.minimum(free, bound), 0.0)
    return Surrogate(loss, clipped & (advantage < 0), clipped & (advantage > 0))


def kl_estimate(
    logprobs: torch.Tensor, ref_logprobs: torch.Tensor, mask: torch.Tensor, kind: KLEstimator = "k3"
) -> torch.Tensor:
    """Estimate KL(π ‖ π_ref) on sampled tokens, (N, C), 0 outside the mask.

        d = log π_ref(y_t) − log π(y_t)
        k1 = −d                unbiased, but noisy and of either sign
        k2 = ½ d²              biased, ≥ 0
        k3 = exp(d) − d − 1    unbiased, ≥ 0 (GRPO, arXiv 2402.03300, eq. 4)

    From J. Schulman, "Approximating KL Divergence" (2020); unbiased means for tokens drawn from π. As a loss they
    differ more (arXiv 2506.09477): the expected gradient of k1 is 0, so that it penalises nothing; that of k2 is the
    gradient of KL(π ‖ π_ref) at the token; that of k3 is the gradient of KL(π_ref ‖ π).

    Args:
        logprobs: log π, (N, C), with gradient.
        ref_logprobs: log π_ref, (N, C).
        mask: bool (N, C).
        kind: Which estimate.
    """
    difference = torch.where(mask, ref_logprobs - logprobs, 0.0)
    if kind == "k1":
        return -difference
    if kind == "k2":
        return 0.5 * difference.square()
    return torch.expm1(difference) - difference


def importance_weights(
    learner_logprobs: torch.Tensor, sampler_logprobs: torch.Tensor, mask: torch.Tensor, cap: float
) -> torch.Tensor:
    """Truncated importance sampling: w_t = min(exp(log π_learner(y_t) − log π_sampler(y_t)), cap), (N, C).

    Both with the weights that sampled; they differ where the sampler is another engine or computes with other
    precision. The cap bounds the variance and biases the estimate (E. Ionides, "Truncated Importance Sampling", 2008;
    V-trace's ρ, arXiv 1802.01561). No gradient; 1 outside the mask.

    Args:
        learner_logprobs: (N, C).
        sampler_logprobs: (N, C).
        mask: bool (N, C).
        cap: Largest weight.
    """
    difference = torch.where(mask, learner_logprobs - sampler_logprobs, 0.0)
    return torch.exp(difference.detach()).clamp(max=cap)


def answer_weights(
    lengths: NDArray[np.int64],
    valid: NDArray[np.bool_],
    *,
    normalise: Normalise,
    max_length: int,
    scale: float = 1.0,
    episodes: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """The weight w_i of every answer of an optimiser step in `weighted_sum`, float32 (N,); 0 for invalid ones.

        "sequence"   w_i = |y_i| / (E · |episode|)    GRPO, arXiv 2402.03300, eq. 3
        "token"      w_i = 1 / Σ_j |y_j|              DAPO, arXiv 2503.14476, eq. 8
        "constant"   w_i = 1 / (N · C_max)            Dr. GRPO, arXiv 2503.20783

    N, E and the sum are over valid answers and episodes of the whole step, so that it may be cut into parts at will:
    the parts of the loss add up to the loss of the whole. |episode| is the sampled tokens of all turns of the answer's
    episode: "sequence" gives every episode the same weight and every token in it too. With one turn, w_i = 1 / N.

    Args:
        lengths: |y_i|, sampled tokens per answer, (N,).
        valid: bool (N,).
        normalise: See `Objective`.
        max_length: C_max, most tokens of an answer.
        scale: Factor on all weights: the number of learners, where gradients are averaged over them.
        episodes: Which episode each answer belongs to, from 0, (N,). Each its own if None.

    Raises:
        ValueError: If no answer is valid.
    """
    if not valid.any():
        raise ValueError("No answer is valid, so that there is nothing to weigh; leave such a batch out.")
    if normalise == "sequence":
        whole = np.arange(len(lengths)) if episodes is None else episodes
        shares = lengths / np.bincount(whole, weights=lengths)[whole]
        return (valid * shares).astype(np.float32) * np.float32(scale / len(np.unique(whole[valid])))
    total = {"token": float(lengths[valid].sum()), "constant": float(valid.sum()) * max_length}[normalise]
    return valid.astype(np.float32) * np.float32(scale / total)


def weighted_sum(
    values: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor, normalise: Normalise = "sequence"
) -> torch.Tensor:
    """Σ_i w_i Σ_t v_it, with the inner sum divided by |y_i| for ``"sequence"``. Weights are from `answer_weights`.

    Args:
        values: (N, C).
        mask: bool (N, C).
        weights: w_i, (N,); 0 drops a sequence.
        normalise: See `Objective`.
    """
    sums = torch.where(mask, values, 0.0).sum(dim=1)
    if normalise == "sequence":
        return (weights * sums / mask.sum(dim=1).clamp(min=1)).sum()
    return (weights * sums).sum()


@dataclass(frozen=True)
class LossTerms:
    """The loss of a (micro-)batch and what is logged about it.

    Args:
        loss: Scalar to minimise, weighted sum over sequences.
        sums: Sums over the tokens of valid sequences, to be divided by `tokens`: ``kl`` (to the reference),
            ``clip_fraction``, ``clip_fraction_low``, ``clip_fraction_high``, ``entropy`` (nats), ``policy_shift`` (k3
            estimate of KL(π_old ‖ π)) and, with importance weights, ``importance_mean``.
        maxima: Maxima over the same tokens: ``importance_max``.
        tokens: Number of sampled tokens of valid sequences.
    """

    loss: torch.Tensor
    sums: dict[str, torch.Tensor]
    maxima: dict[str, torch.Tensor]
    tokens: torch.Tensor


def objective_loss(
    objective: Objective,
    *,
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    entropy: torch.Tensor,
    advantages: torch.Tensor,
    weights: torch.Tensor,
    mask: torch.Tensor,
    ref_logprobs: torch.Tensor | None = None,
    sampler_logprobs: torch.Tensor | None = None,
) -> LossTerms:
    """The loss Σ_i w_i Σ_t (w_t L_t + β KL_t − η H_t) with the choices of `objective`; the default is GRPO's, eq. 3.

    Args:
        objective: What to optimise.
        logprobs: (N, C), with gradient.
        old_logprobs: What the ratio compares with, (N, C).
        entropy: H, entropy of the distribution at every sampled token, nats, (N, C); with gradient where there is a
            bonus for it.
        advantages: (N,).
        weights: From `answer_weights`, (N,).
        mask: bool (N, C).
        ref_logprobs: (N, C); None without a reference model.
        sampler_logprobs: The sampler's, (N, C), where `old_logprobs` are the learner's; None: they are the same.
    """
    ratio = probability_ratio(logprobs, old_logprobs, mask, objective.ratio)
    found = clipped_surrogate(ratio, advantages, mask, objective.clip)
    per_token = found.loss
    counted = mask & (weights > 0)[:, None]
    sums = {
        "clip_fraction": (found.clipped_low | found.clipped_high)[counted].sum(),
        "clip_fraction_low": found.clipped_low[counted].sum(),
        "clip_fraction_high": found.clipped_high[counted].sum(),
        "entropy": entropy.detach()[counted].sum(),
        # Tokens were drawn from π_old, so π takes the place of the reference here.
        "policy_shift": kl_estimate(old_logprobs, logprobs.detach(), mask)[counted].sum(),
    }
    maxima: dict[str, torch.Tensor] = {}
    if objective.importance_cap is not None and sampler_logprobs is not None:
        importance = importance_weights(old_logprobs, sampler_logprobs, mask, objective.importance_cap)
        per_token = per_token * importance
        sums["importance_mean"] = importance[counted].sum()
        maxima["importance_max"] = torch.where(counted, importance, 0.0).max()
    if ref_logprobs is not None:
        kl = kl_estimate(logprobs, ref_logprobs, mask, objective.kl_estimator)
        per_token = per_token + objective.kl_coeff * kl
        sums["kl"] = kl.detach()[counted].sum()
    if objective.entropy_coeff > 0:
        per_token = per_token - objective.entropy_coeff * torch.where(mask, entropy, 0.0)
    loss = weighted_sum(per_token, mask, weights, objective.normalise)
    return LossTerms(loss, {name: total.detach().float() for name, total in sums.items()}, maxima, counted.sum())
