"""Replacing a folder so that a kill at any moment leaves the old content or the new, never a mixture."""

from __future__ import annotations

import shutil
from pathlib import Path


def swap_folder(fresh: Path, target: Path) -> None:
    """Put the finished folder `fresh` in the place of `target`.

    Between the two renames only ``target.old`` exists; `recover_folder` finds it.
    """
    old = target.with_name(target.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(target: Path) -> Path:
    """Undo a swap that was cut between its renames, and return `target`."""
    old = target.with_name(target.name + ".old")
    if old.exists() and not target.exists():
        old.rename(target)
    return target


def copy_notes(source: Path, target: Path) -> None:
    """Copy what this project keeps beside a model's weights (prompt, answer format, a judge's format)."""
    for path in source.glob("retouch_*.json"):
        shutil.copyfile(path, target / path.name)
