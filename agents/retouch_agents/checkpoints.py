"""Checkpoints that survive: a kill or a full disk at any moment leaves an old one or a new one, never a mixture."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from retouch_gym.errors import ConfigurationError, RetouchError

POLICY = "policy"
"""Part of a checkpoint: the model, opens with `from_pretrained`."""

STATE = "state"
"""Part of a checkpoint: what training goes on from, RLlib's."""

NOTE = "checkpoint.json"
"""Part of a checkpoint: iteration, metric and time."""

_NAME = re.compile(r"step-\d{6,}")
_FRESH, _OLD = ".new", ".old"


class CheckpointError(RetouchError, RuntimeError):
    """A checkpoint cannot be written or read."""


def swap_folder(fresh: Path, target: Path) -> None:
    """Put the finished folder `fresh` in the place of `target`.

    Between the two renames only ``target.old`` exists; `recover_folder` finds it.
    """
    old = target.with_name(target.name + _OLD)
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(target: Path) -> Path:
    """Undo a swap that was cut between its renames, and return `target`."""
    old = target.with_name(target.name + _OLD)
    if old.exists() and not target.exists():
        old.rename(target)
    return target


def copy_notes(source: Path, target: Path) -> None:
    """Copy what this project keeps beside a model's weights (prompt, answer format, a judge's format)."""
    for path in source.glob("retouch_*.json"):
        shutil.copyfile(path, target / path.name)


@dataclass(frozen=True)
class Keep:
    """Which checkpoints of a stage stay.

    Args:
        last: Newest ones; at least 1, which is the one that an interrupted stage goes on from.
        best: Whether the best one stays too, also when the stage is done.
        metric: What "best" means: the key of a row of the stage's metrics. Where the policy is evaluated at every
            checkpoint, its score counts instead.
        window: Newest rows over which the metric is averaged; rewards of single iterations are noisy.
        highest: Whether more is better.
        after: Whether the last ones stay when the stage is done.

    Raises:
        ConfigurationError: If a number is below 1.
    """

    last: int = 1
    best: bool = False
    metric: str = "reward"
    window: int = 5
    highest: bool = True
    after: bool = False

    def __post_init__(self) -> None:
        for name in ("last", "window"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"Keep({name}={getattr(self, name)}): expected 1 or more.")


NEWEST = Keep()
"""Keep the newest checkpoint until the stage is done."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk.

    Args:
        folder: Where it is.
        step: Iterations that went before.
        metric: Name of what was measured.
        value: What was measured; None if nothing was.
        time: When it was written, ISO 8601 in UTC.
    """

    folder: Path
    step: int
    metric: str
    value: float | None
    time: str

    @property
    def policy(self) -> Path:
        """Folder of the model; opens with `from_pretrained`."""
        return self.folder / POLICY

    @property
    def state(self) -> Path:
        """Folder of RLlib's state; opens with ``GRPO.from_checkpoint``."""
        return self.folder / STATE


class Checkpoints:
    """The checkpoints of a training stage, in one folder: ``step-000025/``, ``step-000050/``, ….

    A checkpoint is written beside the others under another name, brought to the disk and renamed, and only then are
    older ones removed, so that there is room for one more than are kept, and always a whole one.

    Args:
        folder: Where they are; made when the first comes.
        keep: Which of them stay.
    """

    def __init__(self, folder: Path, keep: Keep = NEWEST) -> None:
        self.folder = folder
        self.keep = keep

    def all(self) -> list[Checkpoint]:
        """Every whole checkpoint, oldest first."""
        folders = sorted(path for path in self.folder.glob("step-*") if _NAME.fullmatch(path.name))
        return sorted((_read(path) for path in folders), key=lambda checkpoint: checkpoint.step)

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint."""
        return next(reversed(self.all()), None)

    def best(self) -> Checkpoint | None:
        """The checkpoint with the best metric; of equal ones the older."""
        sign = 1.0 if self.keep.highest else -1.0
        measured = [(sign * found.value, found) for found in self.all() if found.value is not None]
        return max(measured, key=lambda pair: pair[0])[1] if measured else None

    def recover(self) -> Checkpoint | None:
        """Clear away what a kill has left half done, and return the checkpoint to go on from."""
        for path in self.folder.glob("step-*"):
            if not _NAME.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)
        return self.latest()

    def begin(self, step: int) -> Path:
        """An empty folder to write the checkpoint of an iteration into."""
        fresh = self.folder / f"step-{step:06d}{_FRESH}"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        return fresh

    @contextmanager
    def writing(self, fresh: Path) -> Iterator[None]:
        """Take `fresh` away again if what is written into it does not fit, and say what is left.

        Raises:
            CheckpointError: If the body raises.
        """
        try:
            yield
        except Exception as error:  # safetensors, pyarrow and pickle each say "disk full" in a class of their own
            shutil.rmtree(fresh, ignore_errors=True)
            last = self.latest()
            kept = (
                f"The checkpoint of iteration {last.step} is untouched: start again to go on from it."
                if last
                else "There is none before it, so that the stage will start from its beginning."
            )
            free = shutil.disk_usage(self.folder).free / 1e6
            raise CheckpointError(
                f"Checkpoint {fresh.name.removesuffix(_FRESH)} could not be written to {self.folder} "
                f"({type(error).__name__}: {error}; {free:.0f} MB are free there). {kept}"
            ) from error

    def commit(self, fresh: Path, step: int, value: float | None) -> Checkpoint:
        """Make the finished folder `fresh` the newest checkpoint, and remove those that need not stay.

        Args:
            fresh: What `begin` returned, with everything in it.
            step: Iterations that went before.
            value: The metric; None or NaN if it could not be measured.
        """
        measured = None if value is None or math.isnan(value) else value
        target = fresh.with_name(fresh.name.removesuffix(_FRESH))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        made = Checkpoint(target, step, self.keep.metric, measured, now)
        note = {key: value for key, value in asdict(made).items() if key != "folder"}
        (fresh / NOTE).write_text(json.dumps(note, indent=1), encoding="utf-8")
        _flush(fresh)
        swap_folder(fresh, target)
        self._remove(self._spare())
        return made

    def finish(self) -> None:
        """Remove those that need not stay after the stage."""
        best = self.best() if self.keep.best else None
        if not self.keep.after:
            self._remove([found for found in self.all() if found != best])
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _spare(self) -> list[Checkpoint]:
        found = self.all()
        stay = found[-self.keep.last :]
        if self.keep.best and (best := self.best()):
            stay = [*stay, best]
        return [checkpoint for checkpoint in found if checkpoint not in stay]

    def _remove(self, spare: list[Checkpoint]) -> None:
        for checkpoint in spare:
            # Renamed first: a kill in the middle of the removal leaves nothing that looks whole.
            old = checkpoint.folder.with_name(checkpoint.folder.name + _OLD)
            checkpoint.folder.rename(old)
            shutil.rmtree(old, ignore_errors=True)


def _read(folder: Path) -> Checkpoint:
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        value = None if note["value"] is None else float(note["value"])
        return Checkpoint(folder, int(note["step"]), str(note["metric"]), value, str(note["time"]))
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{folder} is no checkpoint: its {NOTE} cannot be read ({error}). Move the folder away to go on without it."
        ) from error


def _flush(folder: Path) -> None:
    """Have everything in a folder on the disk itself, so that a power cut after the rename leaves no empty files."""
    paths = [folder, *folder.rglob("*")] if os.name == "posix" else []  # elsewhere folders cannot be flushed
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
