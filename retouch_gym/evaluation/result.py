"""What an evaluation found: a row per task, and summaries with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from retouch_gym.evaluation.bootstrap import Interval, bootstrap_interval
from retouch_gym.recipes.recipe import Recipe

OVERALL = "all"
"""Key of the summary over every kind of task."""


@dataclass(frozen=True)
class EpisodeRow:
    """One episode of an evaluation.

    Args:
        task_id: The task.
        kind: Its class of task.
        valid: Whether the action was a valid plan.
        tool_error: Why it was not.
        recipe: The edit.
        distance: Pixel distance of the result to the reference, 0..1; None without a reference.
        untouched_distance: The same of the untouched photo.
        reward: The reward; None if it could not be scored.
        components: Named parts of the reward.
        reward_error: Why the reward could not be scored.
    """

    task_id: str
    kind: str
    valid: bool
    tool_error: str | None
    recipe: Recipe
    distance: float | None
    untouched_distance: float | None
    reward: float | None
    components: Mapping[str, float]
    reward_error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON-able data."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "recipe": self.recipe.to_dict(), "components": dict(self.components)}


@dataclass(frozen=True)
class Summary:
    """Means over rows with 95 % bootstrap intervals; None where no row has the value.

    Args:
        count: Number of rows.
        valid: Share of valid plans.
        scored: Number of rows whose reward is known; the mean reward is over those alone.
        reward: Mean reward.
        distance: Mean distance to the reference.
        untouched_distance: Mean distance of the untouched photos.
        gain: Mean of untouched distance − distance, paired by task; above 0 the edits help.
    """

    count: int
    valid: Interval
    scored: int
    reward: Interval | None
    distance: Interval | None
    untouched_distance: Interval | None
    gain: Interval | None


@dataclass(frozen=True)
class EvaluationResult:
    """Rows in the order of the tasks, and the names of what was evaluated with what.

    Args:
        dataset: Name of the dataset.
        split: Its split.
        toolset: Name of the toolset.
        reward: Name of the reward.
        renderer: Name of the renderer.
        rows: One per task.
    """

    dataset: str
    split: str
    toolset: str
    reward: str
    renderer: str
    rows: tuple[EpisodeRow, ...] = field(default_factory=tuple)

    def summary(self, kind: str | None = None) -> Summary:
        """Means over the rows of one kind of task, or of all."""
        rows = [row for row in self.rows if kind is None or row.kind == kind]
        gains = [
            row.untouched_distance - row.distance
            for row in rows
            if row.distance is not None and row.untouched_distance is not None
        ]
        return Summary(
            count=len(rows),
            valid=bootstrap_interval(float(row.valid) for row in rows),
            scored=sum(row.reward is not None for row in rows),
            reward=_mean(rows, lambda row: row.reward),
            distance=_mean(rows, lambda row: row.distance),
            untouched_distance=_mean(rows, lambda row: row.untouched_distance),
            gain=bootstrap_interval(gains) if gains else None,
        )

    def by_kind(self) -> dict[str, Summary]:
        """A summary per kind of task, in alphabetical order, and ``"all"`` last."""
        kinds = sorted({row.kind for row in self.rows})
        return {kind: self.summary(kind) for kind in kinds} | {OVERALL: self.summary()}

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-able data; intervals are ``{"mean", "low", "high"}``."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "toolset": self.toolset,
            "reward": self.reward,
            "renderer": self.renderer,
            "summary": {kind: _summary_to_dict(summary) for kind, summary in self.by_kind().items()},
            "rows": [row.to_dict() for row in self.rows],
        }


def _mean(rows: Iterable[EpisodeRow], value: Callable[[EpisodeRow], float | None]) -> Interval | None:
    known = [number for number in map(value, rows) if number is not None]
    return bootstrap_interval(known) if known else None


def _summary_to_dict(summary: Summary) -> dict[str, Any]:
    values = {name: getattr(summary, name) for name in Summary.__dataclass_fields__}
    return {name: value._asdict() if isinstance(value, Interval) else value for name, value in values.items()}
