"""GRPO with two remote runners: same samples, weights in step, and a killed runner that comes back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.rllib.core import DEFAULT_MODULE_ID

from retouch_agents.rllib import GRPO

pytestmark = pytest.mark.ray
Build = Callable[..., GRPO]
Weights = dict[str, np.ndarray]


def learner_weights(algo: GRPO) -> Weights:
    found: Weights = algo.learner_group._learner.module[DEFAULT_MODULE_ID].get_state(inference_only=True)
    return found


def runner_weights(algo: GRPO) -> dict[int, Weights]:
    pairs = algo.env_runner_group.foreach_env_runner(
        lambda runner: (runner.worker_index, runner.get_state()["rl_module"]), local_env_runner=False
    )
    return dict(pairs)


def process_ids(algo: GRPO) -> dict[int, int]:
    pairs = algo.env_runner_group.foreach_env_runner(
        lambda runner: (runner.worker_index, os.getpid()), local_env_runner=False
    )
    return dict(pairs)


def equal(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def await_both(algo: GRPO, seconds: float = 180.0) -> dict[str, Any]:
    """Train until both runners are back. A restart takes seconds on a free machine and far longer on a busy one."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result: dict[str, Any] = algo.train()
        if result["fault_tolerance"]["num_healthy_workers"] == 2 and len(process_ids(algo)) == 2:
            return result
    raise AssertionError("the killed runner did not come back")


def in_step(algo: GRPO, runners: set[int]) -> bool:
    held = runner_weights(algo)
    return set(held) == runners and all(equal(weights, learner_weights(algo)) for weights in held.values())


def test_ray_is_reachable_from_this_machine_alone(cluster: None) -> None:
    assert ray.util.get_node_ip_address() == "127.0.0.1"
    assert {node["NodeManagerAddress"] for node in ray.nodes()} == {"127.0.0.1"}


def test_two_runners_train_survive_a_kill_and_resume(build: Build, tmp_path: Path) -> None:
    """One story, as two actors take seconds to start."""
    fatal = tmp_path / "fatal"
    local, algo = build(), build(env={"fatal_file": str(fatal)}, runners=2)
    assert in_step(algo, {1, 2})

    # The same tasks and answers as one runner, and so the same weights.
    requests = algo._order.requests(0, 6)
    theirs, ours = algo._pool.sample(requests, 0).rollouts, local._pool.sample(requests, 0).rollouts
    assert [r.task_id for r in theirs] == [r.task_id for r in ours]
    assert [r.token_ids.tolist() for r in theirs] == [r.token_ids.tolist() for r in ours]
    first = algo.train()["grpo"]
    assert first["reward_mean"] == local.train()["grpo"]["reward_mean"]
    assert in_step(algo, {1, 2})
    moved = learner_weights(algo)
    assert all(np.allclose(array, moved[name], atol=1e-4) for name, array in learner_weights(local).items())

    # A runner is killed while it samples: its groups are handed to the other one, and nothing is lost.
    before = process_ids(algo)
    fatal.touch()
    result = algo.train()
    assert not fatal.exists()
    assert result["grpo"]["lost_groups"] == 0
    assert result["grpo"]["answers"] == 24
    assert not equal(moved, learner_weights(algo))

    # It comes back, in a new process, with the weights of now.
    result = await_both(algo)
    after = process_ids(algo)
    assert sum(after[index] != before[index] for index in (1, 2)) == 1
    assert in_step(algo, {1, 2})
    assert result["grpo"]["answers"] == 24

    # The same, killed from outside between two iterations.
    os.kill(after[1], signal.SIGKILL)
    numbers = algo.train()["grpo"]
    assert numbers["answers"] == 24
    assert numbers["lost_groups"] == 0
    await_both(algo)
    assert in_step(algo, {1, 2})

    # Both at once: an iteration goes by without answers, and its tasks are drawn again.
    for process in process_ids(algo).values():
        os.kill(process, signal.SIGKILL)
    drawn = algo._groups_drawn
    assert algo.train()["grpo"]["answers"] == 0
    assert algo._groups_drawn == drawn
    assert algo.train()["grpo"]["answers"] == 24
    await_both(algo)
    assert in_step(algo, {1, 2})

    # A checkpoint brings every runner to its weights.
    path = algo.save_to_path(tmp_path / "checkpoint")
    saved, iterations = learner_weights(algo), algo.training_iteration
    algo.train()
    algo.restore_from_path(path)
    assert equal(learner_weights(algo), saved)
    assert in_step(algo, {1, 2})
    expected = algo.train()["grpo"]["reward_mean"]
    algo.stop()

    resumed = GRPO.from_checkpoint(path)
    try:
        assert resumed.training_iteration == iterations
        assert equal(learner_weights(resumed), saved)
        assert in_step(resumed, {1, 2})
        assert resumed.train()["grpo"]["reward_mean"] == expected
    finally:
        resumed.stop()


def test_a_runner_with_old_weights_is_found_and_mended(build: Build) -> None:
    algo = build(runners=1)
    algo.train()

    def forget(runner: object) -> None:
        for parameter in runner.module.parameters():  # type: ignore[attr-defined]
            parameter.data.zero_()
        runner.weights_version = -1  # type: ignore[attr-defined]

    algo.env_runner_group.foreach_env_runner(forget, local_env_runner=False)
    assert not in_step(algo, {1})
    version = algo._weights_version
    assert algo._pool.stale(version) == [1]
    assert not algo._pool.sample(algo._order.requests(0, 2), version).rollouts, "old weights must not sample"
    numbers = algo.train()["grpo"]
    # Zeroed weights would sample uniformly, far from the learner's probabilities.
    assert numbers["policy_shift"] < 1e-6
    assert in_step(algo, {1})
