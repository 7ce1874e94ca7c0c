"""Several policies on the same tasks: results, paired differences, tables and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from retouch_agents.contact_sheet import Example, contact_sheet
from retouch_agents.demo.baselines import untouched
from retouch_gym.datasets.base import Dataset
from retouch_gym.evaluation.bootstrap import Interval, bootstrap_interval
from retouch_gym.evaluation.evaluate import Policy, evaluate
from retouch_gym.evaluation.result import OVERALL, EpisodeRow, EvaluationResult
from retouch_gym.renderers.base import Renderer, get_renderer
from retouch_gym.rewards.base import Reward
from retouch_gym.tools.toolset import Toolset

UNTOUCHED = "untouched"
"""Name of the policy that every other is shown beside: it finishes at once."""

SHEET_ROWS = 12

Heard = Callable[[int], None]
"""Receives the number of tasks that were answered."""


@dataclass(frozen=True)
class Comparison:
    """Results of several policies on the same tasks.

    Args:
        results: Name of the policy to its result; `UNTOUCHED` first.
        base: The policy that gains are counted from.
    """

    results: Mapping[str, EvaluationResult]
    base: str

    def gain(self, name: str, kind: str = OVERALL) -> Interval | None:
        """Mean of reward − reward of `base`, paired by task, over tasks that both have a reward for; None without any.

        Args:
            name: The policy.
            kind: Class of task; `OVERALL` for all.
        """
        pairs = zip(self.results[name].rows, self.results[self.base].rows, strict=True)
        differences = [
            one.reward - other.reward
            for one, other in pairs
            if one.reward is not None and other.reward is not None and kind in (OVERALL, one.kind)
        ]
        return bootstrap_interval(differences) if differences else None

    @property
    def kinds(self) -> list[str]:
        """Classes of task; `OVERALL` alone where there is one, and last where there are more."""
        kinds = list(next(iter(self.results.values())).by_kind())
        return kinds if len(kinds) > 2 else [OVERALL]

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON-able data."""
        gains = {name: {kind: self.gain(name, kind) for kind in self.kinds} for name in self.results}
        shown = {
            name: {kind: None if gain is None else gain._asdict() for kind, gain in by_kind.items()}
            for name, by_kind in gains.items()
        }
        return {
            "base": self.base,
            "gains": shown,
            "results": {name: result.to_dict() for name, result in self.results.items()},
        }


def compare(
    policies: Mapping[str, Policy],
    dataset: Dataset,
    *,
    toolset: str | Toolset = "iea",
    reward: str | Reward = "edit",
    renderer: str | Renderer = "native",
    batch_size: int = 64,
    heard: Heard = lambda count: None,
) -> Comparison:
    """Let every policy, and one that does nothing, answer every task once; see `retouch_gym.evaluation.evaluate`.

    Args:
        policies: By name, at least one. Gains are counted from the first, or from the untouched photo if it is alone.
        dataset: The tasks.
        toolset: Name or object.
        reward: Name or object.
        renderer: Name or object.
        batch_size: Tasks held at once.
        heard: Called with the number of tasks of every batch that a policy has answered.
    """
    everybody = {UNTOUCHED: untouched(), **policies}
    found = {
        name: evaluate(
            _announced(policy, heard), dataset, toolset=toolset, reward=reward, renderer=renderer, batch_size=batch_size
        )
        for name, policy in everybody.items()
    }
    return Comparison(found, next(iter(policies)) if len(policies) > 1 else UNTOUCHED)


def _announced(policy: Policy, heard: Heard) -> Policy:
    def answer(observations: list[dict[str, Any]]) -> Any:
        actions = policy(observations)
        heard(len(observations))
        return actions

    return answer


def table(found: Comparison) -> Table:
    """The comparison for a terminal: a line for every policy and kind of task, means with 95% intervals."""
    first = next(iter(found.results.values()))
    shown = Table(title=f"{first.dataset}, split {first.split}: reward {first.reward}, means [95%]")
    headers = ("kind", "policy", "tasks", "valid", "reward", f"gain over {found.base}", "distance", "of untouched")
    for number, header in enumerate(headers):
        shown.add_column(header, justify="left" if number < 2 else "right", no_wrap=True)
    for kind in found.kinds:
        for name, result in found.results.items():
            part = result.by_kind()[kind]
            gain = None if name in (found.base, UNTOUCHED) else found.gain(name, kind)
            share = part.distance and part.untouched_distance and part.untouched_distance.mean
            unscored = part.count - part.scored
            shown.add_row(
                kind,
                name,
                f"{part.count}" + (f" ({unscored} unscored)" if unscored else ""),
                f"{part.valid.mean:.1%}",
                _interval(part.reward, "{:.3f}"),
                _interval(gain, "{:+.3f}"),
                _interval(part.distance, "{:.4f}"),
                f"{part.distance.mean / share:.2f}" if part.distance and share else "–",
            )
        shown.add_section()
    return shown


def _interval(values: Interval | None, form: str) -> str:
    if values is None:
        return "–"
    mean, low, high = (form.format(value) for value in values)
    return f"{mean} [{low}, {high}]"


def write(found: Comparison, dataset: Dataset, renderer: str | Renderer, folder: Path) -> list[Path]:
    """Write ``evaluation.json`` and ``contact_sheet.png`` into a folder, each in one step, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    report, sheet = folder / "evaluation.json", folder / "contact_sheet.png"
    fresh = report.with_suffix(".json.new")
    fresh.write_text(json.dumps(found.to_dict(), indent=1, allow_nan=False), encoding="utf-8")
    fresh.replace(report)
    drawn = sheet.with_suffix(".new.png")
    contact_sheet(_examples(found, dataset, get_renderer(renderer)), drawn)
    drawn.replace(sheet)
    return [report, sheet]


def _examples(found: Comparison, dataset: Dataset, renderer: Renderer) -> list[Example]:
    """Tasks spread over the dataset, not picked by result: before, every policy's edit, and the reference if any."""
    policies = {name: result.rows for name, result in found.results.items() if name != UNTOUCHED}
    tasks = [(index, dataset[index]) for index in range(0, len(dataset), max(1, -(-len(dataset) // SHEET_ROWS)))]
    referenced = all(task.reference is not None for _, task in tasks)
    examples = []
    for index, task in tasks:
        photo, rows = task.photo.load(), {name: rows[index] for name, rows in policies.items()}
        edited = renderer.render([photo] * len(rows), [row.recipe for row in rows.values()])
        photos = [("before", photo), *zip(rows, edited, strict=True)]
        if referenced and task.reference is not None:
            photos.append(("reference", task.reference.load()))
        notes = [f"{name}: {_note(row)}" for name, row in rows.items()]
        if task.recipe is not None:
            notes.append(f"reference: {dict(task.recipe.controls)}")
        examples.append(Example(f"[{task.kind}] {task.instruction}", photos, notes))
    return examples


def _note(row: EpisodeRow) -> str:
    if not row.valid:
        return f"answer not valid: {row.tool_error}"
    reward = "no reward" if row.reward is None else f"reward {row.reward:.3f}"
    return f"{dict(row.recipe.controls)}  {reward}"


def short_names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of paths that tell them apart."""
    for length in range(1, max(len(folder.parts) for folder in folders) + 1):
        names = ["/".join(folder.parts[-length:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]
