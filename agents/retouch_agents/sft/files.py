"""Demonstrations from files: conversations in JSON lines or Parquet, with photos beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import pydantic

from retouch_agents.sft.examples import Demonstration
from retouch_agents.sft.rows import Rows, open_rows
from retouch_gym.chat import Message
from retouch_gym.chat.messages import text_block
from retouch_gym.errors import DatasetError
from retouch_gym.images import PhotoFile

_SUFFIXES = (".jsonl", ".parquet")


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


class _Text(_Model):
    type: Literal["text"]
    text: str


class _Photo(_Model):
    type: Literal["image"]
    image: Annotated[str, pydantic.Field(min_length=1)]


def _as_blocks(content: Any) -> Any:
    return [text_block(content)] if isinstance(content, str) else content


_Block: TypeAlias = Annotated[_Text | _Photo, pydantic.Field(discriminator="type")]


class _Turn(_Model):
    role: Literal["system", "user", "assistant"]
    content: Annotated[list[_Block], pydantic.BeforeValidator(_as_blocks), pydantic.Field(min_length=1)]


class _Row(_Model):
    messages: Annotated[list[_Turn], pydantic.Field(min_length=1)]
    answer: Annotated[str, pydantic.Field(min_length=1)] | None = None


class FileDemonstrations:
    """The demonstrations of a file, or of the files of a folder in the order of their names.

    Implements `retouch_agents.sft.Demonstrations`; picklable; photos are read when an item is asked for.

    A line of ``*.jsonl``, or a row of ``*.parquet``, has the key ``messages``, a list of turns with ``role`` (system,
    user or assistant) and ``content``: a text, or a list of ``{"type": "text", "text": "Warmer"}`` and
    ``{"type": "image", "image": "photos/1.png"}``. If one answer is to be learned, it is under ``answer``. Without
    ``answer`` the conversation ends with the assistant, and every turn of it is learned. In Parquet ``messages`` is a
    list of structs, or JSON as text.

    Every row is checked at once: what is wrong in row 10,000 is said before training and not after an hour of it.

    Args:
        path: The file or the folder. On a cluster it has to be readable under this path on every machine.
        longest: Photos are shrunk so that the longer side is at most this many pixels; None keeps their size.

    Raises:
        DatasetError: If there is no such file, or a row is not as described; names file, line, field and what is
            expected. A photo must be an existing file below the folder of the file that names it.
    """

    def __init__(self, path: str | Path, *, longest: int | None = None) -> None:
        self.path = Path(path)
        self.longest = longest
        self._files = [open_rows(file) for file in _files_of(self.path)]
        self._ends = np.cumsum([len(rows) for rows in self._files], dtype=np.int64)
        for rows in self._files:
            for index in range(len(rows)):
                for place, name in _photos(_read(rows, index)):
                    _photo_path(rows, index, place, name)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Demonstration:
        """See `retouch_agents.sft.Demonstrations`.

        Raises:
            IndexError: If the index is out of range.
            ImageError: If a photo cannot be read.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"Demonstration {index} of {len(self)}.")
        number = int(np.searchsorted(self._ends, index, side="right"))
        rows = self._files[number]
        own = index - (int(self._ends[number - 1]) if number else 0)
        row = _read(rows, own)
        paths = iter([_photo_path(rows, own, place, name) for place, name in _photos(row)])
        messages: list[Message] = [
            {"role": turn.role, "content": [self._shown(block, paths) for block in turn.content]}
            for turn in row.messages
        ]
        return messages if row.answer is None else (messages, row.answer)

    def _shown(self, block: _Text | _Photo, paths: Iterator[Path]) -> dict[str, Any]:
        if isinstance(block, _Text):
            return dict(text_block(block.text))
        return {"type": "image", "image": PhotoFile(str(next(paths)), self.longest).load()}


def _files_of(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DatasetError(f"There is no file or folder {str(path)!r} to learn from.")
    found = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    if not found:
        raise DatasetError(f"The folder {str(path)!r} has no {' or '.join(_SUFFIXES)} file in it.")
    return found


def _read(rows: Rows, index: int) -> _Row:
    try:
        row = _Row.model_validate(rows[index])
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _wrong(rows, index, ".".join(str(part) for part in first["loc"]), first["msg"]) from error
    _check_order(rows, index, row)
    return row


def _check_order(rows: Rows, index: int, row: _Row) -> None:
    roles: Sequence[str] = [turn.role for turn in row.messages]
    for number, turn in enumerate(row.messages):
        field = f"messages.{number}"
        if turn.role == "system" and number:
            raise _wrong(rows, index, f"{field}.role", "a system turn comes first or not at all")
        if turn.role == "assistant" and (not number or roles[number - 1] != "user"):
            raise _wrong(rows, index, f"{field}.role", "expected a user's turn before each of the assistant")
        if turn.role != "user" and any(isinstance(block, _Photo) for block in turn.content):
            raise _wrong(rows, index, f"{field}.content", f"a photo is shown by the user, not by the {turn.role}")
    if row.answer is None and roles[-1] != "assistant":
        raise _wrong(rows, index, "answer", f"expected a text, or the assistant's turn last; the last is {roles[-1]}'s")
    if row.answer is not None and roles[-1] != "user":
        raise _wrong(rows, index, "messages", f"expected the user's turn before the answer; the last is {roles[-1]}'s")


def _photos(row: _Row) -> list[tuple[str, str]]:
    """Field and path, as written, of each photo in the order shown."""
    return [
        (f"messages.{number}.content.{part}.image", block.image)
        for number, turn in enumerate(row.messages)
        for part, block in enumerate(turn.content)
        if isinstance(block, _Photo)
    ]


def _photo_path(rows: Rows, index: int, field: str, name: str) -> Path:
    folder = rows.path.parent.resolve()
    try:
        path = (folder / name).resolve()
        there = path.is_file()
    except (OSError, ValueError) as error:
        raise _wrong(rows, index, field, f"{name[:100]!r} is no path ({error})") from error
    if not path.is_relative_to(folder):
        raise _wrong(
            rows, index, field, f"{name!r} is not below the folder of the file; expected a relative path there"
        )
    if not there:
        raise _wrong(rows, index, field, f"there is no file {name!r} below the folder of the file")
    return path


def _wrong(rows: Rows, index: int, field: str, problem: str) -> DatasetError:
    return DatasetError(f"{rows.path}, {rows.place(index)}, {field or 'the whole'}: {problem}.")
