"""The losses of the GRPO family against numbers worked out by hand, and what holds for all of them."""

from __future__ import annotations

import itertools
import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retouch_agents.rllib.losses import (
    LossTerms,
    answer_weights,
    clipped_surrogate,
    importance_weights,
    kl_estimate,
    objective_loss,
    probability_ratio,
    weighted_sum,
)
from retouch_agents.rllib.objective import KLEstimator, Normalise, Objective, Ratio

CHOICES = list(itertools.product(get_args(Normalise), get_args(Ratio), get_args(KLEstimator)))
every_choice = pytest.mark.parametrize(("normalise", "ratio", "kl"), CHOICES)


def _batch(seed: int, rows: int = 6, length: int = 4) -> dict[str, torch.Tensor]:
    """Random answers of 1 to `length` tokens, one of them invalid."""
    rng = torch.Generator().manual_seed(seed)
    mask = torch.arange(length) < torch.randint(1, length + 1, (rows, 1), generator=rng)
    logprobs, old, ref, sampler = -2 * torch.rand((4, rows, length), generator=rng)
    valid = torch.arange(rows) != 1
    return {
        "logprobs": logprobs,
        "old_logprobs": old,
        "ref_logprobs": ref,
        "sampler_logprobs": sampler,
        "entropy": torch.rand((rows, length), generator=rng),
        "advantages": torch.randn(rows, generator=rng) * valid,
        "mask": mask,
        "valid": valid,
    }


def _loss(batch: dict[str, torch.Tensor], objective: Objective, rows: slice = slice(None)) -> LossTerms:
    weights = answer_weights(
        batch["mask"].sum(dim=1).numpy(), batch["valid"].numpy(), normalise=objective.normalise, max_length=7
    )
    given: Any = {name: value[rows] for name, value in batch.items() if name != "valid"}
    return objective_loss(objective, weights=torch.from_numpy(weights)[rows], **given)


def _objective(normalise: Normalise, ratio: Ratio, kl: KLEstimator) -> Objective:
    return Objective(normalise=normalise, ratio=ratio, kl_estimator=kl, kl_coeff=0.1, importance_cap=1.5)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "clipped"),
    [
        (1.5, 1.0, -1.3, "high"),  # too likely already: no further reward
        (0.5, 1.0, -0.5, ""),  # a good token that became rare may come back
        (1.5, -1.0, 1.5, ""),  # a bad token that became likely is pushed down
        (0.5, -1.0, 0.8, "low"),  # rare enough
        (1.1, 2.0, -2.2, ""),
        (1.25, 1.0, -1.25, ""),  # between the two bounds: clip-higher lets it grow
    ],
)
def test_clipped_surrogate(ratio: float, advantage: float, expected: float, clipped: str) -> None:
    new = torch.tensor([[ratio]], requires_grad=True)
    found = clipped_surrogate(new, torch.tensor([advantage]), torch.ones(1, 1, dtype=torch.bool), (0.2, 0.3))
    found.loss.sum().backward()
    assert found.loss.item() == pytest.approx(expected, rel=1e-5)
    assert bool(found.clipped_low.item()) is (clipped == "low")
    assert bool(found.clipped_high.item()) is (clipped == "high")
    assert new.grad is not None
    assert (new.grad.item() == 0.0) is bool(clipped)


def test_ratio_of_tokens_and_of_sequences() -> None:
    new = torch.tensor([[0.1, 0.5, 9.0]])
    mask = torch.tensor([[True, True, False]])
    tokens = probability_ratio(new, torch.zeros(1, 3), mask)
    assert tokens.tolist()[0] == pytest.approx([math.exp(0.1), math.exp(0.5), 1.0])
    sequence = probability_ratio(new, torch.zeros(1, 3), mask, "sequence")
    assert sequence.tolist()[0] == pytest.approx([math.exp(0.3), math.exp(0.3), 1.0])  # the geometric mean


@pytest.mark.parametrize(("kind", "expected"), [("k1", -1.0), ("k2", 0.5), ("k3", math.e - 2.0)])
def test_kl_estimates_by_hand(kind: KLEstimator, expected: float) -> None:
    mask = torch.tensor([[True, True, False]])
    found = kl_estimate(torch.tensor([[-1.0, -2.0, -3.0]]), torch.tensor([[-1.0, -1.0, 9.0]]), mask, kind)
    assert found.tolist()[0] == pytest.approx([0.0, expected, 0.0], abs=1e-6)


