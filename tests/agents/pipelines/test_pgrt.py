"""Training a tiny judge: a few steps of each stage, and the alternation of judge and policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch

from retouch_agents.metrics_log import MetricsLog
from retouch_agents.models import load_model
from retouch_agents.pipelines.pgrt import PGRTConfig, alternate, train_judge
from retouch_agents.pipelines.tiny_judge import TINY_PROMPT, build_tiny_judge, teach_judge
from retouch_agents.reinforce import GRPOStage
from retouch_agents.rllib.cluster import start_ray
from retouch_agents.sft import SFTConfig
from retouch_agents.tiny import TinySize, build_tiny
from retouch_gym.datasets.grammar import words
from retouch_gym.tools.iea import IEA
from retouch_reward_models.grm import GeneralistReward, load_judge_prompt

SIZE = TinySize(hidden=32, layers=1, heads=2, vision_hidden=16, vision_layers=1, image_side=32)
TASKS = {"split": "train", "size": 24, "kinds": ["instruct"]}
PAIRS = ["perturbed", {"dataset": "samples", "dataset_kwargs": TASKS}]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One cluster for all stages, as starting one takes longer than they do."""
    mine = not ray.is_initialized()
    start_ray(num_cpus=2)
    yield
    if mine:
        ray.shutdown()


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_judge(tmp_path_factory.mktemp("judge"), size=SIZE)


def stage(**changes: object) -> GRPOStage:
    settings: dict[str, object] = {
        "env_config": {},
        "iterations": 1,
        "prompts_per_iteration": 2,
        "group_size": 2,
        "env_runners": 0,
        "max_new_tokens": 4,
        **changes,
    }
    return GRPOStage(**settings)  # type: ignore[arg-type]


def changed(before: Path, after: Path) -> bool:
    old, new = (load_model(folder).state_dict() for folder in (before, after))
    return any(not torch.equal(old[name], new[name]) for name in old)


def test_a_judge_is_taught_by_demonstrations(judge: Path, tmp_path: Path) -> None:
    config = SFTConfig(steps=4, batch_size=4, log_every=1, workers=0)
    rows = list(teach_judge(judge, tmp_path / "taught", PAIRS, config))
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert changed(judge, tmp_path / "taught")
    assert load_judge_prompt(tmp_path / "taught")[0] == TINY_PROMPT
    assert GeneralistReward.from_pretrained(tmp_path / "taught").format.name == "lines"


@pytest.mark.ray
def test_a_judge_is_trained_in_its_own_environment(judge: Path, tmp_path: Path, cluster: None) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    said: list[str] = []
    train_judge(judge, tmp_path / "trained", stage(name="judge"), PAIRS, log, said.append)
    (row,) = log.read()
    assert (row["stage"], row["step"]) == ("judge", 1)
    assert 0 <= row["reward"] <= 1.1
    assert {"preference", "format"} <= set(row)
    assert len(said) == 1
    assert load_judge_prompt(tmp_path / "trained")[0] == TINY_PROMPT


@pytest.mark.ray
def test_an_alternation_is_not_done_again(judge: Path, tmp_path: Path, cluster: None) -> None:
    policy = build_tiny(tmp_path / "policy", IEA, words(), size=SIZE)
    # Half-random policies answer nothing that decides a pair: the references against perturbed ones alone.
    config = PGRTConfig(
        dataset_kwargs=TASKS, rounds=1, tasks=2, answers=2, share=0.0, judge=stage(), policy=stage(), margin=0.5
    )
    said: list[str] = []
    last_policy, last_judge = alternate(policy, judge, tmp_path / "out", config, said.append)
    assert (last_policy.name, last_judge.name) == ("policy-1", "judge-1")
    assert any(text.startswith("round 1: judge") for text in said)
    stamps = [(folder / "model.safetensors").stat().st_mtime_ns for folder in (last_policy, last_judge)]
    said.clear()
    assert alternate(policy, judge, tmp_path / "out", config, said.append) == (last_policy, last_judge)
    assert said == []
    assert [(folder / "model.safetensors").stat().st_mtime_ns for folder in (last_policy, last_judge)] == stamps
    rows = MetricsLog(tmp_path / "out" / "metrics.jsonl").read()
    assert [row["stage"] for row in rows] == ["judge-1", "policy-1"]
