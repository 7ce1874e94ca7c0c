"""Held-out evaluation of the demo: baselines, the agent after each stage, and the agent blindfolded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retouch_agents.contact_sheet import Example, contact_sheet
from retouch_agents.demo.baselines import auto_levels, mean_recipe, prepared, recipe_calls, untouched
from retouch_agents.demo.config import DemoConfig
from retouch_agents.demo.report import Row
from retouch_agents.policy import AgentPolicy, blindfold
from retouch_gym.datasets.base import Dataset, get_dataset
from retouch_gym.evaluation.bootstrap import bootstrap_interval
from retouch_gym.evaluation.evaluate import Policy, evaluate
from retouch_gym.evaluation.result import EpisodeRow
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import get_renderer
from retouch_gym.rewards.distance import pixel_distance
from retouch_gym.tasks import Task
from retouch_gym.tools.iea import IEA

KINDS = ("instruct", "restore")
SHEET_ROWS = 12
Rows = Sequence[EpisodeRow]


def evaluate_demo(out: Path, config: DemoConfig) -> None:
    """Evaluate everything on the held-out tasks and write ``evaluation.json`` and ``contact_sheet.png``.

    Args:
        out: Folder of the demo with ``sft`` and ``grpo``.
        config: Settings.
    """
    test, train = (_dataset(config, split) for split in ("test", "train"))
    tasks = [test[index] for index in range(len(test))]
    known = [task.recipe for task in tasks if task.recipe is not None]
    grpo = AgentPolicy.from_pretrained(out / "grpo")
    policies: dict[str, Policy] = {
        "untouched": untouched(),
        "mean sliders": _by_kind(tasks, {kind: mean_recipe(train, kind) for kind in KINDS}),
        "generating recipe": prepared([recipe_calls(recipe) for recipe in known]),
        "SFT": AgentPolicy.from_pretrained(out / "sft"),
        "SFT + GRPO": grpo,
        "SFT + GRPO, photo blanked": blindfold(grpo),
    }
    results: dict[str, Rows] = {
        name: evaluate(policy, test, toolset=IEA, reward="edit", batch_size=64).rows
        for name, policy in policies.items()
    }
    report = {
        "config": asdict(config),
        "table": [asdict(row) for row in _table(results, _auto_levels_distances(tasks))],
        "findings": findings(results),
        "episodes": {name: [row.to_dict() for row in rows] for name, rows in results.items()},
    }
    contact_sheet(_examples(tasks, results), out / "contact_sheet.png")
    fresh = out / "evaluation.json.new"
    fresh.write_text(json.dumps(report, indent=1, allow_nan=False), encoding="utf-8")
    fresh.replace(out / "evaluation.json")


def _dataset(config: DemoConfig, split: str) -> Dataset:
    arguments = config.env_config(split)
    return get_dataset(arguments["dataset"], **arguments["dataset_kwargs"])


def _by_kind(tasks: Sequence[Task], recipes: Mapping[str, Recipe]) -> Policy:
    return prepared([recipe_calls(recipes[task.kind]) for task in tasks])


def _auto_levels_distances(tasks: Sequence[Task]) -> dict[str, list[float]]:
    distances: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for task in tasks:
        if task.reference is not None:
            distances[task.kind].append(pixel_distance(auto_levels(task.photo.load()), task.reference.load()))
    return distances


def _column(rows: Rows, field: str, kind: str | None = None) -> NDArray[np.float64]:
    """One figure of every row (of a kind). Every demo task has a reference, so none is missing."""
    chosen = [row for row in rows if kind in (None, row.kind)]
    return np.array(
        [row.components[field] if field in row.components else getattr(row, field) for row in chosen], dtype=np.float64
    )


def _table(results: Mapping[str, Rows], levels: Mapping[str, Sequence[float]]) -> list[Row]:
    table = []
    for kind in KINDS:
        start = _column(results["untouched"], "distance", kind).mean()
        for name, rows in results.items():
            distance = bootstrap_interval(_column(rows, "distance", kind))
            table.append(
                Row(
                    kind=kind,
                    policy=name,
                    valid=float(_column(rows, "valid", kind).mean()),
                    distance=distance,
                    of_untouched=distance.mean / start,
                    reward=bootstrap_interval(_column(rows, "reward", kind)),
                    likeness=float(_column(rows, "likeness", kind).mean()),
                    usefulness=float(_column(rows, "usefulness", kind).mean()),
                )
            )
            if name == "mean sliders":
                distance = bootstrap_interval(levels[kind])
                table.append(Row(kind, "auto-levels", 1.0, distance, distance.mean / start))
    return table


def findings(results: Mapping[str, Rows]) -> dict[str, Any]:
    """The questions that the demo answers, each with a 95% bootstrap interval over held-out tasks.

    Keys: ``valid`` (share of GRPO's answers that could be carried out), ``instruct_sft_of_untouched``,
    ``restore_sft_minus_untouched`` and ``restore_grpo_minus_untouched`` (paired differences in distance),
    ``restore_grpo_of_untouched``, ``grpo_gain`` (paired difference in edit reward over SFT, both kinds
    pooled) and the same by kind, ``restore_blanked_of_sighted`` (ratio of mean distances).
    """

    def column(name: str, field: str, kind: str | None = None) -> NDArray[np.float64]:
        return _column(results[name], field, kind)

    def ratio(name: str, base: str, kind: str) -> float:
        return float(column(name, "distance", kind).mean() / column(base, "distance", kind).mean())

    def gain(kind: str | None) -> tuple[float, float, float]:
        return bootstrap_interval(column("SFT + GRPO", "reward", kind) - column("SFT", "reward", kind))

    sighted, blanked, start = "SFT + GRPO", "SFT + GRPO, photo blanked", "untouched"
    return {
        "valid_sft": float(column("SFT", "valid").mean()),
        "valid": float(column(sighted, "valid").mean()),
        "instruct_sft_of_untouched": ratio("SFT", start, "instruct"),
        "instruct_grpo_of_untouched": ratio(sighted, start, "instruct"),
        "restore_sft_of_untouched": ratio("SFT", start, "restore"),
        "restore_grpo_of_untouched": ratio(sighted, start, "restore"),
        "restore_sft_minus_untouched": bootstrap_interval(
            column("SFT", "distance", "restore") - column(start, "distance", "restore")
        ),
        "restore_grpo_minus_untouched": bootstrap_interval(
            column(sighted, "distance", "restore") - column(start, "distance", "restore")
        ),
        "grpo_gain": gain(None),
        "grpo_gain_instruct": gain("instruct"),
        "grpo_gain_restore": gain("restore"),
        "restore_blanked_of_sighted": ratio(blanked, sighted, "restore"),
    }


def _examples(tasks: Sequence[Task], results: Mapping[str, Rows]) -> list[Example]:
    """Every kind in turn, spread over the test set, not picked by result."""
    picked: list[int] = []
    for kind in KINDS:
        indices = [index for index, task in enumerate(tasks) if task.kind == kind]
        picked += indices[:: max(1, len(indices) // (SHEET_ROWS // 2))][: SHEET_ROWS // 2]
    renderer = get_renderer("native")
    examples = []
    for index in picked:
        task, rows = tasks[index], {name: results[name][index] for name in ("SFT", "SFT + GRPO")}
        photo = task.photo.load()
        edited = renderer.render([photo] * len(rows), [row.recipe for row in rows.values()])
        photos = [("before", photo), *zip(("SFT", "GRPO"), edited, strict=True)]
        if task.reference is not None:
            photos.append(("reference", task.reference.load()))
        notes = [f"{name}: {_calls(row)}" for name, row in rows.items()]
        if task.recipe is not None:
            notes.append(f"reference: {dict(task.recipe.controls)}")
        examples.append(Example(f"[{task.kind}] {task.instruction}", photos, notes))
    return examples


def _calls(row: EpisodeRow) -> str:
    if not row.valid:
        return "answer not valid"
    return f"{dict(row.recipe.controls)}  distance {row.untouched_distance:.3f} -> {row.distance:.3f}"
