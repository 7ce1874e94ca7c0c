from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from rich.console import Console
from transformers import AutoModelForImageTextToText

from retouch_agents.demo.baselines import auto_levels, mean_recipe
from retouch_agents.demo.config import DemoConfig
from retouch_agents.demo.pipeline import Demo
from retouch_agents.metrics_log import MetricsLog
from retouch_agents.models import load_model
from retouch_agents.reinforce import GRPOStage, reinforce
from retouch_agents.tiny import TinySize, build_tiny
from retouch_gym.datasets import get_dataset
from retouch_gym.errors import ConfigurationError
from retouch_gym.tools import IEA

SMALL = DemoConfig(
    sft_steps=4, sft_batch=4, grpo_iterations=2, prompts_per_iteration=2, group_size=2, env_runners=0, test_tasks=16
)


@pytest.mark.ray
def test_the_main_job_runs_resumes_and_says_when_it_is_done(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    Demo(out, SMALL, Console(quiet=True)).run()
    report = json.loads((out / "evaluation.json").read_text())
    assert {row["policy"] for row in report["table"]} >= {"untouched", "auto-levels", "SFT", "SFT + GRPO"}
    oracle = [row for row in report["table"] if row["policy"] == "generating recipe" and row["kind"] == "instruct"]
    assert oracle[0]["distance"][0] == 0
    rows = MetricsLog(out / "metrics.jsonl").read()
    assert [row["step"] for row in rows if row["stage"] == "grpo"] == [1, 2]
    for picture in ("learning_curve.png", "contact_sheet.png"):
        assert PIL.Image.open(out / picture).size[0] > 500
    assert AutoModelForImageTextToText.from_pretrained(out / "grpo").num_parameters() > 100_000

    # The last stage alone is run again when only its result is missing.
    (out / "evaluation.json").unlink()
    stamp = (out / "grpo" / "model.safetensors").stat().st_mtime_ns
    Demo(out, SMALL, Console(quiet=True)).run()
    again = json.loads((out / "evaluation.json").read_text())
    assert again["episodes"] == report["episodes"]
    assert (out / "grpo" / "model.safetensors").stat().st_mtime_ns == stamp

    console = Console(record=True, width=140, file=(tmp_path / "log").open("w"))
    Demo(out, SMALL, console).run()
    assert "Already done" in console.export_text()
    with pytest.raises(ConfigurationError, match=r"seed = 0 there, 1 now"):
        Demo(out, replace(SMALL, seed=1), Console(quiet=True)).run()


@pytest.mark.ray
def test_interrupted_reinforcement_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    doubles = "retouch_gym.testing.doubles"
    env = {"dataset": f"{doubles}:TinyDataset", "renderer": f"{doubles}:TinyRenderer", "reward": "edit", "max_turns": 1}
    stage = GRPOStage(env, iterations=4, prompts_per_iteration=2, group_size=2, env_runners=0, checkpoint_every=2)
    size = TinySize(hidden=32, layers=1, heads=2, vision_hidden=16, vision_layers=1, image_side=32)
    model = build_tiny(tmp_path / "model", IEA, ["cooler", "brighter"], size=size)

    def stop_at_three(step: int, text: str) -> None:
        if step == 3:
            raise KeyboardInterrupt

    logs = {name: MetricsLog(tmp_path / f"{name}.jsonl") for name in ("straight", "cut")}
    reinforce(model, tmp_path / "straight", stage, logs["straight"], lambda step, text: None)
    with pytest.raises(KeyboardInterrupt):
        reinforce(model, tmp_path / "cut", stage, logs["cut"], stop_at_three)
    assert not (tmp_path / "cut").exists()
    reinforce(model, tmp_path / "cut", stage, logs["cut"], lambda step, text: None)

    rewards = {name: [(row["step"], row["reward"]) for row in log.read()] for name, log in logs.items()}
    assert rewards["cut"] == rewards["straight"]
    assert [step for step, _ in rewards["cut"]] == [1, 2, 3, 4]
    straight, again = (load_model(tmp_path / name).state_dict() for name in logs)
    assert all(torch.equal(straight[name], again[name]) for name in straight)
    assert not (tmp_path / "cut.checkpoint").exists()


def test_a_folder_with_other_things_is_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(ConfigurationError, match="holds other things"):
        Demo(tmp_path, SMALL, Console(quiet=True)).run(fresh=True)
    assert (tmp_path / "thesis.txt").is_file()


def test_metrics_are_rewound_to_the_checkpoint(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        log.append("sft", {"step": step, "loss": float("nan")})
    log.append("grpo", {"step": 1, "reward": 0.5})
    with log.path.open("a") as file:
        file.write('{"stage": "grpo", "st')
    log.rewind("sft", 2)
    assert [(row["stage"], row["step"]) for row in log.read()] == [("sft", 1), ("sft", 2), ("grpo", 1)]
    assert log.read()[0]["loss"] is None


def test_auto_levels_stretches_a_flat_photo() -> None:
    flat = np.random.default_rng(0).integers(100, 140, (32, 32, 3), dtype=np.uint8)
    assert np.ptp(auto_levels(flat)) > 200


def test_the_mean_recipe_is_an_integer_recipe_in_range() -> None:
    dataset = get_dataset("samples", split="train", size=40)
    recipe = mean_recipe(dataset, "instruct", count=15)
    assert all(isinstance(value, int) and -100 <= value <= 100 for value in recipe.controls.values())
