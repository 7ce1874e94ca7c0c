"""``retouch-gym evaluate`` as a user calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retouch_agents.policy import AgentPolicy
from retouch_gym.datasets.samples import SamplesDataset
from retouch_gym.evaluation import evaluate

Command = Callable[..., Any]
FEW = '{"split": "test", "size": 6, "resolution": 32}'


def test_policies_are_measured_and_shown(command: Command, seedling: Path, tmp_path: Path) -> None:
    options = ("--dataset-kwargs", FEW, "--max-new-tokens=8", f"--out={tmp_path}")
    said = command("evaluate", str(seedling), "--blanked", *options)
    assert said.code == 0, said.err
    for text in ("untouched", seedling.name, f"{seedling.name}, blanked", "gain over", "instruct", "restore", "all"):
        assert text in said.out
    rows = json.loads((tmp_path / "evaluation.json").read_text())["results"][seedling.name]["rows"]
    tasks = SamplesDataset("test", size=6, resolution=32)
    expected = evaluate(AgentPolicy.from_pretrained(seedling, max_new_tokens=8), tasks, reward="edit").to_dict()["rows"]
    assert rows == json.loads(json.dumps(expected))
    assert (tmp_path / "contact_sheet.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dataset-kwargs", "size=6"), "--dataset-kwargs 'size=6' is no JSON"),
        (("--dataset-kwargs", "[6]"), "should be a JSON object"),
        (("--dataset-kwargs", FEW, "--reward", "beauty"), "beauty"),
        (("--dataset-kwargs", FEW, "--toolset", "lightrom"), "Did you mean 'lightroom'"),
    ],
)
def test_what_it_cannot_do_is_said(command: Command, seedling: Path, arguments: tuple[str, ...], message: str) -> None:
    said = command("evaluate", str(seedling), *arguments)
    assert said.code == 2
    assert message in " ".join(said.err.split())


def test_a_folder_without_a_model_is_named(command: Command, tmp_path: Path) -> None:
    said = command("evaluate", str(tmp_path / "nothing"), "--dataset-kwargs", FEW)
    assert said.code == 2
    assert "nothing" in said.err
