"""Pairs of a better and a worse edit of one task."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retouch_gym.datasets.base import Dataset, get_dataset
from retouch_gym.errors import DatasetError, RetouchError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.resolve import build
from retouch_gym.tasks import Task
from retouch_reward_models.training.perturbing import Perturber, RulePerturber


@dataclass(frozen=True, eq=False)
class Pair:
    """Two edits of one task, of which one is better.

    Args:
        id: Unique in its source.
        task: Photo and instruction.
        better: The better edit.
        worse: The worse one.
        origin: Where the worse one is from: ``"perturbed"``, ``"policy"``.
    """

    id: str
    task: Task
    better: Recipe
    worse: Recipe
    origin: str = "perturbed"


class Pairs(ABC):
    """A finite, ordered source of pairs: picklable, lazy, the same in every process."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of pairs."""

    @abstractmethod
    def __getitem__(self, index: int) -> Pair:
        """The pair at `index`.

        Raises:
            IndexError: If there is none.
        """


class PerturbedPairs(Pairs):
    """The recipes of a dataset, each against a damaged one. Pair i depends on (dataset, seed, i) alone.

    Args:
        dataset: Tasks with recipes.
        dataset_kwargs: Options of a named dataset.
        perturber: What damages; by default `RulePerturber`. Name and options of one: a mapping of `RulePerturber`'s.
        seed: Seed of the damage.

    Raises:
        DatasetError: When a pair is asked for whose task has no recipe, or none that can be damaged.
    """

    def __init__(
        self,
        dataset: str | Dataset = "samples",
        dataset_kwargs: Mapping[str, Any] | None = None,
        perturber: Perturber | Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.dataset = get_dataset(dataset, **(dataset_kwargs or {}))
        self.perturber = perturber if isinstance(perturber, Perturber) else RulePerturber(**(perturber or {}))
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Pair:
        task = self.dataset[index]
        if task.recipe is None:
            raise DatasetError(f"Task {task.id!r} has no recipe that could be damaged; use a dataset with recipes.")
        rng = np.random.default_rng([self.seed, index])
        worse = self.perturber.perturb([task.recipe], [task.instruction], rng)[0]
        if worse is None:
            raise DatasetError(f"The recipe of task {task.id!r} could not be damaged.")
        return Pair(f"{task.id}/perturbed-{self.seed}", task, task.recipe, worse)


class PairBuffer(Pairs):
    """Pairs of recorded edits, newest last: what PGRT gathers of the policy's own (JSON lines; nothing is pickled).

    Args:
        path: The file; need not exist before the first `extend`.
        dataset: The tasks that the pairs are of.
        dataset_kwargs: Options of a named dataset.
        capacity: Only the newest are given; None for all.

    Raises:
        DatasetError: If a line cannot be read. A last line that was cut short by a crash is left out.
    """

    def __init__(
        self,
        path: str | Path,
        dataset: str | Dataset = "samples",
        dataset_kwargs: Mapping[str, Any] | None = None,
        capacity: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.dataset = get_dataset(dataset, **(dataset_kwargs or {}))
        self.capacity = capacity
        self._rows: list[dict[str, Any]] = []
        if self.path.is_file():
            self._rows = self._read(self.path.read_text(encoding="utf-8"))

    def __len__(self) -> int:
        return len(self._rows) if self.capacity is None else min(self.capacity, len(self._rows))

    def __getitem__(self, index: int) -> Pair:
        if not 0 <= index < len(self):
            raise IndexError(f"Pair {index} of {len(self)}.")
        number = len(self._rows) - len(self) + index
        row = self._rows[number]
        try:
            better, worse = Recipe.from_dict(row["better"]), Recipe.from_dict(row["worse"])
            return Pair(f"{self.path.stem}-{number}", self.dataset.get(row["task_id"]), better, worse, row["origin"])
        except (KeyError, TypeError, RetouchError) as error:
            raise DatasetError(f"Line {number + 1} of {str(self.path)!r} holds no pair: {error}") from error

    def extend(self, pairs: Sequence[Pair]) -> None:
        """Append pairs; on disk when this returns.

        Raises:
            OSError: If the file cannot be written; then none of them counts.
        """
        rows = [
            {
                "task_id": pair.task.id,
                "better": pair.better.to_dict(),
                "worse": pair.worse.to_dict(),
                "origin": pair.origin,
            }
            for pair in pairs
        ]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = "".join(f"{json.dumps(row)}\n" for row in [*self._rows, *rows])
        fresh = self.path.with_name(self.path.name + ".new")
        with fresh.open("w", encoding="utf-8") as file:
            file.write(kept)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        self._rows += rows

    def _read(self, text: str) -> list[dict[str, Any]]:
        *lines, _ = text.split("\n")
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise DatasetError(f"{str(self.path)!r} holds a line that is not JSON: {error}") from error


PAIRS: Mapping[str, str] = {
    "perturbed": "retouch_reward_models.training.pairs:PerturbedPairs",
    "buffer": "retouch_reward_models.training.pairs:PairBuffer",
    "mixed": "retouch_reward_models.training.pairs:MixedPairs",
}
"""Short names of sources of pairs."""


class MixedPairs(Pairs):
    """Pairs of several sources in fixed shares, so that new ones do not make a judge forget the old.

    Args:
        parts: Sources, or their names as `get_pairs` takes them, with their shares.
        size: Number of pairs.
        seed: Seed of the order.
    """

    def __init__(self, parts: Sequence[tuple[Any, float]], size: int = 100_000, seed: int = 0) -> None:
        self.parts = [(get_pairs(source), share) for source, share in parts]
        self.size, self.seed = size, seed
        total = sum(share for _, share in self.parts)
        if total <= 0 or any(share < 0 or (share and not len(source)) for source, share in self.parts):
            raise DatasetError(f"The shares {[share for _, share in self.parts]} need pairs behind each of them.")
        self._chances = [share / total for _, share in self.parts]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Pair:
        if not 0 <= index < self.size:
            raise IndexError(f"Pair {index} of {self.size}.")
        rng = np.random.default_rng([self.seed, index])
        source, _ = self.parts[int(rng.choice(len(self.parts), p=self._chances))]
        return source[int(rng.integers(len(source)))]


def get_pairs(source: Pairs | str | list[Any] | tuple[Any, ...], **options: Any) -> Pairs:
    """Pairs themselves, or those behind ``"perturbed"``, ``"buffer"``, ``"mixed"``, ``"module:attribute"``.

    Args:
        source: The pairs or their name; with options as a list of two, ``["perturbed", {"seed": 1}]``.
        options: Of named pairs.

    Raises:
        DatasetError: If it leads to no pairs.
        ConfigurationError: If the name is not known.
    """
    if isinstance(source, list | tuple):
        name, given = source
        return get_pairs(name, **{**given, **options})
    found: Pairs = build(source, PAIRS, "source of pairs", Pairs, **options)
    return found
