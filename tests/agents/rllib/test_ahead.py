"""Sampling ahead of the learner: bounded age, every group once, and nothing lost with a runner or a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retouch_agents.encoding import Prompt
from retouch_agents.rllib import GRPO, GRPOConfig
from retouch_agents.rllib.ahead import AheadSampler, Batch, Weights
from retouch_agents.rllib.rollouts import GroupRequest, Rollout, SampleResult, TaskOrder
from retouch_gym.errors import ConfigurationError

Build = Callable[..., GRPO]


class FakeRunners:
    """Answers every group with one rollout whose reward is the weights it holds; can lose groups, once each."""

    def __init__(self, lose: Sequence[int] = (), down: Sequence[int] = ()) -> None:
        self.lose = set(lose)
        self.down = set(down)
        self.drawn: list[int] = []
        self.held: Any = None
        self.go = threading.Event()
        self.go.set()

    def pack(self, state: Mapping[str, Any], version: int) -> Any:
        return {**state, "version": version}

    def hand_out(self, packed: Any) -> None:
        self.held = packed

    def sample(self, requests: Sequence[GroupRequest], version: int) -> SampleResult:
        self.go.wait(10)
        assert self.held["version"] == version
        if any(request.group in self.down for request in requests):
            self.down -= {request.group for request in requests}
            return SampleResult()
        kept = [request.group for request in requests if request.group not in self.lose]
        self.lose -= {request.group for request in requests}
        self.drawn.extend(kept)
        return SampleResult([_rollout(group, self.held["weights"]) for group in kept])


def _rollout(group: int, reward: float) -> Rollout:
    empty = np.zeros(0, dtype=np.int64)
    return Rollout(group, 0, "", Prompt(empty, {}, {}), empty, empty.astype(np.float32), reward)


def learn(ahead: AheadSampler, batches: int, start: tuple[int, int] = (0, 0)) -> list[Batch]:
    """What `batches` iterations of a learner get, each of which updates the weights once."""
    found: list[Batch] = []
    learned, updates = start
    for _ in range(batches):
        batch = ahead.next(learned, Weights({"weights": float(updates)}, updates, updates))
        learned += len(batch.requests) - len(batch.missing)
        updates += bool(batch.sampled.rollouts)
        found.append(batch)
    return found


def groups(batches: Sequence[Batch]) -> list[int]:
    return [rollout.group for batch in batches for rollout in batch.sampled.rollouts]


def sampler(runners: FakeRunners, depth: int) -> AheadSampler:
    return AheadSampler(runners, TaskOrder(5, 0), 3, depth)


@pytest.mark.parametrize(("depth", "ages"), [(1, [0, 1, 1, 1, 1]), (2, [0, 1, 2, 2, 2]), (3, [0, 1, 2, 3, 3])])
def test_answers_are_at_most_so_many_updates_old(depth: int, ages: list[int]) -> None:
    ahead = sampler(FakeRunners(), depth)
    batches = learn(ahead, 5)
    assert [now - batch.updates for now, batch in enumerate(batches)] == ages
    # What is noted is what was held.
    assert all(batch.sampled.rollouts[0].reward == batch.updates for batch in batches)
    assert groups(batches) == list(range(15))
    order = TaskOrder(5, 0)
    assert [request for batch in batches for request in batch.requests] == order.requests(0, 15)
    ahead.close()


def test_the_next_batch_is_drawn_while_the_learner_learns() -> None:
    runners = FakeRunners()
    ahead = sampler(runners, 1)
    learn(ahead, 1)
    runners.go.clear()
    # Batch 1 is being drawn, or has been already; with what comes after it the runners wait for the learner.
    assert runners.drawn in ([0, 1, 2], [0, 1, 2, 3, 4, 5])
    runners.go.set()
    assert [batch.requests[0].group for batch in ahead.finished()] == [3]
    ahead.close()


@pytest.mark.parametrize("depth", [1, 2])
def test_lost_groups_are_drawn_again_and_none_twice(depth: int) -> None:
    runners = FakeRunners(lose=[1, 4, 5, 10])
    ahead = sampler(runners, depth)
    batches = learn(ahead, 8)
    assert sum(len(batch.missing) for batch in batches) == 4
    seen = groups(batches)
    assert len(seen) == len(set(seen)), "a group was learned from twice"
    assert set(range(15)) <= set(seen), "a group was left out"
    assert all(
        request.seed == TaskOrder(5, 0).requests(request.group, 1)[0].seed for b in batches for request in b.requests
    )
    ahead.close()


@pytest.mark.parametrize("depth", [1, 2])
def test_when_every_runner_is_down_the_same_groups_are_drawn_again(depth: int) -> None:
    ahead = sampler(FakeRunners(down=[3, 7]), depth)
    batches = learn(ahead, 7)
    assert [] in [list(batch.sampled.rollouts) for batch in batches]
    seen = groups(batches)
    assert seen == list(range(len(seen)))
    ahead.close()


def test_answers_that_are_too_old_are_thrown_away_and_drawn_again() -> None:
    runners = FakeRunners()
    ahead = sampler(runners, 1)
    learn(ahead, 1)
    # Five updates later, for instance on other data.
    batch = ahead.next(3, Weights({"weights": 6.0}, 6, 6))
    assert (batch.updates, [rollout.reward for rollout in batch.sampled.rollouts]) == (6, [6.0] * 3)
    assert groups([batch]) == [3, 4, 5]
    assert runners.drawn[:9] == [0, 1, 2, 3, 4, 5, 3, 4, 5]
    ahead.close()


@pytest.mark.parametrize("depth", [1, 2])
def test_what_is_under_way_goes_into_a_checkpoint(depth: int) -> None:
    straight, cut = (sampler(FakeRunners(lose=[1, 8]), depth) for _ in range(2))
    expected = learn(straight, 6)
    first = learn(cut, 3)
    resumed = sampler(FakeRunners(), depth)
    resumed.restart(cut.finished(), cut.owed)
    rest = learn(resumed, 3, (len(groups(first)), 3))
    assert groups(first) + groups(rest) == groups(expected)
    assert [batch.updates for batch in first + rest] == [batch.updates for batch in expected]
    for ahead in (straight, cut, resumed):
        ahead.close()


def test_settings_that_make_no_sense_are_refused(config: Callable[..., GRPOConfig]) -> None:
    for changes, message in (
        ({"max_staleness": -1}, "max_staleness = -1 should be 0 or more"),
        ({"max_staleness": 1}, r"needs runners beside the learner.*num_env_runners=1"),
        ({"max_staleness": 1, "runners": 1, "dynamic_sampling": True}, "leave out it or dynamic_sampling"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            config(**changes).validate()


@pytest.mark.ray
def test_two_runners_ahead_of_the_learner_a_kill_and_a_checkpoint(build: Build, tmp_path: Path) -> None:
    """One story, as actors take seconds to start."""
    fatal = tmp_path / "fatal"
    algo = build(env={"fatal_file": str(fatal)}, runners=2, max_staleness=1)
    learned: list[int] = []
    learn_from = algo._learn

    def note(lesson: Any) -> dict[str, float]:
        learned.extend(sorted({rollout.group for rollout in lesson.rollouts}))
        return learn_from(lesson)

    algo._learn = note  # type: ignore[method-assign]
    ages = [algo.train()["grpo"]["staleness_max"] for _ in range(3)]
    assert ages == [0, 1, 1]
    # Killed in the middle of a batch that is drawn ahead: the other runner draws it.
    fatal.touch()
    numbers = [algo.train()["grpo"] for _ in range(2)]
    assert not fatal.exists()
    assert [one["answers"] for one in numbers] == [24, 24]
    assert all(one["staleness_max"] == 1 and one["wait_seconds"] <= one["sample_seconds"] + 1 for one in numbers)
    assert learned == list(range(30)), "every group once, in order"

    path = algo.save_to_path(tmp_path / "checkpoint")
    rest = [algo.train()["grpo"] for _ in range(2)]
    algo.stop()
    resumed = GRPO.from_checkpoint(path)
    try:
        again = [resumed.train()["grpo"] for _ in range(2)]
    finally:
        resumed.stop()
    for name in ("reward_mean", "response_length", "staleness_mean"):
        assert [one[name] for one in again] == [one[name] for one in rest]
