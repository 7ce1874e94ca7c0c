"""How a run shows that it goes on: a bar in a terminal, a line per row of metrics elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text


def describe(row: Mapping[str, Any]) -> str:
    """The numbers of a row that a person wants to see while it runs."""
    known = (
        ("loss", "loss {:.3f}"),
        ("reward", "reward {:+.3f}"),
        ("kl", "KL {:.4f}"),
        ("well_formed_rate", "well-formed {:.0%}"),
        ("tokens_per_second", "{:,.0f} tokens/s"),
        ("examples_per_s", "{:,.1f} examples/s"),
    )
    return "  ".join(
        text.format(row[name])
        for name, text in known
        if isinstance(row.get(name), int | float) and row[name] == row[name]
    )


class ProgressSink:
    """Shows rows of metrics.

    Args:
        console: Where.
        lengths: Last step of each stage.
    """

    def __init__(self, console: Console, lengths: Mapping[str, int]) -> None:
        self.console = console
        self.lengths = lengths
        self.bar: Progress | None = None
        self.bars: dict[str, Any] = {}
        self.started: dict[str, tuple[float, int]] = {}

    def begin(self, stage: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A stage begins, or goes on after `rows`."""
        done = int(rows[-1]["step"]) if rows else 0
        self.started[stage] = (time.monotonic(), done)
        if not self.console.is_terminal:
            return
        if self.bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self.bar = Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=self.console)
            self.bar.start()
        self.bars[stage] = self.bar.add_task(stage, total=self.lengths[stage], completed=done)

    def row(self, stage: str, row: Mapping[str, Any]) -> None:
        """Show a row."""
        step = int(row["step"])
        if self.bar is not None:
            self.bar.update(self.bars[stage], completed=step, description=f"{stage}  {describe(row)}")
        else:
            left = self._left(stage, step)
            self.console.print(
                Text(f"{stage} {step}/{self.lengths[stage]}  {describe(row)}  left {left}"), soft_wrap=True
            )

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()

    def _left(self, stage: str, step: int) -> str:
        since, first = self.started[stage]
        done = step - first
        seconds = (time.monotonic() - since) / done * (self.lengths[stage] - step) if done > 0 else 0.0
        return f"{int(seconds // 60)}:{int(seconds % 60):02d}"
