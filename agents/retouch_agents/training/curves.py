"""Learning curves as one PNG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Rows: TypeAlias = Sequence[Mapping[str, Any]]

_TIMES = ("sample_seconds", "score_seconds", "learn_seconds", "sync_seconds")
_SMOOTH_ABOVE = 30
"""A mean over a tenth of the run is drawn above this many rows."""


def draw_curves(rows: Rows, path: Path) -> None:
    """Draw every stage of metrics.jsonl, a line of panels each, into a PNG that is replaced at once.

    Supervised: loss, gradient norm, learning rate, speed. Reinforcement: reward with its spread, KL, entropy,
    length of the answers, share of well-formed ones, and the time of each stage of an iteration.

    Args:
        rows: Rows of `MetricsLog`.
        path: The file.
    """
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    if not stages:
        return
    figure = Figure(figsize=(20, 3.4 * len(stages)), layout="constrained")
    grid = figure.subplots(len(stages), 6, squeeze=False)
    for name, panels in zip(stages, grid, strict=True):
        mine = [row for row in rows if row["stage"] == name]
        kinds = _SUPERVISED if any("loss" in row and "reward" not in row for row in mine) else _REINFORCED
        for panel, (title, draw) in zip(panels, kinds.items(), strict=False):
            draw(panel, mine)
            panel.set(title=f"{name}: {title}", xlabel="step")
            panel.grid(alpha=0.3)
        for panel in panels[len(kinds) :]:
            panel.set_axis_off()
    fresh = path.with_name(f".{path.name}")
    figure.savefig(fresh, dpi=90, format="png")
    fresh.replace(path)


def _series(rows: Rows, name: str) -> tuple[list[int], np.ndarray]:
    values = [row.get(name) for row in rows]
    return [row["step"] for row in rows], np.array([np.nan if value is None else value for value in values], float)


def _line(name: str, log: bool = False) -> Callable[[Axes, Rows], None]:
    def draw(panel: Axes, rows: Rows) -> None:
        steps, values = _series(rows, name)
        smooth = len(rows) > _SMOOTH_ABOVE
        panel.plot(steps, values, color="tab:blue", alpha=0.35 if smooth else 1.0, marker="" if smooth else ".")
        if smooth:
            panel.plot(steps, _mean(values, len(rows) // 10), color="tab:blue")
        if log and np.all(values[np.isfinite(values)] > 0):
            panel.set_yscale("log")

    return draw


def _reward(panel: Axes, rows: Rows) -> None:
    steps, reward = _series(rows, "reward")
    _, spread = _series(rows, "reward_std")
    panel.fill_between(steps, reward - spread, reward + spread, alpha=0.15, color="tab:blue", label="± std of answers")
    _line("reward")(panel, rows)
    panel.legend(loc="lower right", fontsize="small")


def _times(panel: Axes, rows: Rows) -> None:
    steps = [row["step"] for row in rows]
    shares = {name: np.nan_to_num(_series(rows, name)[1]) for name in _TIMES}
    used = {name.removesuffix("_seconds"): values for name, values in shares.items() if values.any()}
    if used:
        panel.stackplot(steps, list(used.values()), labels=list(used), alpha=0.8)
        panel.legend(loc="upper right", fontsize="small")
    panel.set_ylim(bottom=0)


_SUPERVISED: Mapping[str, Callable[[Axes, Rows], None]] = {
    "loss per answer token (nats)": _line("loss"),
    "gradient norm": _line("grad_norm"),
    "learning rate": _line("lr"),
    "examples per second": _line("examples_per_s"),
}
_REINFORCED: Mapping[str, Callable[[Axes, Rows], None]] = {
    "reward": _reward,
    "KL to the reference": _line("kl"),
    "entropy (nats per token)": _line("entropy"),
    "tokens per answer": _line("response_length"),
    "well-formed answers": _line("well_formed_rate"),
    "seconds of an iteration": _times,
}


def _mean(values: np.ndarray, width: int) -> list[float]:
    """Running mean over the last `width` values, without those that are missing."""
    windows = [values[max(0, index - width + 1) : index + 1] for index in range(len(values))]
    return [float(np.mean(window[np.isfinite(window)])) if np.isfinite(window).any() else np.nan for window in windows]
