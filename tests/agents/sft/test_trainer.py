from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from retouch_agents.finetuning import FineTuning
from retouch_agents.models import load_model
from retouch_agents.sft import Demonstrations, SFTConfig, SFTTrainer
from retouch_gym.errors import ConfigurationError

ENV = {
    "dataset": "retouch_gym.testing.doubles:TinyDataset",
    "renderer": "retouch_gym.testing.doubles:TinyRenderer",
    "reward": "edit",
}
CONFIG = SFTConfig(steps=6, batch_size=4, workers=0, log_every=1, checkpoint_every=3, warmup=2)
Weights = Callable[[Path], dict[str, torch.Tensor]]


def train(base: Path, output: Path, data: Any = ENV, validation: Any = None, **changes: Any) -> list[dict[str, float]]:
    return list(SFTTrainer(base, output, data, replace(CONFIG, **changes), validation=validation).train())


def losses(rows: list[dict[str, float]]) -> list[float]:
    return [row["loss"] for row in rows]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_every_parameter_moves_and_the_loss_falls(base: Path, tmp_path: Path, weights: Weights) -> None:
    rows = train(base, tmp_path / "sft", steps=30)
    before, after = weights(base), weights(tmp_path / "sft")
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert still == []
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    assert [row["step"] for row in rows] == list(range(1, 31))


@pytest.fixture
def gradients(
    base: Path, tmp_path: Path, mixed: Demonstrations
) -> Iterator[Callable[..., tuple[list[torch.Tensor], dict[str, float]]]]:
    """The gradient of one step on eight mixed examples, before clipping, and the step's row."""

    def measure(**changes: Any) -> tuple[list[torch.Tensor], dict[str, float]]:
        settings = replace(CONFIG, steps=1, batch_size=8, max_grad_norm=1e9, **changes)
        trainer = SFTTrainer(base, tmp_path / "step", mixed, settings)
        found: list[torch.Tensor] = []
        step = trainer.optimizer.adamw.step

        def spy() -> None:
            found.extend(master.grad.clone() for master in trainer.optimizer.masters if master.grad is not None)
            step()

        trainer.optimizer.adamw.step = spy  # type: ignore[assignment, method-assign]  # sees what the step sees
        (row,) = trainer.train()
        assert len(found) == len(trainer.optimizer.masters)
        return found, row

    return measure


@pytest.mark.parametrize("split", [{"micro_batches": 8}, {"max_tokens_per_micro_batch": 150}])
def test_the_gradient_does_not_depend_on_how_a_step_is_split(
    gradients: Callable[..., Any], split: dict[str, int]
) -> None:
    whole, row = gradients()
    parts, part_row = gradients(**split)
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, atol=1e-6, rtol=1e-4)
    assert part_row["loss"] == pytest.approx(row["loss"], rel=1e-5)
    assert part_row["padding"] < row["padding"]


def test_examples_of_like_length_share_a_batch(base: Path, tmp_path: Path, mixed: Demonstrations) -> None:
    plain = train(base, tmp_path / "plain", mixed)
    bucketed = train(base, tmp_path / "bucketed", mixed, bucket=3)
    padding = [sum(row["padding"] for row in rows) / len(rows) for rows in (plain, bucketed)]
    assert padding[1] < 0.6 * padding[0]


@pytest.mark.parametrize("changes", [{}, {"bucket": 5}, {"dtype": "bfloat16"}])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    base: Path, tmp_path: Path, mixed: Demonstrations, weights: Weights, changes: dict[str, Any]
) -> None:
    settings = replace(CONFIG, **changes)
    expected = train(base, tmp_path / "straight", mixed, **changes)
    rows = []
    for row in SFTTrainer(base, tmp_path / "cut", mixed, settings).train():
        rows.append(row)
        if row["step"] == 4:
            break
    resumed = SFTTrainer(base, tmp_path / "cut", mixed, settings)
    assert resumed.step == 3
    rows = [row for row in rows if row["step"] <= resumed.step] + list(resumed.train())
    assert losses(rows) == losses(expected)
    assert same(weights(tmp_path / "straight"), weights(tmp_path / "cut"))
    assert [path.name for path in tmp_path.iterdir() if "checkpoint" in path.name] == []


