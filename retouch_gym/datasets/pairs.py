"""Photos with an expert's version of each and people's requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pydantic

from retouch_gym.datasets.base import ListedDataset
from retouch_gym.datasets.folder import Split, check_split, in_split
from retouch_gym.errors import DatasetError
from retouch_gym.images import PhotoFile
from retouch_gym.tasks import Task

LISTING = "pairs.json"


class Request(pydantic.BaseModel):
    """One person's request.

    Attributes:
        text: The words.
        expert: Whose version the person described; may differ from whose version the target is.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    text: str = pydantic.Field(min_length=1)
    expert: str = ""


class Pair(pydantic.BaseModel):
    """One entry of ``pairs.json``.

    Attributes:
        id: Unique name.
        input: File of the photo before, relative to the folder.
        target: File of the expert's version.
        requests: What people asked for.
    """

    model_config = pydantic.ConfigDict(extra="ignore", frozen=True)
    id: str = pydantic.Field(min_length=1)
    input: str
    target: str
    requests: tuple[Request, ...] = pydantic.Field(min_length=1)


class PairsDataset(ListedDataset):
    """Before/after pairs listed in ``pairs.json``; one task per pair and request.

    The listing is a list of ``{"id", "input", "target", "requests": [{"expert", "text"}, …]}``, with files
    relative to the folder. A target that differs in size from its input is resized when distances are
    measured, not here.

    Args:
        root: The folder.
        split: ``"all"``, ``"train"`` (80%) or ``"test"`` (20%), by pair.
        expert: Only requests that describe this expert's version; None for all.
        longest: Shrink photos so that the longer side is at most this many pixels; None keeps the size.

    Raises:
        DatasetError: If the listing is missing or malformed, names a missing file, or nothing is left.
    """

    name = "pairs"

    def __init__(
        self, root: str | Path, split: Split = "all", expert: str | None = None, longest: int | None = None
    ) -> None:
        check_split(split)
        self.root = Path(root)
        self.split = split
        self.longest = longest
        pairs = _read_listing(self.root)
        self._tasks = [
            (pair, number)
            for pair in pairs
            if in_split(pair.id, split)
            for number, request in enumerate(pair.requests)
            if expert is None or request.expert == expert
        ]
        if not self._tasks:
            experts = sorted({request.expert for pair in pairs for request in pair.requests})
            raise DatasetError(
                f"No task of {str(root)!r} is left with split = {split!r} and expert = {expert!r}; "
                f"experts there: {', '.join(experts)}."
            )
        super().__init__([f"{pair.id}#{number}" for pair, number in self._tasks])

    def __getitem__(self, index: int) -> Task:
        if not 0 <= index < len(self):
            raise IndexError(f"Task {index} of {len(self)}.")
        pair, number = self._tasks[index]
        return Task(
            id=self.id_of(index),
            photo=PhotoFile(str(self.root / pair.input), self.longest),
            instruction=pair.requests[number].text,
            kind="edit",
            reference=PhotoFile(str(self.root / pair.target), self.longest),
            metadata={"expert": pair.requests[number].expert},
        )


def _read_listing(root: Path) -> list[Pair]:
    path = root / LISTING
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"No {LISTING} in {str(root)!r} ({error.strerror}); it lists the pairs.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{str(path)!r} is not JSON: {error}") from error
    if not isinstance(data, list):
        raise DatasetError(f"{str(path)!r} should be a list of pairs, got {type(data).__name__}.")
    pairs: list[Pair] = []
    seen: set[str] = set()
    for number, entry in enumerate(data):
        try:
            pair = Pair.model_validate(entry)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise DatasetError(f"{str(path)!r}, entry {number}: {where or 'entry'}: {first['msg']}.") from error
        for file in (pair.input, pair.target):
            if not (root / file).is_file():
                raise DatasetError(f"{str(path)!r}, entry {number} ({pair.id!r}) names {file!r}, which is not there.")
        if pair.id in seen:
            raise DatasetError(f"{str(path)!r} has two pairs with the id {pair.id!r}; ids are unique.")
        seen.add(pair.id)
        pairs.append(pair)
    return pairs
