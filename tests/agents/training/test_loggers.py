from __future__ import annotations

import importlib.util
import struct
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from retouch_agents.training import loggers
from retouch_agents.training.config import LoggingConfig
from retouch_agents.training.loggers import TensorBoardSink, WandbSink, WatchedLog, check_logging
from retouch_gym.errors import ConfigurationError


def scalars(folder: Path) -> list[tuple[str, int, float]]:
    """(tag, step, value) of the event files below a folder, which frame each event by its length and checksums."""
    found = []
    for path in sorted(folder.rglob("events.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            at += length + 16
    return found


def test_tensorboard_is_a_copy_of_the_metrics(tmp_path: Path) -> None:
    log = WatchedLog(tmp_path / "metrics.jsonl", [TensorBoardSink(tmp_path / "tensorboard")])
    log.rewind("rl", 0)
    for step in (1, 2, 3):
        log.append("rl", {"step": step, "reward": step / 4, "kl": float("nan") if step == 2 else 0.5})
    log.close()
    found = scalars(tmp_path / "tensorboard" / "rl")
    assert [(step, value) for tag, step, value in found if tag == "ray/tune/reward"] == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert [step for tag, step, _ in found if tag == "ray/tune/kl"] == [1, 3]


def test_a_resumed_run_has_no_gap_and_no_repeat_in_tensorboard(tmp_path: Path) -> None:
    for last in (3, 5):
        log = WatchedLog(tmp_path / "metrics.jsonl", [TensorBoardSink(tmp_path / "tensorboard")])
        # The checkpoint is of step 2, so that step 3 is made again.
        log.rewind("rl", 2)
        first = 1 if last == 3 else 3
        for step in range(first, last + 1):
            log.append("rl", {"step": step, "reward": step / 4})
        log.close()
    steps = [step for tag, step, _ in scalars(tmp_path / "tensorboard") if tag == "ray/tune/reward"]
    assert steps == [1, 2, 3, 4, 5]
    assert [row["step"] for row in log.read()] == steps


class FakeRun:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.metrics: list[tuple[str, str]] = []
        self.finished = False

    def define_metric(self, name: str, step_metric: str) -> None:
        self.metrics.append((name, step_metric))

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def finish(self) -> None:
        self.finished = True


def test_wandb_keeps_its_run_when_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    run = FakeRun()
    monkeypatch.setenv("WANDB_MODE", "")
    monkeypatch.setattr(loggers, "setup_wandb", lambda config, **given: calls.append(given) or run)
    for _ in range(2):
        sink = WandbSink(tmp_path / "wandb", LoggingConfig(wandb="offline"), {"seed": 0})
    sink.begin("rl", [])
    sink.row("rl", {"step": 1, "reward": 0.5, "kl": float("nan")})
    sink.close()
    assert calls[0]["trial_id"] == calls[1]["trial_id"]
    assert (calls[0]["mode"], calls[0]["project"]) == ("offline", "retouch-gym")
    assert run.rows == [{"rl/step": 1, "rl/reward": 0.5}]
    assert run.metrics == [("rl/*", "rl/step")]
    assert run.finished


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_a_logger_that_is_not_installed_names_its_extra() -> None:
    check_logging(LoggingConfig())
    with pytest.raises(ConfigurationError, match=r"pip install 'retouch-gym\[wandb\]', or .*wandb=off"):
        check_logging(LoggingConfig(wandb="offline"))
