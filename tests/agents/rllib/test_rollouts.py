"""The order of tasks, minibatches, and the numbers about rollouts."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from retouch_agents.encoding import Prompt
from retouch_agents.rllib.rollouts import Rollout, TaskOrder, episode_numbers, minibatches, summarise

PROMPT = Prompt(np.array([1, 2], dtype=np.int64))


def _rollout(group: int, member: int, reward: float = 0.0, valid: bool = True, length: int = 2) -> Rollout:
    return Rollout(
        group=group,
        member=member,
        task_id=f"t{group}",
        prompt=PROMPT,
        token_ids=np.zeros(length, dtype=np.int64),
        logprobs=np.zeros(length, dtype=np.float32),
        reward=reward if valid else math.nan,
        components={"likeness": reward} if valid else {},
        valid=valid,
    )


def test_every_epoch_visits_every_task_once_in_an_order_of_its_own() -> None:
    order = TaskOrder(10, seed=3)
    indices = [request.index for request in order.requests(0, 30)]
    epochs = [indices[start : start + 10] for start in (0, 10, 20)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)  # type: ignore[type-var]
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_order_is_a_function_of_seed_and_position() -> None:
    whole = TaskOrder(10, seed=3).requests(0, 30)
    assert TaskOrder(10, seed=3).requests(17, 5) == whole[17:22]
    assert TaskOrder(10, seed=4).requests(0, 30) != whole
    assert len({request.seed for request in whole}) == 30
    assert all(0 <= request.seed < 2**63 for request in whole)


def test_without_a_dataset_the_seed_alone_decides() -> None:
    requests = TaskOrder(0, seed=0).requests(0, 4)
    assert [request.index for request in requests] == [None] * 4
    assert len({request.seed for request in requests}) == 4


@pytest.mark.parametrize(("size", "expected"), [(None, [12]), (4, [4, 4, 4]), (9, [8, 4]), (1, [4, 4, 4])])
def test_minibatches_keep_groups_together(size: int | None, expected: list[int]) -> None:
    rollouts = [_rollout(group, member) for group in range(3) for member in range(4)]
    parts = minibatches(rollouts, size, np.random.default_rng(0))
    assert [len(rows) for rows in parts] == expected
    for rows in parts:
        groups = [rollouts[row].group for row in rows]
        assert all(groups.count(group) == 4 for group in groups)
    assert sorted(row for rows in parts for row in rows) == list(range(12))


def test_summary_by_hand() -> None:
    rollouts = [_rollout(0, 0, 1.0), _rollout(0, 1, 3.0, length=4), _rollout(1, 0, 5.0), _rollout(1, 1, valid=False)]
    found = summarise(rollouts, np.array([-1.0, 1.0, 0.0, 0.0], dtype=np.float32))
    assert found["reward_mean"] == found["component/likeness"] == 3.0
    assert found["group_reward_std"] == 0.5
    assert found["informative_groups"] == 0.5
    assert found["valid_rate"] == 0.75
    assert found["response_length"] == 2.5


def test_an_episode_counts_once_however_many_turns_it_has() -> None:
    long = [replace(_rollout(0, 0, 1.0), turn=turn, last=turn == 2, tool_calls=turn) for turn in range(3)]
    rollouts = [*long, replace(_rollout(0, 1, 4.0), tool_calls=1)]
    assert episode_numbers(rollouts).tolist() == [0, 0, 0, 1]
    found = summarise(rollouts, np.zeros(4, dtype=np.float32))
    assert found["reward_mean"] == 2.5
    assert found["group_reward_std"] == 1.5
    assert (found["episodes"], found["turns_mean"], found["tool_calls_mean"]) == (2, 2.0, 2.0)


def test_summary_without_any_reward() -> None:
    found = summarise([_rollout(0, 0, valid=False)], np.zeros(1, dtype=np.float32))
    assert found["valid_rate"] == 0.0
    assert "reward_mean" not in found