POLICY = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
REFERENCE = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_kl_estimates_are_unbiased(kind: KLEstimator) -> None:
    found = kl_estimate(POLICY.log()[None], REFERENCE.log()[None], torch.ones(1, 3, dtype=torch.bool), kind)[0]
    exact = (POLICY * (POLICY / REFERENCE).log()).sum()
    assert (POLICY * found).sum().item() == pytest.approx(exact.item())


def test_the_expected_gradients_of_the_kl_estimates_are_what_the_documentation_says() -> None:
    def gradient(of: Any) -> torch.Tensor:
        logits = POLICY.log().clone().requires_grad_()
        of(torch.log_softmax(logits, dim=0)).backward()
        assert logits.grad is not None
        return logits.grad

    def expected(kind: KLEstimator) -> torch.Tensor:
        mask = torch.ones(1, 3, dtype=torch.bool)
        return gradient(lambda logs: (POLICY * kl_estimate(logs[None], REFERENCE.log()[None], mask, kind)[0]).sum())

    reverse = gradient(lambda logs: (logs.exp() * (logs - REFERENCE.log())).sum())
    forward = gradient(lambda logs: (REFERENCE * (REFERENCE.log() - logs)).sum())
    assert torch.allclose(expected("k1"), torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(expected("k2"), reverse)
    assert torch.allclose(expected("k3"), forward)


def test_importance_weights_are_truncated_and_have_no_gradient() -> None:
    own = torch.tensor([[0.0, math.log(3.0), math.log(0.5), 9.0]], requires_grad=True)
    mask = torch.tensor([[True, True, True, False]])
    found = importance_weights(own, torch.zeros(1, 4), mask, cap=2.0)
    assert found.tolist()[0] == pytest.approx([1.0, 2.0, 0.5, 1.0])
    assert not found.requires_grad


@pytest.mark.parametrize(
    ("normalise", "expected"),
    [
        ("sequence", (4.0 + 3.0) / 2),  # means 4 and 3
        ("token", (8.0 + 9.0) / 5),
        ("constant", (8.0 + 9.0) / (2 * 10)),
    ],
)
def test_normalisations_by_hand(normalise: Normalise, expected: float) -> None:
    values = torch.tensor([[3.0, 5.0, 100.0], [1.0, 2.0, 6.0], [50.0, 50.0, 50.0]])
    mask = torch.tensor([[True, True, False], [True, True, True], [True, True, True]])
    valid = np.array([True, True, False])
    weights = answer_weights(np.array([2, 3, 3]), valid, normalise=normalise, max_length=10)
    assert weights.dtype == np.float32
    assert weighted_sum(values, mask, torch.from_numpy(weights), normalise).item() == pytest.approx(expected)
    doubled = answer_weights(np.array([2, 3, 3]), valid, normalise=normalise, max_length=10, scale=2)
    assert doubled.tolist() == (2 * weights).tolist()


def test_without_a_valid_answer_there_are_no_weights() -> None:
    with pytest.raises(ValueError, match="No answer is valid"):
        answer_weights(np.array([2]), np.array([False]), normalise="token", max_length=4)


def test_whole_loss_by_hand() -> None:
    batch = {
        "logprobs": torch.tensor([[-1.0, -1.0], [-1.0, -1.0]]),
        "old_logprobs": torch.full((2, 2), -1.0),
        "entropy": torch.zeros(2, 2),
        "advantages": torch.tensor([1.0, -1.0]),
        "mask": torch.tensor([[True, True], [True, False]]),
        "valid": torch.tensor([True, True]),
    }
    referred = {**batch, "ref_logprobs": torch.full((2, 2), -1.2)}
    # Ratio 1: the policy terms are −1 and +1 and cancel; k3 of d = −0.2 on every token.
    k3 = math.exp(-0.2) + 0.2 - 1.0
    assert _loss(referred, Objective(kl_coeff=0.1)).loss.item() == pytest.approx(0.1 * k3, rel=1e-4)
    assert _loss(batch, Objective(kl_coeff=0.1)).loss.item() == pytest.approx(0.0, abs=1e-7)
    # Token by token the first answer counts twice.
    token = Objective(kl_coeff=0.1, normalise="token")
    assert _loss(referred, token).loss.item() == pytest.approx((-2 + 1) / 3 + 0.1 * k3, rel=1e-4)
    # The sampler thought the tokens half as likely: weight 2, capped at 1.5, on the policy terms alone.
    sampled = {**referred, "sampler_logprobs": torch.full((2, 2), -1.0 - math.log(2.0))}
    capped = Objective(kl_coeff=0.1, normalise="token", importance_cap=1.5)
    terms = _loss(sampled, capped)
    assert terms.loss.item() == pytest.approx(1.5 * (-2 + 1) / 3 + 0.1 * k3, rel=1e-4)
    assert terms.sums["importance_mean"].item() == pytest.approx(4.5)
    assert terms.maxima["importance_max"].item() == 1.5


@every_choice
def test_eight_parts_of_one_are_one_part_of_eight(normalise: Normalise, ratio: Ratio, kl: KLEstimator) -> None:
    objective = _objective(normalise, ratio, kl)
    gradients, losses = [], []
    for size in (8, 1):
        batch = _batch(seed=0, rows=8)
        batch["logprobs"].requires_grad_()
        terms = [_loss(batch, objective, slice(start, start + size)) for start in range(0, 8, size)]
        for part in terms:
            part.loss.backward()
        assert batch["logprobs"].grad is not None
        gradients.append(batch["logprobs"].grad)
        losses.append(sum(part.loss.item() for part in terms))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5, abs=1e-6)
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-5, atol=1e-8)


