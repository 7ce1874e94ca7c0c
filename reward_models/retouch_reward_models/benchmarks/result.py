"""How often a reward prefers what people preferred."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from retouch_gym.evaluation.bootstrap import Interval
from retouch_reward_models.benchmarks.intervals import Cluster, macro_interval, share_interval


@dataclass(frozen=True)
class PairRow:
    """What came of one pair.

    Args:
        id: The pair.
        kind: Its class of task.
        dimension: What people looked at.
        group: Its group.
        preference: What people preferred: 1 the first, −1 the second, 0 neither.
        difference: The reward of the first minus that of the second, or 2p − 1 where p is the probability that a
            pairwise judge gives the first; None if either could not be scored.
        right: 1 if the reward agrees, 0 if not, 0.5 for a tie that counts half; None if the pair is invalid.
        tie: Whether the reward found the two equal, within the margin.
        error: Why it is invalid.
    """

    id: str
    kind: str
    dimension: str
    group: str
    preference: int
    difference: float | None
    right: float | None
    tie: bool = False
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON-able data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class AccuracyResult:
    """The rows, and the accuracies that follow from them with 95% bootstrap intervals.

    Invalid pairs are in no accuracy; they are counted in `invalid`, and `floor` says what the overall accuracy would
    be if all of them were wrong. Pairs of one group are redrawn together. None where there is nothing valid.

    Args:
        benchmark: Name of the benchmark.
        reward: Name of what was scored.
        rows: One for every pair, in the benchmark's order.
        group_sizes: How many pairs each group has; empty where the benchmark has no groups.
    """

    benchmark: str
    reward: str
    rows: tuple[PairRow, ...]
    group_sizes: Mapping[str, int]

    @cached_property
    def overall(self) -> Interval | None:
        """Share of the valid pairs that are right."""
        return _share(self.rows)

    @cached_property
    def by_kind(self) -> dict[str, Interval]:
        """The same for every class of task that has valid pairs."""
        return _by(self.rows, lambda row: row.kind)

    @cached_property
    def by_dimension(self) -> dict[str, Interval]:
        """The same for everything that people looked at."""
        return _by(self.rows, lambda row: row.dimension)

    @cached_property
    def macro(self) -> Interval | None:
        """Mean of the accuracies by class of task; the measure of EditScore's benchmark."""
        strata = {kind: clusters for kind, rows in _split(self.rows).items() if (clusters := _clusters(rows))}
        return macro_interval(strata) if strata else None

    @cached_property
    def groups(self) -> Interval | None:
        """Share of the groups all of whose pairs are right; the measure of TIGER-Lab's benchmark.

        A group with an invalid pair is left out unless another of its pairs is wrong anyway; a group of which the
        benchmark lacks pairs is wrong.
        """
        return _groups(self.rows, self.group_sizes)

    @cached_property
    def groups_by_kind(self) -> dict[str, Interval]:
        """The same for every class of task, such as groups of two, three and four edits."""
        found = {kind: _groups(rows, self.group_sizes) for kind, rows in _split(self.rows).items()}
        return {kind: interval for kind, interval in found.items() if interval is not None}

    @property
    def ties(self) -> int:
        """Valid pairs that the reward found equal."""
        return sum(row.tie for row in self.rows)

    @property
    def invalid(self) -> int:
        """Pairs that could not be scored."""
        return sum(row.right is None for row in self.rows)

    @property
    def floor(self) -> float:
        """Overall accuracy with every invalid pair taken as wrong."""
        return sum(row.right or 0.0 for row in self.rows) / len(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON-able data."""
        return {
            "benchmark": self.benchmark,
            "reward": self.reward,
            "pairs": len(self.rows),
            "ties": self.ties,
            "invalid": self.invalid,
            "floor": self.floor,
            "overall": self.overall,
            "macro": self.macro,
            "groups": self.groups,
            "by_kind": self.by_kind,
            "by_dimension": self.by_dimension,
            "groups_by_kind": self.groups_by_kind,
            "rows": [row.to_dict() for row in self.rows],
        }

    def report(self) -> str:
        """The accuracies as lines of text."""
        lines = [f"{self.reward} on {self.benchmark}: {len(self.rows)} pairs, {self.ties} ties, {self.invalid} invalid"]
        lines += [_line("overall", self.overall), _line("mean over kinds", self.macro)]
        lines += [_line(f"  {kind}", interval) for kind, interval in self.by_kind.items()]
        if self.group_sizes:
            lines.append(_line("whole groups", self.groups))
            lines += [_line(f"  {kind}", interval) for kind, interval in self.groups_by_kind.items()]
        if self.invalid:
            lines.append(f"overall if all invalid pairs were wrong: {self.floor:.3f}")
        return "\n".join(lines)


def _line(name: str, interval: Interval | None) -> str:
    if interval is None:
        return f"{name}: nothing valid"
    return f"{name}: {interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _split(rows: Iterable[PairRow], key: Callable[[PairRow], str] = lambda row: row.kind) -> dict[str, list[PairRow]]:
    found: dict[str, list[PairRow]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return dict(sorted(found.items()))


def _clusters(rows: Iterable[PairRow]) -> list[Cluster]:
    """The valid pairs, those of one group together."""
    groups = _split((row for row in rows if row.right is not None), lambda row: row.group)
    return [Cluster(sum(row.right or 0.0 for row in group), len(group)) for group in groups.values()]


def _share(rows: Iterable[PairRow]) -> Interval | None:
    clusters = _clusters(rows)
    return share_interval(clusters) if clusters else None


def _by(rows: Iterable[PairRow], key: Callable[[PairRow], str]) -> dict[str, Interval]:
    found = {name: _share(group) for name, group in _split(rows, key).items()}
    return {name: interval for name, interval in found.items() if interval is not None}


def _groups(rows: Iterable[PairRow], sizes: Mapping[str, int]) -> Interval | None:
    if not sizes:
        return None
    clusters = []
    for name, group in _split(rows, lambda row: row.group).items():
        known = [row.right for row in group if row.right is not None]
        if len(group) < sizes.get(name, 1) or any(right < 1 for right in known):
            clusters.append(Cluster(0.0, 1))
        elif len(known) == len(group):
            clusters.append(Cluster(1.0, 1))
    return share_interval(clusters) if clusters else None
