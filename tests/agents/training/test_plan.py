from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import ray

Train = Callable[..., Any]

SAMPLES = ("environment.dataset=samples", "environment.dataset_options={split: train}")


def words(text: str) -> str:
    """The text in one line, without the boxes that rich draws."""
    return " ".join(re.sub(r"[─-╿]", " ", text).split())


def test_a_dry_run_prints_stages_memory_and_a_sample(train: Train, tmp_path: Path) -> None:
    running = ray.is_initialized()
    said = train("laptop", "--dry-run", f"output={tmp_path / 'run'}", "sft.steps=10", "rl.iterations=3")
    text = words(said.out)
    assert said.code == 0, said.err
    assert "547,088 parameters" in text
    assert "sft, 10 steps × 32 examples" in text
    # 3 iterations × 16 tasks × 8 episodes, of 64 tokens each.
    assert "grpo, 3 iterations × 16 tasks × 8 episodes 384 ≤ 24,576" in text
    assert "keys and values" in text
    assert "object store" in text
    # 32² pixels in patches of 16² are four image tokens.
    assert "<|image_pad|>×4" in text
    folder = tmp_path / "run" / "dry_run"
    assert "<|image_pad|>×4<|vision_end|>" in (folder / "prompt.txt").read_text(encoding="utf-8")
    assert PIL.Image.open(folder / "photo.png").size == (64, 64)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["dry_run"]
    assert ray.is_initialized() == running


def test_a_conversation_of_several_turns_is_planned(train: Train, tmp_path: Path) -> None:
    said = train("laptop_multiturn", "--dry-run", f"output={tmp_path}", "rl.iterations=1")
    assert said.code == 0, said.err
    assert "× 3 turns 96 ≤ 18,432" in words(said.out)


@pytest.mark.parametrize(
    ("name", "changes", "parameters"),
    [
        ("iea", ("expert.environment.dataset=samples", *SAMPLES), "119,734,272"),
        ("retouchiq", ("environment.toolset=iea", *SAMPLES), "161,480,704"),
    ],
)
def test_a_run_at_the_scale_of_a_paper_is_planned_anywhere(
    train: Train, tmp_path: Path, name: str, changes: tuple[str, ...], parameters: str
) -> None:
    # As if its machines were a cluster, of whose memory nothing is known.
    said = train(name, "--dry-run", f"output={tmp_path}", "logging.wandb=off", "ray.address=auto", *changes)
    assert said.code == 0, said.out
    text = words(said.out)
    assert f"{parameters} trained · bfloat16" in text
    assert "estimated, as the model's processor is not on this machine" in text
    assert "learner" in text


def test_what_would_keep_a_run_from_running_is_said_before(train: Train, tmp_path: Path) -> None:
    said = train("iea", "--dry-run", f"output={tmp_path}", "ray.object_store_mb=100", "environment.reward=nobody:judge")
    text = words(said.out)
    assert said.code == 1
    assert "Problem: expert: " in text
    assert "Cannot load reward 'nobody:judge'" in text
    assert re.search(r"Problem: grpo: the object store holds about \d+ MiB at a time and has 100 MiB", text)
    assert "ray.object_store_mb=" in text


def test_the_shipped_configurations_are_listed(train: Train) -> None:
    said = train("--list")
    assert said.code == 0
    for name in ("laptop", "laptop_ppo", "laptop_multiturn", "iea", "retouchiq"):
        assert re.search(rf"\b{name}\b", said.out)


def test_help_has_examples(train: Train) -> None:
    said = train("--help")
    assert said.code == 0
    assert "retouch-gym train laptop --dry-run" in words(said.out)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("nothing",), "There is no configuration 'nothing'"),
        ((), "Name a configuration"),
        (("laptop", "rl.lr=fast"), 'stages.rl.lr = "fast" should be a valid number'),
    ],
)
def test_mistakes_are_one_line(train: Train, arguments: tuple[str, ...], expected: str) -> None:
    said = train(*arguments)
    assert said.code == 2
    assert said.err.startswith("retouch-gym: ")
    assert expected in said.err
    assert said.err.count("\n") == 1
