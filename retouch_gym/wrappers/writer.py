"""Writing recorded episodes to disk so that a killed process loses at most the line that it was writing."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from retouch_gym.datasets.recording_format import EPISODES, HEADER, PHOTOS, Header
from retouch_gym.datasets.recordings import RecordedEpisode, RecordedTurn, read_header
from retouch_gym.errors import ConfigurationError, DatasetError, ImageError, RendererError
from retouch_gym.types import Photo
from retouch_gym.wrappers.photo_folder import PhotoFolder

if sys.platform != "win32":
    import fcntl


class RecordingWriter:
    """Appends episodes to a recording's folder. Opens it with the first episode, anew in every process.

    Args:
        folder: The folder; it and its parents are made when needed. One that holds a recording is gone on with.
        header: What the episodes have in common.
        own_subfolder: Whether to write into a new subfolder of this process, ``worker-<pid>``, instead.

    Raises:
        ConfigurationError: If the folder holds a recording of another environment.
        DatasetError: If it holds a recording that cannot be read.
    """

    def __init__(self, folder: str | os.PathLike[str], header: Header, *, own_subfolder: bool = False) -> None:
        self.root = Path(folder)
        self.header = header
        self.own_subfolder = own_subfolder
        self.folder: Path | None = None
        self._file: BinaryIO | None = None
        self._pid = 0
        self._number = 0
        if not own_subfolder and (self.root / HEADER).exists():
            self._check_header(self.root)

    def __getstate__(self) -> dict[str, Any]:
        # An open file does not travel; where it arrives the folder is opened again.
        return {**self.__dict__, "_file": None, "folder": None}

    def write(self, episode: RecordedEpisode) -> None:
        """Append an episode: its photos first, then its line.

        Raises:
            DatasetError: If the disk refuses, naming the path; nothing of the episode is left then.
            ConfigurationError: If the folder holds a recording of another environment.
            ImageError: If a photo that the agent saw cannot be read again.
        """
        if self._file is None or self._pid != os.getpid():
            self._open()
        assert self.folder is not None
        written: list[Path] = []
        try:
            names = PhotoFolder(self.folder / PHOTOS, written)
            line = json.dumps(_dump(episode, self._number, names), allow_nan=False)
            self._append(line.encode("ascii") + b"\n")
        except Exception:
            for path in written:
                with suppress(OSError):
                    path.unlink()
            raise
        self._number += 1

    def close(self) -> None:
        """Close the file; the next episode opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        # A file that came over a fork is the parent's: closing it here leaves the parent's open.
        self.close()
        mine = self.folder if self._pid == os.getpid() else None
        folder = self.root
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if self.own_subfolder:
                folder = mine or _new_subfolder(self.root)
            (folder / PHOTOS).mkdir(exist_ok=True)
            file = (folder / EPISODES).open("a+b", buffering=0)
        except OSError as error:
            raise DatasetError(f"Cannot record into {str(folder)!r}: {error}") from error
        try:
            _lock(file, folder)
            self._settle_header(folder)
            self._number = _mend(file)
        except OSError as error:
            file.close()
            raise DatasetError(f"Cannot record into {str(folder)!r}: {error}") from error
        except BaseException:
            file.close()
            raise
        self._file, self.folder, self._pid = file, folder, os.getpid()

    def _settle_header(self, folder: Path) -> None:
        path = folder / HEADER
        if path.exists():
            self._check_header(folder)
            return
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.header.model_dump(), indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)

    def _check_header(self, folder: Path) -> None:
        there, here = read_header(folder).model_dump(), self.header.model_dump()
        differing = [name for name in here if there[name] != here[name]]
        if differing:
            name = differing[0]
            raise ConfigurationError(
                f"{str(folder)!r} holds a recording with {name} = {there[name]!r}, this environment has "
                f"{here[name]!r}. Record into another folder."
            )

    def _append(self, line: bytes) -> None:
        assert self._file is not None
        size = self._file.seek(0, os.SEEK_END)
        try:
            view = memoryview(line)
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(size)
            raise DatasetError(f"Cannot write {self._file.name!r}: {error}. The episode was not recorded.") from error


