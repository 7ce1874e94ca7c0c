"""metrics.jsonl: one row of numbers a line, without gaps or repeats across interruptions."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class MetricsLog:
    """Appends rows to a JSON-lines file.

    Args:
        path: The file; created when the first row comes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, stage: str, row: Mapping[str, Any]) -> None:
        """Write one row, with ``"stage"`` first. NaN is written as null, which JSON has."""
        clean = {key: None if value != value else value for key, value in row.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": stage, **clean}, allow_nan=False) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All rows; a last line that a kill cut off is left out."""
        rows: list[dict[str, Any]] = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []:
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows

    def flush(self) -> None:
        """Have the rows on the disk itself: a checkpoint must not outlive, in a power cut, the rows before it."""
        if self.path.is_file():
            with self.path.open("ab") as file:
                os.fsync(file.fileno())

    def mean(self, stage: str, key: str, window: int) -> float | None:
        """Mean of a number over the newest `window` rows of a stage that have it; None if none has."""
        rows = [row[key] for row in self.read() if row["stage"] == stage and row.get(key) is not None]
        return sum(rows[-window:]) / len(rows[-window:]) if rows else None

    def rewind(self, stage: str, step: int) -> None:
        """Drop the rows of a stage after `step`: they were measured after the checkpoint that is resumed from."""
        kept = [row for row in self.read() if row["stage"] != stage or row["step"] <= step]
        fresh = self.path.with_suffix(".new")
        fresh.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        fresh.replace(self.path)
