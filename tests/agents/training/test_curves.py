from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image

from retouch_agents.training.curves import draw_curves


def rows(count: int) -> list[dict[str, object]]:
    sft = [{"stage": "sft", "step": step, "loss": 5 / step, "lr": 1e-4} for step in range(1, count)]
    rl = [
        {"stage": "rl", "step": step, "reward": None if step == 3 else step / 10, "reward_std": 0.2, "kl": 0.01 * step}
        | {"entropy": 1.0, "response_length": 20, "well_formed_rate": 0.9, "sample_seconds": 2.0, "learn_seconds": 1.0}
        for step in range(1, count)
    ]
    return [*sft, *rl]


def test_a_line_of_panels_per_stage(tmp_path: Path) -> None:
    draw_curves(rows(6), tmp_path / "curves.png")
    both = PIL.Image.open(tmp_path / "curves.png")
    draw_curves([row for row in rows(6) if row["stage"] == "rl"], tmp_path / "one.png")
    one = PIL.Image.open(tmp_path / "one.png")
    assert both.size == (one.width, 2 * one.height)
    assert np.asarray(both.convert("L")).std() > 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "one.png"]


def test_a_picture_is_replaced_as_the_run_goes_on(tmp_path: Path) -> None:
    draw_curves(rows(4), tmp_path / "curves.png")
    before = (tmp_path / "curves.png").read_bytes()
    draw_curves(rows(60), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes() != before


def test_without_rows_there_is_nothing_to_draw(tmp_path: Path) -> None:
    draw_curves([], tmp_path / "curves.png")
    assert list(tmp_path.iterdir()) == []
