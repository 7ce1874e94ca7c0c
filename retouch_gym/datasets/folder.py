"""A folder of photos, with or without requests."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from retouch_gym.datasets.base import ListedDataset
from retouch_gym.errors import DatasetError
from retouch_gym.images import PHOTO_SUFFIXES, PhotoFile
from retouch_gym.tasks import Task

REQUESTS = "requests.json"
TEST_SHARE = 20
"""Percent of the ids that fall into the test split."""

Split = Literal["all", "train", "test"]


def in_split(key: str, split: Split) -> bool:
    """Whether an id belongs to a split. Decided by a checksum (CRC-32), so adding photos moves no other photo."""
    is_test = zlib.crc32(key.encode()) % 100 < TEST_SHARE
    return split == "all" or is_test == (split == "test")


def check_split(split: str) -> None:
    """Refuse anything but a known split.

    Raises:
        DatasetError: With what is known.
    """
    if split not in ("all", "train", "test"):
        raise DatasetError(f"split = {split!r} should be 'all', 'train' (80%) or 'test' (20%).")


class FolderDataset(ListedDataset):
    """All photos below a folder; one task per photo and request, without a reference.

    Photos are found by their ending (any case), in sorted order, and read only when needed. A file
    ``requests.json`` in the folder, an object of relative path to a request or a list of requests, gives
    the instructions; photos that it does not name get `instruction`.

    Args:
        root: The folder.
        split: ``"all"``, ``"train"`` (80%) or ``"test"`` (20%), by photo.
        instruction: Request for photos without their own.
        longest: Shrink photos so that the longer side is at most this many pixels; None keeps the size.

    Raises:
        DatasetError: If the folder is missing, holds no photo (in this split), or ``requests.json`` is wrong.
    """

    name = "folder"

    def __init__(
        self,
        root: str | Path,
        split: Split = "all",
        instruction: str = "make this photo look better.",
        longest: int | None = None,
    ) -> None:
        check_split(split)
        self.root = Path(root)
        self.split = split
        self.longest = longest
        if not self.root.is_dir():
            raise DatasetError(f"No folder at {str(root)!r}. Check the path.")
        paths = (path for path in self.root.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
        files = sorted(path.relative_to(self.root).as_posix() for path in paths)
        if not files:
            raise DatasetError(f"No photo below {str(root)!r}; known endings: {', '.join(sorted(PHOTO_SUFFIXES))}.")
        requests = _read_requests(self.root, files)
        self._tasks = [
            (file, number, text)
            for file in files
            if in_split(file, split)
            for number, text in enumerate(requests.get(file, [instruction]))
        ]
        if not self._tasks:
            raise DatasetError(f"None of the {len(files)} photos below {str(root)!r} is in split {split!r}; use 'all'.")
        super().__init__([f"{file}#{number}" for file, number, _ in self._tasks])

    def __getitem__(self, index: int) -> Task:
        if not 0 <= index < len(self):
            raise IndexError(f"Task {index} of {len(self)}.")
        file, _, text = self._tasks[index]
        return Task(id=self.id_of(index), photo=PhotoFile(str(self.root / file), self.longest), instruction=text)


def _read_requests(root: Path, files: list[str]) -> Mapping[str, list[str]]:
    path = root / REQUESTS
    if not path.is_file():
        return {}
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{str(path)!r} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise DatasetError(f"{str(path)!r} should be an object of file to request, got {type(data).__name__}.")
    missing = sorted(set(data) - set(files))
    if missing:
        raise DatasetError(f"{str(path)!r} names {missing[0]!r}, which is not below the folder.")
    requests = {}
    for file, value in data.items():
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise DatasetError(f"{str(path)!r}: {file!r} should have a request or a list of requests, got {value!r}.")
        requests[file] = texts
    return requests
