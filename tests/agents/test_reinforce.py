from __future__ import annotations

import resource
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import AutoModelForImageTextToText

from retouch_agents.checkpoints import CheckpointError, Checkpoints, Keep
from retouch_agents.metrics_log import MetricsLog
from retouch_agents.models import load_model
from retouch_agents.reinforce import Show, checkpoints_of, reinforce
from retouch_agents.rllib import GRPO
from retouch_agents.rllib.cluster import running_ray

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def cluster() -> object:
    """One Ray for the file: starting one takes seconds."""
    with running_ray(2):
        yield


def same(one: Path, other: Path) -> bool:
    here, there = (load_model(folder).state_dict() for folder in (one, other))
    return all(torch.equal(here[name], there[name]) for name in here)


def quiet(step: int, text: str) -> None:
    """Show nothing."""


def rewards(log: MetricsLog) -> list[tuple[int, float]]:
    return [(row["step"], row["reward"]) for row in log.read()]


def test_checkpoints_are_models_and_states_and_the_best_one_stays(
    dice: ModuleType, seedling: Path, tmp_path: Path
) -> None:
    scores = iter([0.1, 0.7, 0.5])
    seen: list[Path] = []

    def evaluate(policy: Path) -> float:
        seen.append(policy)
        assert AutoModelForImageTextToText.from_pretrained(policy).num_parameters() > 10_000
        return next(scores)

    out, log = tmp_path / "policy", MetricsLog(tmp_path / "metrics.jsonl")
    keep = Keep(last=1, best=True, after=True)
    reinforce(seedling, out, dice.stage(), log, quiet, keep=keep, evaluate=evaluate)

    # Measured at every second iteration, and at the last one.
    assert [row.get("evaluation") for row in log.read()] == [None, 0.1, None, 0.7, None, 0.5]
    checkpoints = Checkpoints(checkpoints_of(out), keep)
    best, latest = checkpoints.best(), checkpoints.latest()
    assert best is not None
    assert latest is not None
    assert (best.step, best.value, latest.step, latest.value) == (4, 0.7, 6, 0.5)
    assert [found.step for found in checkpoints.all()] == [4, 6]
    assert same(latest.policy, out)
    assert not same(best.policy, out)
    assert len({value for _, value in rewards(log)}) > 1, "rewards that agree would teach nothing"

    resumed = GRPO.from_checkpoint(str(best.state))
    try:
        assert resumed.iteration == 4
        assert resumed.train()["grpo"]["reward_mean"] == log.read()[4]["reward"]
        resumed.export_policy(tmp_path / "five")
    finally:
        resumed.stop()

    # The folder can be moved on from: two more iterations.
    longer = dice.stage(iterations=8)
    reinforce(seedling, out, longer, log, quiet, keep=Keep(), evaluate=lambda policy: 0.0)
    assert [row["step"] for row in log.read()] == list(range(1, 9))
    assert not checkpoints_of(out).exists()


def test_without_an_evaluation_the_smoothed_reward_says_what_is_best(
    dice: ModuleType, seedling: Path, tmp_path: Path
) -> None:
    out, log = tmp_path / "policy", MetricsLog(tmp_path / "metrics.jsonl")
    keep = Keep(last=9, best=True, window=2, after=True)
    reinforce(seedling, out, dice.stage(), log, quiet, keep=keep)
    values = [reward for _, reward in rewards(log)]
    found = {one.step: one.value for one in Checkpoints(checkpoints_of(out)).all()}
    assert found == {step: pytest.approx((values[step - 2] + values[step - 1]) / 2) for step in (2, 4, 6)}


def test_a_full_disk_stops_with_an_error_and_training_goes_on_from_the_checkpoint_before(
    dice: ModuleType, seedling: Path, tmp_path: Path
) -> None:
    logs = {name: MetricsLog(tmp_path / f"{name}.jsonl") for name in ("straight", "full")}
    reinforce(seedling, tmp_path / "straight", dice.stage(), logs["straight"], quiet)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(step: int, text: str) -> None:
        if step == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))

    def run(show: Show) -> None:
        reinforce(seedling, tmp_path / "full", dice.stage(), logs["full"], show)

    try:
        with pytest.raises(CheckpointError, match="checkpoint of iteration 2 is untouched: start again to go on"):
            run(fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    kept = Checkpoints(checkpoints_of(tmp_path / "full"))
    assert [found.step for found in kept.all()] == [2]
    assert not (tmp_path / "full").exists()
    run(quiet)
    assert rewards(logs["full"]) == rewards(logs["straight"])
    assert [step for step, _ in rewards(logs["full"])] == [1, 2, 3, 4, 5, 6]
    assert same(tmp_path / "full", tmp_path / "straight")
    assert not kept.folder.exists()