@every_choice
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31), padding=st.integers(0, 3))
def test_what_is_not_sampled_or_not_valid_changes_nothing(
    normalise: Normalise, ratio: Ratio, kl: KLEstimator, seed: int, padding: int
) -> None:
    objective = _objective(normalise, ratio, kl)
    batch = _batch(seed)
    batch["logprobs"].requires_grad_()
    plain = _loss(batch, objective)
    plain.loss.backward()
    gradient = batch["logprobs"].grad
    assert gradient is not None
    counted = batch["mask"] & batch["valid"][:, None]
    assert (gradient[~counted] == 0).all()

    mask = torch.nn.functional.pad(batch["mask"], (0, padding))
    wild: dict[str, torch.Tensor] = {**batch, "mask": mask}
    for name in ("logprobs", "old_logprobs", "ref_logprobs", "sampler_logprobs", "entropy"):
        wide = torch.nn.functional.pad(batch[name].detach(), (0, padding))
        wild[name] = torch.where(mask, wide, math.nan)
    wild["logprobs"].requires_grad_()
    again = _loss(wild, objective)
    again.loss.backward()
    assert again.loss.item() == pytest.approx(plain.loss.item(), rel=1e-5, abs=1e-7)
    assert wild["logprobs"].grad is not None
    assert torch.allclose(wild["logprobs"].grad[:, : gradient.shape[1]], gradient, rtol=1e-4, atol=1e-7)
    assert again.tokens == plain.tokens == counted.sum()
    assert {name: value.item() for name, value in again.sums.items()} == pytest.approx(
        {name: value.item() for name, value in plain.sums.items()}, rel=1e-4, abs=1e-6
    )


def test_gradient_reaches_every_sampled_token_before_the_clip() -> None:
    for normalise, ratio, kl in CHOICES:
        batch = _batch(seed=3)
        batch["logprobs"] = batch["old_logprobs"].clone().requires_grad_()
        _loss(batch, _objective(normalise, ratio, kl)).loss.backward()
        assert batch["logprobs"].grad is not None
        counted = batch["mask"] & batch["valid"][:, None]
        assert (batch["logprobs"].grad[counted] != 0).all()


def test_at_the_weights_that_sampled_the_gradient_is_that_of_reinforce() -> None:
    for ratio in get_args(Ratio):
        batch = _batch(seed=5)
        batch["logprobs"] = batch["old_logprobs"].clone().requires_grad_()
        del batch["ref_logprobs"], batch["sampler_logprobs"]
        _loss(batch, Objective(normalise="sequence", ratio=ratio)).loss.backward()
        lengths = batch["mask"].sum(dim=1, keepdim=True)
        expected = torch.where(batch["mask"], -batch["advantages"][:, None] / (5 * lengths), 0.0)
        assert batch["logprobs"].grad is not None
        assert torch.allclose(batch["logprobs"].grad, expected, atol=1e-6)


def test_logged_sums_leave_out_invalid_sequences() -> None:
    batch = _batch(seed=1, rows=2)
    batch["mask"] = torch.ones(2, 4, dtype=torch.bool)
    batch["entropy"] = torch.tensor([[1.0, 2.0, 3.0, 4.0], [50.0, 50.0, 50.0, 50.0]])
    del batch["ref_logprobs"]
    terms = _loss(batch, Objective())
    assert terms.tokens.item() == 4
    assert terms.sums["entropy"].item() == 10.0
    assert "kl" not in terms.sums
    assert terms.maxima == {}


def test_clip_fractions_add_up() -> None:
    batch = _batch(seed=2, rows=16)
    sums = _loss(batch, Objective()).sums
    assert sums["clip_fraction_low"] > 0
    assert sums["clip_fraction_high"] > 0
    assert sums["clip_fraction"] == sums["clip_fraction_low"] + sums["clip_fraction_high"]