def _dump(episode: RecordedEpisode, number: int, names: PhotoFolder) -> dict[str, Any]:
    """An episode as a line; see `retouch_gym.datasets.recording_format.Line`."""
    task = episode.task
    return {
        "episode": number,
        "task": {
            "id": task.id,
            "mode": task.mode,
            "kind": task.kind,
            "instruction": task.instruction,
            "history": list(task.history),
            "start": None if task.start is None else task.start.to_dict(),
            "answer": task.answer,
            "recipe": None if task.recipe is None else task.recipe.to_dict(),
            "reasoning": task.reasoning,
            "metadata": dict(task.metadata),
        },
        "photos": {
            "source": names(task.photo),
            "final": names(episode.final),
            "reference": _reference(task.reference, names),
            "context": [names(photo) for photo in task.context],
        },
        "requests": list(episode.requests),
        "turns": [_dump_turn(turn, names) for turn in episode.turns],
        "reward": episode.reward,
        "reward_valid": episode.reward is not None,
        "reward_error": episode.reward_error,
        "components": {name: _finite(value) for name, value in episode.components.items()},
        "recipe": episode.recipe.to_dict(),
        "finished": episode.finished,
        "answer": episode.answer,
        "terminated": episode.terminated,
        "truncated": episode.truncated,
        "seeds": {"reset": episode.seeds.reset, "episode": episode.seeds.episode, "user": episode.seeds.user},
    }


def _dump_turn(taken: RecordedTurn, names: PhotoFolder) -> dict[str, Any]:
    turn = taken.turn
    return {
        "calls": [{"name": call.name, "arguments": dict(call.arguments)} for call in turn.calls],
        "error": turn.error,
        "text": turn.text,
        "parsed": turn.parsed,
        "reward": taken.reward,
        "recipe": taken.recipe.to_dict(),
        "feedback": taken.feedback,
        "requests": taken.requests,
        "photo": None if taken.photo is None else names(taken.photo),
    }


def _reference(reference: Photo | None, names: PhotoFolder) -> str | None:
    if reference is None:
        return None
    try:
        return names(reference)
    except (ImageError, RendererError):
        # The agent never sees it, so the episode is good without; the reward, if it needed it, is not valid.
        return None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _new_subfolder(root: Path) -> Path:
    """Make a folder that no other writer has, of this process or another."""
    name = f"worker-{os.getpid()}"
    number = 0
    while True:
        folder = root / (name if number == 0 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def _lock(file: BinaryIO, folder: Path) -> None:
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigurationError(
            f"Something else is recording into {str(folder)!r}. Give every environment its own folder, or pass "
            "worker=True for subfolders."
        ) from error
    except OSError:
        # Some network file systems have no locks; then two writers are for the user to avoid.
        return


def _mend(file: BinaryIO) -> int:
    """Cut off a line that a killed process left unfinished.

    Returns:
        The number of whole lines.
    """
    file.seek(0)
    count, end, place = 0, 0, 0
    while chunk := file.read(1 << 20):
        last = chunk.rfind(b"\n")
        if last >= 0:
            count += chunk.count(b"\n")
            end = place + last + 1
        place += len(chunk)
    if place > end:
        file.truncate(end)
    return count


def plain_arguments(kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Arguments that JSON holds unchanged, and the names of the others."""
    held: dict[str, Any] = {}
    for name, value in kwargs.items():
        with suppress(TypeError, ValueError, RecursionError):
            written = json.loads(json.dumps(value, allow_nan=False))
            if written == (list(value) if isinstance(value, tuple) else value):
                held[name] = written
    return held, sorted(set(kwargs) - set(held))
