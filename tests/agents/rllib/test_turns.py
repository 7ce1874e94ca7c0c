"""Advantages over turns and the loss of the values, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retouch_agents.rllib.turns import gae, value_loss

NO = np.zeros((1, 3), dtype=np.bool_)
LAST = np.array([[False, False, True]])


def _row(*numbers: float) -> np.ndarray:
    return np.array([numbers], dtype=np.float32)


def test_gae_by_hand() -> None:
    # δ = 1 + .9·2 − 1 = 1.8;  0 + .9·3 − 2 = .7;  2 − 3 = −1;  γλ = .45.
    found, returns = gae(_row(1, 0, 2), _row(1, 2, 3), _row(2, 3, 9), LAST, NO, gamma=0.9, lam=0.5)
    last, middle = -1.0, 0.7 + 0.45 * -1.0
    assert found.tolist()[0] == pytest.approx([1.8 + 0.45 * middle, middle, last])
    assert returns.tolist()[0] == pytest.approx([1.8 + 0.45 * middle + 1, middle + 2, last + 3])


def test_a_truncated_episode_still_counts_on_what_would_have_come() -> None:
    cut, _ = gae(_row(0, 0, 2), _row(1, 2, 3), _row(2, 3, 9), NO, LAST, gamma=1.0, lam=1.0)
    over, _ = gae(_row(0, 0, 2), _row(1, 2, 3), _row(2, 3, 9), LAST, NO, gamma=1.0, lam=1.0)
    assert (cut - over).tolist()[0] == pytest.approx([9.0, 9.0, 9.0])


def test_gae_stops_at_the_end_of_an_episode() -> None:
    ends = np.array([[True, False, True]])
    for terminated, truncated in ((ends, NO), (NO, ends)):
        both, _ = gae(_row(1, 5, 7), _row(1, 2, 3), _row(0, 3, 0), terminated, truncated)
        first, _ = gae(_row(1), _row(1), _row(0), terminated[:, :1], truncated[:, :1])
        assert both[0, 0] == first[0, 0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), padding=st.integers(0, 3))
def test_lambda_one_is_the_return_less_the_value_and_padding_changes_nothing(seed: int, padding: int) -> None:
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=(2, 2, 4)).astype(np.float32)
    following = np.concatenate([values[:, 1:], np.zeros((2, 1), dtype=np.float32)], axis=1)
    over = np.zeros((2, 4), dtype=np.bool_)
    over[:, -1] = True
    plain, _ = gae(rewards, values, following, over, np.zeros_like(over), gamma=0.9, lam=1.0)
    discounted = [sum(0.9 ** (t - s) * rewards[:, t] for t in range(s, 4)) for s in range(4)]
    assert np.allclose(plain, np.stack(discounted, axis=1) - values, atol=1e-5)

    def wide(array: np.ndarray, filler: float) -> np.ndarray:
        return np.concatenate([array, np.full((2, padding), filler, dtype=array.dtype)], axis=1)

    mask = wide(np.ones((2, 4), dtype=np.bool_), False)
    junk = [wide(array, math.nan) for array in (rewards, values, following)]
    padded, returns = gae(*junk, wide(over, True), wide(np.zeros_like(over), True), mask, gamma=0.9, lam=1.0)
    assert np.array_equal(padded[:, :4], plain)
    assert not padded[:, 4:].any()
    assert not returns[:, 4:].any()


def test_gae_refuses_what_is_not_a_number() -> None:
    with pytest.raises(ValueError, match="not finite"):
        gae(_row(1, math.nan, 2), _row(1, 2, 3), _row(2, 3, 0), LAST, NO)


def test_value_loss_by_hand() -> None:
    values = torch.tensor([[1.0, 0.1, 2.0, math.nan]], requires_grad=True)
    old = torch.tensor([[0.0, 0.0, 0.0, math.nan]])
    returns = torch.tensor([[2.0, 1.0, 0.0, math.inf]])
    mask = torch.tensor([[True, True, True, False]])
    found = value_loss(values, old, returns, mask, clip=0.2)
    # Moved by 1 towards 2: as if at 0.2. Moved by 0.1: unclipped. Moved away from 0: the larger error counts.
    assert found.tolist()[0] == pytest.approx([0.5 * 1.8**2, 0.5 * 0.9**2, 0.5 * 2.0**2, 0.0])
    found.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist()[0] == pytest.approx([0.0, -0.9, 2.0, 0.0])
    assert value_loss(values, old, returns, mask, clip=None).tolist()[0] == pytest.approx([0.5, 0.405, 2.0, 0.0])
