"""What the README and the examples show has to run as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from retouch_agents.tiny import TinySize, build_tiny
from retouch_gym.datasets.grammar import words
from retouch_gym.tools import IEA

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def run(code: list[str], folder: Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *code], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which ``runs/demo/sft`` is a (random) model, as after `make demo`."""
    root = tmp_path_factory.mktemp("user")
    size = TinySize(hidden=32, layers=1, heads=2, vision_hidden=16, vision_layers=1, image_side=32)
    build_tiny(root / "runs" / "demo" / "sft", IEA, words(), size=size)
    return root


def test_the_environment_block_runs(folder: Path) -> None:
    output = run(["-c", BLOCKS[0]], folder)
    assert "Refused, nothing was changed: tint: value = 500" in output
    assert "likeness" in output


@pytest.mark.ray
def test_the_training_block_runs(folder: Path) -> None:
    assert "group_reward_std" in run(["-c", BLOCKS[1]], folder)


def test_the_example_of_an_own_reward(folder: Path) -> None:
    output = run([str(ROOT / "examples" / "own_reward.py")], folder)
    assert "unknown tool 'warmth'" in output
    assert "brightness_shift" in output


def test_the_example_of_a_search_agent(folder: Path) -> None:
    output = run([str(ROOT / "examples" / "search_agent.py"), "--episodes", "2"], folder)
    rewards = [float(text) for text in re.findall(r"likeness (-?[\d.]+)", output)]
    assert len(rewards) == 2
    assert min(rewards) > 0.3


@pytest.mark.ray
def test_the_example_of_training(folder: Path) -> None:
    example = str(ROOT / "examples" / "train_grpo.py")
    small = ["--iterations", "2", "--prompts", "2", "--group-size", "2", "--env-runners", "0", "--out", "grpo"]
    output = run([example, "runs/demo/sft", *small], folder)
    assert output.count("well-formed") == 2
    assert (folder / "grpo" / "model.safetensors").is_file()
