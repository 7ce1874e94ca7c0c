"""Pairs of edits that people have compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from retouch_gym.errors import DatasetError
from retouch_gym.types import Photo

OVERALL = "overall"
"""The dimension of a pair that was compared as a whole."""


@dataclass(frozen=True, eq=False)
class PreferencePair:
    """Two edits of one photo, and which of them people preferred. Holds no pixels.

    Args:
        id: Unique in its benchmark.
        instruction: What was asked for.
        before: The photo before any edit.
        first: One edit.
        second: The other.
        preference: 1 if people preferred the first, −1 if the second, 0 if they found them equal.
        kind: Class of task, or whatever else accuracy is to be broken down by.
        dimension: What people looked at: `OVERALL`, or for instance ``"consistency"``.
        group: Which comparison of several edits the pair is part of; its own id where it stands alone.
    """

    id: str
    instruction: str
    before: Photo
    first: Photo
    second: Photo
    preference: int
    kind: str = ""
    dimension: str = OVERALL
    group: str = ""

    def __post_init__(self) -> None:
        if self.preference not in (-1, 0, 1):
            raise DatasetError(f"Pair {self.id!r}: preference is {self.preference!r}, expected 1, 0 or -1.")
        if not self.group:
            object.__setattr__(self, "group", self.id)


@dataclass(frozen=True, eq=False)
class PreferenceBenchmark:
    """Pairs of edits with people's preferences.

    Args:
        name: Short name.
        pairs: The pairs, with unique ids.
        group_sizes: How many pairs each group has; a group of which the file holds fewer cannot count as right. Empty
            where the benchmark has no groups.

    Raises:
        DatasetError: If it is empty or an id occurs twice.
    """

    name: str
    pairs: tuple[PreferencePair, ...]
    group_sizes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.pairs:
            raise DatasetError(f"Benchmark {self.name!r} holds no pairs.")
        ids = [pair.id for pair in self.pairs]
        if len(set(ids)) < len(ids):
            twice = next(name for name in ids if ids.count(name) > 1)
            raise DatasetError(f"Benchmark {self.name!r}: the id {twice!r} occurs more than once.")

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[PreferencePair]:
        return iter(self.pairs)

    @property
    def grouped(self) -> bool:
        """Whether pairs count in groups too."""
        return bool(self.group_sizes)
