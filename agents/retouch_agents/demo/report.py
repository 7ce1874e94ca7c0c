"""What the demo leaves for people: a table and a learning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from rich.table import Table

mpl.use("Agg")
from matplotlib import pyplot as plt

Interval = tuple[float, float, float]
"""Mean, lower and upper end of a 95% bootstrap interval."""


@dataclass(frozen=True)
class Row:
    """One line of the table; None where a figure does not exist."""

    kind: str
    policy: str
    valid: float
    distance: Interval
    of_untouched: float
    reward: Interval | None = None
    likeness: float | None = None
    usefulness: float | None = None


_HEADERS = ("kind", "policy", "valid", "distance [95%]", "of untouched", "edit reward R [95%]", "L", "U")


def _cells(row: Row) -> tuple[str, ...]:
    def interval(values: Interval | None, digits: int) -> str:
        if values is None:
            return "–"
        mean, low, high = (f"{value:.{digits}f}" for value in values)
        return f"{mean} [{low}, {high}]"

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    return (
        row.kind,
        row.policy,
        f"{row.valid:.1%}",
        interval(row.distance, 4),
        f"{row.of_untouched:.2f}",
        interval(row.reward, 3),
        number(row.likeness),
        number(row.usefulness),
    )


def rich_table(rows: Sequence[Row], title: str) -> Table:
    """The table for a terminal."""
    table = Table(title=title)
    for index, header in enumerate(_HEADERS):
        table.add_column(header, justify="left" if index < 2 else "right", no_wrap=True)
    previous = ""
    for row in rows:
        if previous and row.kind != previous:
            table.add_section()
        table.add_row(*_cells(row))
        previous = row.kind
    return table


def markdown_table(rows: Sequence[Row]) -> str:
    """The same table as Markdown."""
    lines = ["| " + " | ".join(_HEADERS) + " |", "|" + "---|" * len(_HEADERS)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def describe_findings(found: Mapping[str, Any]) -> list[str]:
    """One sentence per finding of `retouch_agents.demo.evaluation.findings`."""

    def interval(values: Sequence[float]) -> str:
        mean, low, high = values
        return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"

    return [
        f"Answers that could be carried out: SFT {found['valid_sft']:.1%}, GRPO {found['valid']:.1%}.",
        "instruct, distance as a share of the untouched photo's: "
        f"SFT {found['instruct_sft_of_untouched']:.2f}, GRPO {found['instruct_grpo_of_untouched']:.2f}.",
        "restore, distance as a share of the untouched photo's: "
        f"SFT {found['restore_sft_of_untouched']:.2f}, GRPO {found['restore_grpo_of_untouched']:.2f}; "
        f"paired difference: SFT {interval(found['restore_sft_minus_untouched'])}, "
        f"GRPO {interval(found['restore_grpo_minus_untouched'])}.",
        f"GRPO's paired gain in edit reward over SFT: pooled {interval(found['grpo_gain'])}, "
        f"instruct {interval(found['grpo_gain_instruct'])}, restore {interval(found['grpo_gain_restore'])}.",
        "With the photo blanked out, the restore distance is "
        f"{found['restore_blanked_of_sighted']:.2f} times as large: the agent "
        + ("looks." if found["restore_blanked_of_sighted"] > 1.05 else "hardly looks."),
    ]


def learning_curve(metrics: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Plot the supervised loss, and reward, components and validity over GRPO's iterations, into a PNG."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    sft = [row for row in metrics if row["stage"] == "sft"]
    left.plot([row["step"] for row in sft], [row["loss"] for row in sft], color="tab:gray")
    left.set(title="SFT", xlabel="step", ylabel="loss per answer token (nats)")
    grpo = [row for row in metrics if row["stage"] == "grpo"]
    steps = [row["step"] for row in grpo]
    for name, label in (("reward", "edit reward R"), ("likeness", "likeness L"), ("usefulness", "usefulness U")):
        values = [row.get(name, np.nan) for row in grpo]
        (line,) = right.plot(steps, values, alpha=0.25)
        right.plot(steps, _smooth(values), color=line.get_color(), label=label)
    right.set(title="GRPO, sampled answers on training photos", xlabel="iteration", ylabel="mean over the batch")
    right.legend(loc="lower right")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _smooth(values: Sequence[float], width: int = 15) -> list[float]:
    return [float(np.mean(values[max(0, index - width + 1) : index + 1])) for index in range(len(values))]
