"""Rows of JSON-lines and Parquet files by number, without holding a file in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retouch_gym.errors import DatasetError


class Rows(Protocol):
    """The rows of one file. Picklable."""

    path: Path

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any:
        """A row as JSON has it, 0 ≤ index < len."""
        ...

    def place(self, index: int) -> str:
        """Where a row is, as a person counts."""
        ...


def open_rows(path: Path) -> Rows:
    """The rows of a file, by its suffix.

    Raises:
        DatasetError: If the suffix is neither ``.jsonl`` nor ``.parquet``, or the file is damaged.
    """
    if path.suffix == ".jsonl":
        return JSONLines(path)
    if path.suffix == ".parquet":
        return ParquetRows(path)
    raise DatasetError(f"{path} is neither a .jsonl nor a .parquet file.")


class JSONLines:
    """A file with one JSON value a line; blank lines are passed over. Only the places of the lines are kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        offsets, numbers, offset = [], [], 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    offsets.append(offset)
                    numbers.append(number)
                offset += len(line)
        self._offsets = np.array(offsets, dtype=np.int64)
        self._numbers = np.array(numbers, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> Any:
        with self.path.open("rb") as file:
            file.seek(int(self._offsets[index]))
            line = file.readline()
        try:
            return json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise DatasetError(
                f"{self.path}, {self.place(index)}: expected a JSON object in UTF-8 ({error})."
            ) from error

    def place(self, index: int) -> str:
        """See `Rows`."""
        return f"line {self._numbers[index]}"


class ParquetRows:
    """A Parquet file with the columns ``messages`` and, if there is one, ``answer``; one row group is in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with pq.ParquetFile(path) as file:
                sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
                self._columns = [name for name in ("messages", "answer") if name in file.schema_arrow.names]
        except (pa.ArrowInvalid, OSError) as error:
            raise DatasetError(f"{path} cannot be read as Parquet ({error}).") from error
        if "messages" not in self._columns:
            raise DatasetError(f"{path}: expected a column 'messages', and there is none.")
        self._ends = np.cumsum(sizes, dtype=np.int64)
        self._group: tuple[int, list[dict[str, Any]]] | None = None

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Any:
        number = int(np.searchsorted(self._ends, index, side="right"))
        if self._group is None or self._group[0] != number:
            with pq.ParquetFile(self.path) as file:
                self._group = number, file.read_row_group(number, columns=self._columns).to_pylist()
        row = self._group[1][index - (int(self._ends[number - 1]) if number else 0)]
        messages = row["messages"]
        if isinstance(messages, str):
            try:
                messages = json.loads(messages)
            except (ValueError, RecursionError) as error:
                raise DatasetError(f"{self.path}, {self.place(index)}, messages: expected JSON ({error}).") from error
        return {**row, "messages": _without_nulls(messages)}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_group": None}

    def place(self, index: int) -> str:
        """See `Rows`."""
        return f"row {index}"


def _without_nulls(value: Any) -> Any:
    # Arrow gives every block the keys of all kinds of blocks.
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return value
