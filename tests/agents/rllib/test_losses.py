"""GRPO's arithmetic against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from retouch_agents.rllib.losses import group_advantages, grpo_loss, kl_k3, mean_per_sequence, policy_loss

TWO_GROUPS = np.array([0, 0, 0, 1, 1], dtype=np.int64)


def _loss(logprobs: torch.Tensor, mask: torch.Tensor, **changes: object) -> torch.Tensor:
    arguments: dict[str, object] = {
        "logprobs": logprobs,
        "old_logprobs": torch.full_like(logprobs, -1.0).detach(),
        "ref_logprobs": torch.full_like(logprobs, -1.2).detach(),
        "entropy": torch.zeros_like(logprobs).detach(),
        "advantages": torch.tensor([1.0, -1.0]),
        "weights": torch.tensor([0.5, 0.5]),
        "mask": mask,
        "clip_low": 0.2,
        "clip_high": 0.2,
        "kl_coeff": 0.1,
    }
    return grpo_loss(**{**arguments, **changes}).loss  # type: ignore[arg-type]


def test_advantages_are_standardised_within_the_group() -> None:
    rewards = np.array([0.0, 1.0, 2.0, 5.0, 3.0], dtype=np.float32)
    found = group_advantages(rewards, TWO_GROUPS, epsilon=0.0)
    step = 1 / math.sqrt(2 / 3)  # the population deviation of 0, 1, 2
    assert found.tolist() == pytest.approx([-step, 0.0, step, 1.0, -1.0])
    assert group_advantages(rewards, TWO_GROUPS, scale="none").tolist() == [-1.0, 0.0, 1.0, 1.0, -1.0]


def test_groups_may_be_interleaved() -> None:
    rewards = np.array([1.0, 10.0, 3.0, 30.0], dtype=np.float32)
    found = group_advantages(rewards, np.array([7, 2, 7, 2]), scale="none")
    assert found.tolist() == [-1.0, -10.0, 1.0, 10.0]


def test_invalid_rewards_take_no_part() -> None:
    rewards = np.array([0.0, math.nan, 2.0, math.nan, 3.0], dtype=np.float32)
    valid = np.array([True, False, True, False, True])
    found = group_advantages(rewards, TWO_GROUPS, valid, scale="none")
    assert found.tolist() == [-1.0, 0.0, 1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="not finite"):
        group_advantages(rewards, TWO_GROUPS)


def test_equal_rewards_teach_nothing() -> None:
    rewards = np.array([0.1, 0.1, 0.1, 0.7, 0.7], dtype=np.float32)
    assert np.abs(group_advantages(rewards, TWO_GROUPS)).max() < 1e-6


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "clipped"),
    [
        (1.5, 1.0, -1.3, True),  # too likely already: no further reward
        (0.5, 1.0, -0.5, False),  # a good token that became rare may come back
        (1.5, -1.0, 1.5, False),  # a bad token that became likely is pushed down
        (0.5, -1.0, 0.8, True),  # rare enough
        (1.1, 2.0, -2.2, False),
    ],
)
def test_clipped_objective(ratio: float, advantage: float, expected: float, clipped: bool) -> None:
    new = torch.tensor([[math.log(ratio)]], requires_grad=True)
    loss, was_clipped = policy_loss(
        new, torch.zeros(1, 1), torch.tensor([advantage]), torch.ones(1, 1, dtype=torch.bool), 0.2, 0.3
    )
    loss.sum().backward()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert bool(was_clipped.item()) is clipped
    assert new.grad is not None
    assert (new.grad.item() == 0.0) is clipped


def test_kl_estimate() -> None:
    found = kl_k3(torch.tensor([[-1.0, -2.0, -3.0]]), torch.tensor([[-1.0, -1.0, 9.0]]), torch.tensor([[1, 1, 0]]) > 0)
    assert found.tolist()[0] == pytest.approx([0.0, math.e - 2.0, 0.0], abs=1e-6)


def test_kl_estimate_is_unbiased() -> None:
    policy = torch.tensor([0.6, 0.3, 0.1])
    reference = torch.tensor([0.2, 0.3, 0.5])
    estimates = kl_k3(policy.log()[None], reference.log()[None], torch.ones(1, 3, dtype=torch.bool))[0]
    exact = (policy * (policy / reference).log()).sum()
    assert (policy * estimates).sum().item() == pytest.approx(exact.item(), rel=1e-5)


def test_every_sequence_counts_the_same_whatever_its_length() -> None:
    values = torch.tensor([[3.0, 5.0, 100.0], [1.0, 2.0, 6.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert mean_per_sequence(values, mask, torch.tensor([0.5, 0.5])).item() == pytest.approx(0.5 * 4 + 0.5 * 3)


def test_whole_loss_by_hand() -> None:
    logprobs = torch.tensor([[-1.0, -1.0], [-1.0, -1.0]], requires_grad=True)
    mask = torch.tensor([[True, True], [True, False]])
    # ratio 1: the policy terms are −1 and +1 and cancel; k3 of d = −0.2 on every token.
    k3 = math.exp(-0.2) + 0.2 - 1.0
    assert _loss(logprobs, mask).item() == pytest.approx(0.1 * k3, rel=1e-4)
    assert _loss(logprobs, mask, ref_logprobs=None).item() == pytest.approx(0.0, abs=1e-7)
    assert _loss(logprobs, mask, weights=torch.tensor([1.0, 0.0])).item() == pytest.approx(-1.0 + 0.1 * k3)


def test_masked_positions_change_nothing() -> None:
    mask = torch.tensor([[True, True, False], [True, False, False]])
    base = torch.tensor([[-1.0, -1.5, -0.5], [-2.0, -1.0, -1.0]], requires_grad=True)
    loss = _loss(base, mask)
    loss.backward()
    assert base.grad is not None
    assert (base.grad[~mask] == 0).all()
    assert (base.grad[mask] != 0).all()
    disturbed = torch.where(mask, base.detach(), 50.0)
    wild = torch.where(mask, torch.full_like(disturbed, -1.0), -float("inf"))
    assert _loss(disturbed, mask, old_logprobs=wild).item() == loss.item()


def test_parts_of_a_batch_sum_to_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    logprobs = -torch.rand((6, 4), generator=generator)
    mask = torch.rand((6, 4), generator=generator) < 0.7
    mask[:, 0] = True
    common = {"advantages": torch.randn(6, generator=generator), "weights": torch.full((6,), 1 / 6)}

    def part(rows: slice) -> torch.Tensor:
        return _loss(logprobs[rows], mask[rows], **{name: value[rows] for name, value in common.items()})

    assert sum(part(slice(i, i + 2)) for i in (0, 2, 4)).item() == pytest.approx(part(slice(0, 6)).item(), rel=1e-5)


def test_logged_sums_leave_out_invalid_sequences() -> None:
    mask = torch.ones(2, 3, dtype=torch.bool)
    terms = grpo_loss(
        logprobs=torch.full((2, 3), -1.0),
        old_logprobs=torch.full((2, 3), -1.0),
        ref_logprobs=None,
        entropy=torch.tensor([[1.0, 2.0, 3.0], [50.0, 50.0, 50.0]]),
        advantages=torch.zeros(2),
        weights=torch.tensor([1.0, 0.0]),
        mask=mask,
        clip_low=0.2,
        clip_high=0.2,
        kl_coeff=0.1,
    )
    assert terms.tokens.item() == 3
    assert terms.sums["entropy"].item() == 6.0
    assert "kl" not in terms.sums
