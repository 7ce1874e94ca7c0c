from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import ray
import torch
from rich.console import Console
from transformers import AutoModelForImageTextToText

from retouch_agents.metrics_log import MetricsLog
from retouch_agents.models import load_model
from retouch_agents.rllib import start_ray
from retouch_agents.training.reading import read_config
from retouch_agents.training.run import Run

pytestmark = pytest.mark.ray

Train = Callable[..., Any]

SMALL = (
    "model.tiny={hidden: 32, layers: 1, heads: 2, vision_hidden: 16, vision_layers: 1, image_side: 32}",
    "sft.steps=4",
    "sft.batch_size=2",
    "sft.log_every=1",
    "sft.checkpoint_every=2",
    "sft.warmup=1",
    "rl.iterations=2",
    "rl.prompts_per_iteration=2",
    "rl.max_new_tokens=8",
    "rl.num_updates=1",
    "rl.checkpoint_every=1",
    "ray.env_runners=0",
)
GROUPS = ("rl.group_size=2",)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One Ray for all runs of this file, which leave it as they found it; one thread, as the command takes."""
    torch.set_num_threads(1)
    start_ray(num_cpus=2)
    yield
    ray.shutdown()


class Interrupting(Console):
    """A console on which somebody presses Ctrl-C when a text appears."""

    def __init__(self, text: str) -> None:
        super().__init__(file=StringIO(), width=200)
        self.text = text

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*objects, **options)
        if any(self.text in str(item) for item in objects):
            raise KeyboardInterrupt


def rewards(folder: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["reward"]) for row in MetricsLog(folder / "metrics.jsonl").read() if row["stage"] == "rl"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from beginning to end."""
    folder = tmp_path_factory.mktemp("runs") / "straight"
    Run(read_config("laptop", (*SMALL, *GROUPS, f"output={folder}")), Console(file=StringIO())).run()
    return folder


def test_a_run_leaves_models_metrics_and_curves(straight: Path) -> None:
    rows = MetricsLog(straight / "metrics.jsonl").read()
    assert [(row["stage"], row["step"]) for row in rows] == [
        *(("sft", step) for step in (1, 2, 3, 4)),
        *(("rl", step) for step in (1, 2)),
    ]
    assert PIL.Image.open(straight / "curves.png").width > 1000
    assert {path.name for path in (straight / "tensorboard").iterdir()} == {"sft", "rl"}
    assert AutoModelForImageTextToText.from_pretrained(straight / "rl").num_parameters() > 10_000
    names = {path.name for path in straight.iterdir()}
    assert names == {"config.yaml", "curves.png", "metrics.jsonl", "model", "rl", "sft", "tensorboard"}
    before, after = load_model(straight / "model").state_dict(), load_model(straight / "sft").state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_the_settings_beside_a_run_make_the_same_run(straight: Path) -> None:
    config = read_config(straight / "config.yaml")
    assert config == read_config("laptop", (*SMALL, *GROUPS, f"output={straight}"))


def test_a_finished_run_is_not_run_again(train: Train, straight: Path) -> None:
    stamp = (straight / "rl" / "model.safetensors").stat().st_mtime_ns
    changes = (*SMALL, *GROUPS, f"output={straight}")
    refused = train("laptop", *changes)
    assert refused.code == 2
    assert "holds a run already; go on with it by --resume" in refused.err
    said = train("laptop", *changes, "--resume")
    assert said.code == 0, said.err
    assert said.out.count("done already") == 2
    assert (straight / "rl" / "model.safetensors").stat().st_mtime_ns == stamp
    other = train("laptop", *changes, "seed=1", "rl.lr=1", "--resume")
    assert other.code == 2
    assert "seed = 0 there, 1 now; stages.rl.lr = 0.0002 there, 1" in other.err.replace("1.0", "1")


def test_an_interrupted_run_ends_as_an_uninterrupted_one(train: Train, straight: Path, tmp_path: Path) -> None:
    changes = (*SMALL, *GROUPS, f"output={tmp_path / 'cut'}")
    with pytest.raises(KeyboardInterrupt):
        Run(read_config("laptop", changes), Interrupting("sft 3/4")).run()
    with pytest.raises(KeyboardInterrupt):
        Run(read_config("laptop", changes), Interrupting("rl 2/2")).run(resume=True)
    assert not (tmp_path / "cut" / "rl").exists()
    said = train("laptop", *changes, "--resume")
    assert said.code == 0, said.err
    assert "sft: done already" in said.out
    rows = MetricsLog(tmp_path / "cut" / "metrics.jsonl").read()
    assert [(row["stage"], row["step"]) for row in rows] == [*(("sft", n) for n in (1, 2, 3, 4)), ("rl", 1), ("rl", 2)]
    assert rewards(tmp_path / "cut") == rewards(straight)
    expected, found = (load_model(folder / "rl").state_dict() for folder in (straight, tmp_path / "cut"))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize(
    ("name", "changes"), [("laptop_ppo", ()), ("laptop_multiturn", (*GROUPS, "rl.environment.max_turns=2"))]
)
def test_the_other_laptop_configurations_run(
    train: Train, command: Train, tmp_path: Path, name: str, changes: tuple[str, ...]
) -> None:
    said = train(name, *SMALL, *changes, f"output={tmp_path}", "sft.steps=1", "rl.iterations=1")
    assert said.code == 0, said.err
    (row,) = [row for row in MetricsLog(tmp_path / "metrics.jsonl").read() if row["stage"] == "rl"]
    assert np.isfinite(row["reward"])
    assert re.search(r"rl 1/1 +reward [+-]\d\.\d+ +KL .* tokens/s", said.out)
    following = next(line for line in said.out.splitlines() if line.startswith("Next: retouch-gym evaluate "))
    words = shlex.split(following.removeprefix("Next: retouch-gym "))
    said = command(*words, "--max-new-tokens=2", f"--out={tmp_path / 'evaluation'}")
    assert said.code == 0, said.err
    assert "samples, split test: reward" in said.out


def test_a_folder_with_other_things_is_left_alone(train: Train, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    for options in ((), ("--resume",)):
        said = train("laptop", f"output={tmp_path}", *options)
        assert said.code == 2
        assert "holds other things than a run (thesis.txt)" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
