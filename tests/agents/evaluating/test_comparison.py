"""Policies beside each other, task by task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from rich.console import Console

from retouch_agents.demo.baselines import constant, prepared, recipe_calls, untouched
from retouch_agents.evaluating.comparison import UNTOUCHED, compare, short_names, table, write
from retouch_gym.datasets.samples import SamplesDataset
from retouch_gym.evaluation import evaluate
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.rewards import Likeness, RewardOutput
from retouch_gym.tasks import Episode
from retouch_gym.types import Unparsable

TASKS = SamplesDataset("test", size=14, resolution=32)


def right() -> Any:
    return prepared([recipe_calls(task.recipe) for task in TASKS if task.recipe is not None])


def test_gains_are_paired_by_task_and_counted_from_the_first() -> None:
    heard: list[int] = []
    found = compare(
        {"warm": constant(Recipe("iea", {"temperature": 40})), "right": right()},
        TASKS,
        reward="likeness",
        batch_size=5,
        heard=heard.append,
    )
    assert list(found.results) == [UNTOUCHED, "warm", "right"]
    assert found.base == "warm"
    assert heard == [5, 5, 4] * 3
    rewards = {name: np.array([row.reward for row in result.rows]) for name, result in found.results.items()}
    gain = found.gain("right")
    assert gain is not None
    assert gain.mean == pytest.approx((rewards["right"] - rewards["warm"]).mean())
    assert gain.low > 0
    assert found.kinds == ["instruct", "restore", "all"]
    by_kind = [found.gain("right", kind) for kind in ("instruct", "restore")]
    assert np.mean([part.mean for part in by_kind if part is not None]) == pytest.approx(gain.mean)
    alone = compare({"right": right()}, TASKS, reward="likeness")
    assert alone.base == UNTOUCHED
    assert alone.results["right"].rows == found.results["right"].rows
    assert alone.results[UNTOUCHED].rows == evaluate(untouched(), TASKS, reward="likeness").rows


class Moody(Likeness):
    """Scores no untouched photo."""

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        return [
            output if episode.recipe.controls else RewardOutput(None, error="nothing to see")
            for episode, output in zip(episodes, super().score(episodes), strict=True)
        ]


def test_what_has_no_reward_is_counted_and_left_out(tmp_path: Path) -> None:
    answers = [recipe_calls(task.recipe) for task in TASKS if task.recipe is not None]
    half = prepared([Unparsable("no") if number % 2 else answer for number, answer in enumerate(answers)])
    found = compare({"right": right(), "half": half}, TASKS, reward=Moody())
    gain = found.gain("half")
    assert gain == (0.0, 0.0, 0.0)
    assert found.gain(UNTOUCHED) is None
    console = Console(width=200, record=True, file=(tmp_path / "table").open("w"))
    console.print(table(found))
    text = console.export_text()
    assert "14 (7 unscored)" in text
    assert "14 (14 unscored)" in text
    assert "gain over right" in text


def test_files_are_complete_and_open(tmp_path: Path) -> None:
    found = compare({"right": right()}, TASKS)
    report, sheet = write(found, TASKS, "native", tmp_path / "deep" / "folder")
    data = json.loads(report.read_text())
    assert data["base"] == UNTOUCHED
    assert len(data["results"]["right"]["rows"]) == 14
    assert data["gains"]["right"]["all"]["mean"] == pytest.approx(
        data["results"]["right"]["summary"]["all"]["reward"]["mean"]
        - data["results"][UNTOUCHED]["summary"]["all"]["reward"]["mean"]
    )
    with PIL.Image.open(sheet) as picture:
        # Seven of fourteen tasks: before, one edit, reference.
        assert picture.size[1] > 7 * 160
    assert sorted(path.name for path in report.parent.iterdir()) == ["contact_sheet.png", "evaluation.json"]


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["runs/a/rl"], ["rl"]),
        (["runs/a/sft", "runs/a/rl"], ["sft", "rl"]),
        (["runs/a/rl", "runs/b/rl"], ["a/rl", "b/rl"]),
        (["rl", "runs/rl"], ["rl", "runs/rl"]),
    ],
)
def test_names_tell_folders_apart(folders: list[str], names: list[str]) -> None:
    assert short_names([Path(folder) for folder in folders]) == names
