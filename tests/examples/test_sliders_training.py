"""The numeric view under the real stable-baselines3 and RLlib: short runs of the examples."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest

pytest.importorskip("stable_baselines3")

from stable_baselines3.common.env_checker import check_env

EXAMPLES = Path(__file__).parents[2] / "examples"
TASKS = ["--train-tasks", "24", "--test-tasks", "12"]


@pytest.fixture
def example() -> Iterator[Any]:
    """Imports an example by its name."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.mark.parametrize(
    ("actions", "words", "flat", "task"),
    list(
        itertools.product(
            ["box", "multi-discrete", "discrete"],
            ["hash", "tokens", "none"],
            [False, True],
            ["edit", "transfer"],
        )
    ),
)
def test_stable_baselines_checker_has_nothing_to_say(actions: str, words: str, flat: bool, task: str) -> None:
    options = {"actions": actions, "words": words, "flat": flat, "task": task}
    env = gymnasium.make("retouch_gym:Retouch/Sliders-v0", dataset_kwargs={"size": 4}, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


@pytest.mark.parametrize(("algorithm", "view"), [("ppo", "flat"), ("ppo", "dict"), ("sac", "flat"), ("sac", "dict")])
def test_stable_baselines_updates_and_reports(algorithm: str, view: str, example: Any, tmp_path: Path) -> None:
    train_sb3 = example("train_sb3")
    small = (
        {"n_steps": 4, "batch_size": 32, "n_epochs": 1}
        if algorithm == "ppo"
        else {"learning_starts": 16, "batch_size": 8}
    )
    options = ["--algorithm", algorithm, "--view", view, "--steps", "256", *TASKS, "--out", str(tmp_path)]
    result = train_sb3.main(options, **small)
    assert result == json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result["steps"] >= 256
    assert set(result["rewards"]) >= {"trained", "untouched", "random"}
    assert result["rewards"]["untouched"]["mean"] == 0
    assert (tmp_path / "curve.png").stat().st_size > 5_000
    # Two different points of the curve: the policy that is examined is the one that learns.
    assert len({point["mean"] for point in result["curve"]}) > 1
    assert (tmp_path / "policy.zip").is_file()


@pytest.mark.ray
def test_rllib_updates_and_reports(example: Any, tmp_path: Path) -> None:
    train_rllib = example("train_rllib_sliders")
    options = ["--steps", "128", "--batch", "64", "--env-runners", "1", *TASKS, "--out", str(tmp_path)]
    result = train_rllib.main(options)
    assert result["steps"] >= 128
    assert (tmp_path / "curve.png").stat().st_size > 5_000
    assert len({point["mean"] for point in result["curve"]}) > 1