def test_a_killed_run_ends_as_an_uninterrupted_one(base: Path, tmp_path: Path, weights: Weights) -> None:
    expected = train(base, tmp_path / "straight")
    script = f"""
        import json, os, signal
        from retouch_agents.sft import SFTConfig, SFTTrainer
        config = SFTConfig(steps=6, batch_size=4, workers=0, log_every=1, checkpoint_every=3, warmup=2)
        data = json.loads({json.dumps(json.dumps(ENV))})
        for row in SFTTrainer({str(base)!r}, {str(tmp_path / "killed")!r}, data, config).train():
            if row["step"] == 5:
                os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, timeout=120, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    rows = train(base, tmp_path / "killed")
    assert [row["step"] for row in rows] == [4, 5, 6]
    assert losses(rows) == losses(expected)[3:]
    assert same(weights(tmp_path / "straight"), weights(tmp_path / "killed"))


def test_another_order_of_examples_is_no_resumption(base: Path, tmp_path: Path, mixed: Demonstrations) -> None:
    steps = SFTTrainer(base, tmp_path / "cut", mixed, replace(CONFIG, checkpoint_every=1)).train()
    next(steps)
    with pytest.raises(ConfigurationError, match="made with bucket 0, and this run has 2"):
        SFTTrainer(base, tmp_path / "cut", mixed, replace(CONFIG, bucket=2))


def test_data_workers_give_the_same_batches(base: Path, tmp_path: Path) -> None:
    alone = train(base, tmp_path / "alone", steps=2)
    beside = train(base, tmp_path / "beside", steps=2, workers=1)
    assert losses(alone) == losses(beside)


def test_every_turn_of_a_conversation_is_learned(base: Path, tmp_path: Path, talks: Demonstrations) -> None:
    rows = train(base, tmp_path / "talks", talks, steps=60, validation=talks, validate_every=60)
    assert rows[-1]["validation_loss"] < 0.5 * rows[0]["loss"]


def test_validation_measures_and_keeps_the_best(
    base: Path, tmp_path: Path, mixed: Demonstrations, weights: Weights
) -> None:
    # So hot that it soon gets worse.
    settings = {"steps": 12, "learning_rate": 0.05, "validate_every": 2, "log_every": 3, "validation_examples": 6}
    rows = train(base, tmp_path / "seen", mixed, mixed, **settings)
    plain = train(base, tmp_path / "plain", mixed, **settings)
    assert [row["step"] for row in rows] == [2, 3, 4, 6, 8, 9, 10, 12]
    assert [row["step"] for row in plain] == [3, 6, 9, 12]
    assert same(weights(tmp_path / "seen"), weights(tmp_path / "plain"))
    measured = {int(row["step"]): row["validation_loss"] for row in rows if "validation_loss" in row}
    assert sorted(measured) == [2, 4, 6, 8, 10, 12]
    assert all(0 <= row["validation_accuracy"] <= 1 for row in rows if "validation_accuracy" in row)
    best = SFTTrainer(tmp_path / "seen.best", tmp_path / "again", mixed, replace(CONFIG, steps=1), validation=mixed)
    found = SFTTrainer(tmp_path / "seen.best", tmp_path / "more", mixed, replace(CONFIG, **settings), validation=mixed)
    assert best.model.dtype == torch.float32
    assert found._validate()["validation_loss"] == pytest.approx(min(measured.values()), rel=1e-6)


def test_an_adapter_is_trained_alone_and_resumed(
    base: Path, tmp_path: Path, mixed: Demonstrations, weights: Weights
) -> None:
    tuning = FineTuning(lora_rank=4, lora_dropout=0.1)
    settings = replace(CONFIG, learning_rate=0.02)
    torch.manual_seed(0)  # of the dropout
    straight = list(SFTTrainer(base, tmp_path / "straight", mixed, settings, tuning=tuning).train())
    torch.manual_seed(0)
    cut = SFTTrainer(base, tmp_path / "cut", mixed, settings, tuning=tuning).train()
    rows = [next(cut) for _ in range(4)][:3]
    rows += SFTTrainer(base, tmp_path / "cut", mixed, settings, tuning=tuning).train()
    assert losses(rows) == losses(straight)
    assert losses(straight)[-1] < losses(straight)[0]
    assert (tmp_path / "cut" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    merged, before = weights(tmp_path / "cut"), weights(base)
    assert same(merged, weights(tmp_path / "straight"))
    moved = {name.split(".")[1] for name in before if not torch.equal(before[name], merged[name])}
    assert moved == {"language_model"}


def test_a_frozen_tower_stays_as_it_is(base: Path, tmp_path: Path, mixed: Demonstrations, weights: Weights) -> None:
    trainer = SFTTrainer(base, tmp_path / "out", mixed, CONFIG, tuning=FineTuning(freeze_vision=True))
    frozen = {name for name, parameter in trainer.model.named_parameters() if not parameter.requires_grad}
    list(trainer.train())
    before, after = weights(base), weights(tmp_path / "out")
    assert frozen
    assert {name for name in before if torch.equal(before[name], after[name])} == frozen


def test_a_model_in_bfloat16_learns(base: Path, tmp_path: Path, mixed: Demonstrations) -> None:
    rows = train(base, tmp_path / "half", mixed, steps=20, dtype="bfloat16", micro_batches=2)
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert load_model(tmp_path / "half", dtype=torch.bfloat16).dtype == torch.bfloat16
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 10, "micro_batches": 3}, "cannot be split"),
        ({"micro_batches": 2, "max_tokens_per_micro_batch": 9, "batch_size": 4}, "both say how a step is split"),
        ({"bucket": -1}, "bucket is -1; expected 0 or more"),
        ({"dtype": "float16"}, "expected one of float32, bfloat16"),
        ({"source": "ray", "workers": 0}, "set workers to 1 or more"),
    ],
)
def test_settings_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SFTConfig(**changes)
