"""Tables with photos in them, on disk: JSON or JSON lines beside image files, parquet, or a saved ``datasets`` folder.

Words are read at once, photos when they are needed. Nothing of a table is ever unpickled, and a table names no file
outside its own folder.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import PIL.Image

from retouch_gym.errors import DatasetError, ImageError
from retouch_gym.images import load_image
from retouch_gym.types import Image


class Table(ABC):
    """Rows whose photos are read when they are needed. Picklable.

    Attributes:
        folder: What photos' paths are relative to.
        rows: The rows without their photos.
        columns: Names of all columns.
    """

    folder: Path
    rows: list[dict[str, Any]]
    columns: frozenset[str]

    @abstractmethod
    def cell(self, row: int, column: str) -> Any:
        """What stands for a photo, or for several, in a row; None if nothing does."""

    def photo(self, row: int, column: str, place: int | None = None) -> CellPhoto:
        """A photo, read when needed.

        Args:
            row: Which row.
            column: Which column.
            place: Which photo of a list; None where the cell is one photo.
        """
        return CellPhoto(self, row, column, place)


@dataclass(frozen=True, eq=False)
class CellPhoto:
    """A photo in a table. Implements `retouch_gym.types.Photo`."""

    table: Table
    row: int
    column: str
    place: int | None = None

    def load(self) -> Image:
        """Read the photo, sRGB and upright.

        Raises:
            ImageError: If the cell holds no photo, or its file is missing or damaged.
        """
        what = f"row {self.row}, {self.column!r}" + ("" if self.place is None else f"[{self.place}]")
        found = self.table.cell(self.row, self.column)
        if self.place is not None:
            if not isinstance(found, Sequence) or isinstance(found, str) or len(found) <= self.place:
                raise ImageError(f"No photo in {what} of {str(self.table.folder)!r}.")
            found = found[self.place]
        return decode(found, self.table.folder, what)


def decode(value: Any, folder: Path, what: str) -> Image:
    """A photo from what stands for one: a path, ``{"bytes": …, "path": …}`` as Hugging Face writes it, or a PIL image.

    Args:
        value: What was found.
        folder: What a path is relative to; it may not lead out of it.
        what: Where it was found, for the reason.

    Raises:
        ImageError: If there is nothing, the path leads elsewhere, or it is no photo.
    """
    if isinstance(value, Mapping):
        data = value.get("bytes")
        value = data if data is not None else value.get("path")
    if isinstance(value, PIL.Image.Image):
        packed = io.BytesIO()
        value.save(packed, format="PNG")
        value = packed.getvalue()
    if isinstance(value, bytes):
        return _decode_bytes(value, what)
    if not isinstance(value, str) or not value:
        raise ImageError(f"No photo in {what} of {str(folder)!r}.")
    path = Path(os.path.normpath(folder / value))
    if not path.is_relative_to(os.path.normpath(folder)):
        raise ImageError(f"{what} names {value!r}, which is outside of {str(folder)!r}.")
    return load_image(path)


def open_table(source: str | Path, photos: Sequence[str], split: str | None = None) -> Table:
    """Open a table.

    Args:
        source: A file (``.json`` with a list of rows, ``.jsonl``, ``.parquet``), a folder that ``datasets`` saved, or a
            folder with such files in it or in its folder ``data``.
        photos: Columns that hold photos.
        split: Only files whose names begin with this, or only this split of a saved dataset; None takes all.

    Raises:
        DatasetError: If there is none, or it cannot be read.
    """
    path = Path(source)
    if path.is_dir() and any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
        return SavedTable(path, photos, split)
    files = [path] if path.is_file() else _files(path, split)
    kinds = {file.suffix.lower() for file in files}
    if not files or len(kinds) > 1 or not kinds <= _SUFFIXES:
        raise DatasetError(
            f"No table at {str(source)!r}: found files of {sorted(kinds) or 'no kind'}, expected one of "
            f"{sorted(_SUFFIXES)}, or a folder of one of them, or what datasets' save_to_disk writes."
        )
    return ParquetTable(files, photos) if kinds == {".parquet"} else JSONTable(files, photos)


class JSONTable(Table):
    """Rows of JSON files; photos are paths relative to the file's folder."""

    def __init__(self, files: Sequence[Path], photos: Sequence[str]) -> None:
        self.folder = files[0].parent
        read = [row for file in files for row in _read_json(file)]
        self.rows = [{key: value for key, value in row.items() if key not in photos} for row in read]
        self._photos = [{key: row[key] for key in photos if key in row} for row in read]
        self.columns = frozenset().union(*read)

    def cell(self, row: int, column: str) -> Any:
        """See `Table.cell`."""
        return self._photos[row].get(column)


