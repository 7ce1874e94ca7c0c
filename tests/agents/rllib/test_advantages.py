"""Advantages against numbers worked out by hand, and what holds for all of them."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from retouch_agents.rllib import advantages
from retouch_agents.rllib.advantages import ADVANTAGES, AdvantageName

REWARDS = np.array([0.0, 1.0, 2.0, 5.0, 3.0], dtype=np.float32)
TWO_GROUPS = np.array([0, 0, 0, 1, 1], dtype=np.int64)
every = pytest.mark.parametrize("name", get_args(AdvantageName))


def test_every_name_has_a_function() -> None:
    assert tuple(ADVANTAGES) == get_args(AdvantageName)


def test_grpo_standardises_within_the_group() -> None:
    step = 1 / math.sqrt(2 / 3)  # the population deviation of 0, 1, 2
    found = advantages.grpo(REWARDS, TWO_GROUPS, epsilon=0.0)
    assert found.tolist() == pytest.approx([-step, 0.0, step, 1.0, -1.0])


def test_dr_grpo_only_takes_the_mean_away() -> None:
    assert advantages.dr_grpo(REWARDS, TWO_GROUPS).tolist() == [-1.0, 0.0, 1.0, 1.0, -1.0]


def test_batch_deviation() -> None:
    # Squares of 0, 1, 2, 5, 3 about their mean 2.2: 4.84 + 1.44 + 0.04 + 7.84 + 0.64 = 14.8.
    deviation = math.sqrt(14.8 / 5)
    found = advantages.grpo_batch(REWARDS, TWO_GROUPS, epsilon=0.0)
    assert found.tolist() == pytest.approx([value / deviation for value in (-1, 0, 1, 1, -1)])


def test_rloo_leaves_the_answer_out_of_its_baseline() -> None:
    # Of 0: mean of 1 and 2; of 1: of 0 and 2; of 2: of 0 and 1.
    assert advantages.rloo(REWARDS, TWO_GROUPS).tolist() == [-1.5, 0.0, 1.5, 2.0, -2.0]


def test_reinforce_pp_compares_with_the_whole_batch() -> None:
    deviation = math.sqrt(14.8 / 5)
    found = advantages.reinforce_pp(REWARDS, TWO_GROUPS, epsilon=0.0)
    assert found.tolist() == pytest.approx([(value - 2.2) / deviation for value in (0, 1, 2, 5, 3)], rel=1e-5)


def test_reinforce_pp_over_the_groups_baseline() -> None:
    deviation = math.sqrt(4 / 5)  # of −1, 0, 1, 1, −1
    found = advantages.reinforce_pp_baseline(REWARDS, TWO_GROUPS, epsilon=0.0)
    assert found.tolist() == pytest.approx([value / deviation for value in (-1, 0, 1, 1, -1)], abs=1e-7)


def test_invalid_rewards_take_no_part_by_hand() -> None:
    rewards = np.array([0.0, math.nan, 2.0, math.nan, 3.0], dtype=np.float32)
    valid = np.array([True, False, True, False, True])
    assert advantages.dr_grpo(rewards, TWO_GROUPS, valid).tolist() == [-1.0, 0.0, 1.0, 0.0, 0.0]
    assert advantages.rloo(rewards, TWO_GROUPS, valid).tolist() == [-2.0, 0.0, 2.0, 0.0, 0.0]


@every
def test_a_reward_that_is_not_a_number_is_refused_where_it_counts(name: AdvantageName) -> None:
    with pytest.raises(ValueError, match="not finite"):
        ADVANTAGES[name](np.array([0.0, math.nan], dtype=np.float32), np.zeros(2, dtype=np.int64))


@every
def test_equal_rewards_teach_nothing(name: AdvantageName) -> None:
    rewards = np.full(5, 0.1, dtype=np.float32)
    assert np.abs(ADVANTAGES[name](rewards, TWO_GROUPS)).max() < 1e-6


@every
def test_one_valid_answer_has_nothing_to_be_compared_with(name: AdvantageName) -> None:
    valid = np.array([False, True, False, False, False])
    assert not ADVANTAGES[name](REWARDS, TWO_GROUPS, valid).any()
    assert not ADVANTAGES[name](REWARDS, TWO_GROUPS, np.zeros(5, dtype=np.bool_)).any()


@every
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_invalid_answers_might_as_well_not_be_there(name: AdvantageName, data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 12))
    rewards = data.draw(arrays(np.float32, count, elements=st.floats(-1, 1, width=32)))
    groups = data.draw(arrays(np.int64, count, elements=st.integers(0, 3)))
    valid = data.draw(arrays(np.bool_, count))
    junk = np.where(valid, rewards, np.float32(math.nan))
    found = ADVANTAGES[name](junk, groups, valid)
    assert not found[~valid].any()
    assert found[valid].tolist() == pytest.approx(ADVANTAGES[name](rewards[valid], groups[valid]).tolist(), abs=1e-5)


@every
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_the_order_of_answers_and_the_names_of_groups_do_not_matter(name: AdvantageName, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rewards, groups = rng.uniform(-1, 1, 10).astype(np.float32), rng.integers(0, 3, 10)
    order = rng.permutation(10)
    plain = ADVANTAGES[name](rewards, groups)
    shuffled = ADVANTAGES[name](rewards[order], 7 - groups[order])
    assert shuffled.tolist() == pytest.approx(plain[order].tolist(), abs=1e-5)
