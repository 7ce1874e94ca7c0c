"""What training needs is killed under it, with SIGKILL; the run ends as one that nothing happened to."""

from __future__ import annotations

import multiprocessing
import os
import random
import runpy
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
from ray.exceptions import RayError

from retouch_agents.checkpoints import Checkpoints
from retouch_agents.metrics_log import MetricsLog
from retouch_agents.models import load_model
from retouch_agents.reinforce import checkpoints_of, reinforce
from retouch_reward_models.serving.pool import RewardPool

pytestmark = pytest.mark.ray
STEPS = [1, 2, 3, 4, 5, 6]
LEARNER = "ray::_WrappedExecutable"
"""Title of a remote learner's process."""
COMPARED = ("reward", "reward_std", "response_length", "kl", "entropy")


@dataclass
class Run:
    """A stage in a folder of its own."""

    model: Path
    out: Path
    shown: list[tuple[int, str]] = field(default_factory=list)

    @property
    def log(self) -> MetricsLog:
        return MetricsLog(self.out.with_suffix(".jsonl"))

    def train(self, stage: Any, at: Callable[[int], None] = lambda step: None, **options: Any) -> Run:
        """Train; `at` is called after every iteration."""

        def show(step: int, text: str) -> None:
            self.shown.append((step, text))
            if text.startswith("reward"):
                at(step)

        reinforce(self.model, self.out, stage, self.log, show, **options)
        return self

    def must_equal(self, other: Run, tolerance: float = 0.0) -> None:
        """One row for every iteration, with the same numbers, and the same weights."""
        rows, others = self.log.read(), other.log.read()
        assert [row["step"] for row in rows] == STEPS
        assert all(row["valid_rate"] == 1.0 and row["lost_groups"] == 0 for row in rows)
        for row, one in zip(rows, others, strict=True):
            expected = pytest.approx([one[name] for name in COMPARED], rel=max(tolerance, 1e-6))
            assert [row[name] for name in COMPARED] == expected
        assert self.distance(other) <= tolerance

    def distance(self, other: Run) -> float:
        """The largest difference of two weights."""
        here, there = (load_model(run.out).state_dict() for run in (self, other))
        return max(float((here[name] - there[name]).abs().max()) for name in here)


@pytest.fixture
def run(seedling: Path, tmp_path: Path, cluster: None) -> Run:
    return Run(seedling, tmp_path / "policy")


@pytest.fixture(scope="module")
def straight(seedling: Path, tmp_path_factory: pytest.TempPathFactory, dice: ModuleType, cluster: None) -> Run:
    """The run that nothing happens to, in this process alone."""
    found = Run(seedling, tmp_path_factory.mktemp("straight") / "policy").train(dice.stage())
    assert len({row["reward"] for row in found.log.read()}) == len(STEPS), "rewards that agree would show nothing"
    assert found.distance(Run(seedling, seedling)) > 1e-2
    return found


def kill(title: str) -> None:
    """Kill the worker of this test's Ray with this title."""
    children = psutil.Process().children(recursive=True)
    (found,) = [child for child in children if " ".join(child.cmdline()).startswith(title)]
    found.send_signal(signal.SIGKILL)


def test_an_env_runner_in_the_middle_of_sampling(run: Run, straight: Run, dice: ModuleType, tmp_path: Path) -> None:
    marker = tmp_path / "die"
    stage = dice.stage({"reward": dice.Fatal(str(marker))}, env_runners=2)
    run.train(stage, lambda step: marker.touch() if step == 2 else None)
    assert not marker.exists(), "nobody died"
    # Prompts in other batches are rounded otherwise; the weights move by a hundred times as much and more.
    run.must_equal(straight, 1e-4)


def test_an_actor_of_the_reward_pool_in_the_middle_of_a_batch(
    run: Run, straight: Run, dice: ModuleType, tmp_path: Path
) -> None:
    marker = tmp_path / "die"
    pool = RewardPool(dice.Fatal, {"marker": str(marker)}, num_cpus=0, min_actors=1, max_actors=2, timeout_s=60)
    try:
        stage = dice.stage({"reward": pool})
        run.train(stage, lambda step: marker.touch() if step in (2, 4) else None)
        fleet = next(iter(pool.stats()["fleets"].values()))
        assert (fleet["deaths"], fleet["retries"]) == (2, 2)
    finally:
        pool.close()
    run.must_equal(straight)


def test_the_learner_while_it_learns_and_while_it_saves(run: Run, straight: Run, dice: ModuleType) -> None:
    stage = dice.stage(learners=1)
    # Without restarts, its loss is an error, and starting again goes on.
    with pytest.raises(RayError):
        run.train(stage, lambda step: kill(LEARNER) if step == 3 else None, restarts=0)
    assert not run.out.exists()
    assert [step for step, _ in run.shown] == [1, 2, 3]
    killed = []

    def evaluate(policy: Path) -> float:
        # The policy of iteration 4 is written, RLlib's state is not.
        if policy.parent.name == "step-000004.new" and not killed:
            killed.append(kill(LEARNER))
        return 0.0

    run.train(stage, evaluate=evaluate)
    assert [step for step, _ in run.shown[3:]] == [3, 4, 2, 3, 4, 5, 6]
    assert "a learner was lost" in run.shown[5][1]
    run.must_equal(straight)


def test_the_driver_at_any_moment(run: Run, straight: Run, dice: ModuleType) -> None:
    """Two kills: while a checkpoint is written, and at a moment that a die chooses."""
    settings = {"model": str(run.model), "out": str(run.out), "stage": {}, "keep_last": 1}
    # Children come from a server that has imported everything already.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["retouch_agents.reinforce"])

    def start() -> Any:
        child = processes.Process(target=runpy.run_path, args=(dice.__file__, {"RUN": settings}, "__main__"))
        child.start()
        return child

    def kill_when(condition: Callable[[], bool], delay: float) -> None:
        child = start()
        while not condition():
            assert child.is_alive(), "the run ended before it could be killed"
            time.sleep(0.002)
        time.sleep(delay)
        os.kill(child.pid, signal.SIGKILL)
        child.join()

    checkpoints = Checkpoints(checkpoints_of(run.out))
    kill_when(lambda: any(checkpoints.folder.glob("*.new/policy/*")), 0.0)
    delay = random.uniform(0, 0.5)
    kill_when(lambda: len(run.log.read()) >= 3, delay)
    child = start()
    child.join(120)
    assert child.exitcode == 0, f"the delay was {delay}"
    run.must_equal(straight)
    assert not checkpoints.folder.exists()