class ParquetTable(Table):
    """Rows of parquet files. A row group's photos are read together, and the last two groups are kept."""

    def __init__(self, files: Sequence[Path], photos: Sequence[str]) -> None:
        parquet = _parquet()
        self.folder = files[0].parent
        self.rows = []
        self.columns = frozenset()
        self._places: list[tuple[str, int, int]] = []
        for file in files:
            try:
                opened = parquet.ParquetFile(file)
                self.columns |= frozenset(opened.schema_arrow.names)
                words = [name for name in opened.schema_arrow.names if name not in photos]
                for group in range(opened.num_row_groups):
                    rows = opened.read_row_group(group, columns=words).to_pylist()
                    count = opened.metadata.row_group(group).num_rows
                    self.rows += rows or [{} for _ in range(count)]
                    self._places += [(str(file), group, number) for number in range(count)]
            except (OSError, ValueError) as error:
                raise DatasetError(f"{str(file)!r} cannot be read as parquet ({error}).") from error

    def cell(self, row: int, column: str) -> Any:
        """See `Table.cell`."""
        if column not in self.columns:
            return None
        file, group, number = self._places[row]
        return _group_column(file, group, column)[number].as_py()


class SavedTable(Table):
    """Rows of what ``datasets`` saved with ``save_to_disk``; needs ``datasets``."""

    def __init__(self, folder: Path, photos: Sequence[str], split: str | None) -> None:
        self.folder = folder
        self._split = split
        self._data = _open_saved(str(folder), split)
        words = self._data.remove_columns([name for name in photos if name in self._data.column_names])
        self.rows = list(words)
        self.columns = frozenset(self._data.column_names)

    def __getstate__(self) -> dict[str, Any]:
        # A copy elsewhere maps the files again.
        return {**self.__dict__, "_data": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _data=_open_saved(str(state["folder"]), state["_split"]))

    def cell(self, row: int, column: str) -> Any:
        """See `Table.cell`."""
        return self._data[row].get(column) if column in self.columns else None


_SUFFIXES = frozenset({".json", ".jsonl", ".parquet"})


def _files(folder: Path, split: str | None) -> list[Path]:
    for place in (folder, folder / "data"):
        if place.is_dir():
            named = (path for path in place.iterdir() if path.suffix.lower() in _SUFFIXES)
            found = sorted(path for path in named if split is None or path.name.startswith(split))
            if found:
                return found
    return []


def _read_json(file: Path) -> list[dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
        lines = file.suffix.lower() == ".jsonl"
        rows = [json.loads(line) for line in text.splitlines() if line.strip()] if lines else json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{str(file)!r} cannot be read as JSON ({error}).") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DatasetError(f"{str(file)!r} holds no list of rows; expected one object a row.")
    return rows


def _parquet() -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise DatasetError(f"Parquet files need pyarrow ({error}). pip install pyarrow") from error


@lru_cache(maxsize=6)
def _group_column(file: str, group: int, column: str) -> Any:
    """One column of a row group; six are kept, which is two groups of three photo columns."""
    table = _parquet().ParquetFile(file).read_row_group(group, columns=[column])
    if column not in table.column_names:
        raise ImageError(f"{file!r} has no column {column!r}.")
    return table.column(column)


def _open_saved(folder: str, split: str | None) -> Any:
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        raise DatasetError(
            f"{folder!r} was saved by datasets, which is missing ({error}). pip install datasets"
        ) from error
    data = datasets.load_from_disk(folder)
    if isinstance(data, datasets.DatasetDict):
        names = [split] if split is not None else list(data)
        if len(names) != 1 or names[0] not in data:
            raise DatasetError(f"{folder!r} has the splits {list(data)}; name one of them, got {split!r}.")
        data = data[names[0]]
    for name, feature in data.features.items():
        inner = getattr(feature, "feature", None)
        if isinstance(feature, datasets.Image):
            data = data.cast_column(name, datasets.Image(decode=False))
        elif isinstance(inner, datasets.Image):
            data = data.cast_column(name, type(feature)(datasets.Image(decode=False)))
    return data


def _decode_bytes(data: bytes, what: str) -> Image:
    # By way of a file, so that a photo in a table is read like any other: profile, orientation, depth.
    with tempfile.NamedTemporaryFile(suffix=".image") as file:
        file.write(data)
        file.flush()
        try:
            return load_image(file.name)
        except ImageError as error:
            raise ImageError(f"{what} holds {len(data)} bytes that are no photo ({error.__cause__}).") from error
