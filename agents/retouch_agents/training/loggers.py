"""Copies of metrics.jsonl for other tools: TensorBoard and Weights & Biases, through Ray Tune's own loggers."""

from __future__ import annotations

import importlib.util
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ray.air.constants import TRAINING_ITERATION
from ray.air.integrations.wandb import WANDB_MODE_ENV_VAR, setup_wandb
from ray.tune.logger import TBXLoggerCallback

from retouch_agents.metrics_log import MetricsLog
from retouch_agents.training.config import LoggingConfig
from retouch_gym.errors import ConfigurationError

Row = Mapping[str, Any]


class Sink(Protocol):
    """Something that is told every row of metrics.jsonl."""

    def begin(self, stage: str, rows: Sequence[Row]) -> None:
        """A stage begins, or goes on after the `rows` it has written before."""
        ...

    def row(self, stage: str, row: Row) -> None:
        """A row was written."""
        ...

    def close(self) -> None:
        """No more rows come."""
        ...


class WatchedLog(MetricsLog):
    """metrics.jsonl, the source of truth, and sinks that are told what is written to it.

    Args:
        path: The file.
        sinks: Who is told.
    """

    def __init__(self, path: Path, sinks: Sequence[Sink]) -> None:
        super().__init__(path)
        self.sinks = sinks

    def append(self, stage: str, row: Mapping[str, Any]) -> None:
        """Write one row, then tell the sinks."""
        super().append(stage, row)
        for sink in self.sinks:
            sink.row(stage, row)

    def rewind(self, stage: str, step: int) -> None:
        """Drop the rows of a stage after `step`, then tell the sinks which are left."""
        super().rewind(stage, step)
        kept = [row for row in self.read() if row["stage"] == stage]
        for sink in self.sinks:
            sink.begin(stage, kept)

    def close(self) -> None:
        """Close the sinks."""
        for sink in self.sinks:
            sink.close()


@dataclass(eq=False)
class _Trial:
    """What Ray Tune's loggers read of a trial.

    Args:
        local_path: Folder of its files.
        evaluated_params: Settings that were varied: none.
    """

    local_path: str
    evaluated_params: Mapping[str, Any] = field(default_factory=dict)

    def init_local_path(self) -> None:
        """Make the folder."""
        Path(self.local_path).mkdir(parents=True, exist_ok=True)


class TensorBoardSink:
    """Event files, a folder per stage, by Ray Tune's `TBXLoggerCallback`.

    When a run goes on, a stage's events are written anew from metrics.jsonl, so that no step is missing or there twice.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logger: Any = TBXLoggerCallback()
        self.trials: dict[str, Any] = {}

    def begin(self, stage: str, rows: Sequence[Row]) -> None:
        """Start a stage's folder anew."""
        self._end(stage)
        shutil.rmtree(self.folder / stage, ignore_errors=True)
        self.trials[stage] = _Trial(str(self.folder / stage))
        self.logger.log_trial_start(self.trials[stage])
        for row in rows:
            self.row(stage, row)

    def row(self, stage: str, row: Row) -> None:
        """Write a row, at its step."""
        numbers = {name: value for name, value in row.items() if _is_number(value) and name != "step"}
        self.logger.log_trial_result(row["step"], self.trials[stage], {TRAINING_ITERATION: row["step"], **numbers})

    def close(self) -> None:
        """Close the files."""
        for stage in list(self.trials):
            self._end(stage)

    def _end(self, stage: str) -> None:
        if stage in self.trials:
            self.logger.log_trial_end(self.trials.pop(stage))


class WandbSink:
    """A run of Weights & Biases, by Ray's `setup_wandb`. Metrics are called ``STAGE/NAME``.

    Rows cannot be taken back there: when a run goes on, the steps since its last checkpoint are there twice.

    Args:
        folder: Folder called ``wandb`` where its files lie; the id of the run is kept in it.
        settings: Mode and project.
        config: The run's settings, to be shown beside it.
    """

    def __init__(self, folder: Path, settings: LoggingConfig, config: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        identity = folder / "run_id"
        if not identity.is_file():
            identity.write_text(uuid.uuid4().hex[:12], encoding="utf-8")
        # Read from there, Ray asks for no key offline.
        os.environ[WANDB_MODE_ENV_VAR] = settings.wandb
        # It would print a page at the end; the run says itself where its files are.
        os.environ.setdefault("WANDB_SILENT", "true")
        self.run: Any = setup_wandb(
            dict(config),
            project=settings.wandb_project,
            trial_id=identity.read_text(encoding="utf-8"),
            trial_name=folder.parent.name,
            rank_zero_only=False,
            # Makes a folder "wandb" of its own there.
            dir=str(folder.parent),
            mode=settings.wandb,
        )

    def begin(self, stage: str, rows: Sequence[Row]) -> None:
        """Let the stage's numbers be drawn over its own steps."""
        self.run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

    def row(self, stage: str, row: Row) -> None:
        """Send a row."""
        self.run.log({f"{stage}/{name}": value for name, value in row.items() if _is_number(value)})

    def close(self) -> None:
        """Finish the run."""
        self.run.finish()


def check_logging(settings: LoggingConfig) -> None:
    """Refuse loggers whose packages are not installed.

    Raises:
        ConfigurationError: With the extra that brings them.
    """
    wanted = {"tensorboard": ("tensorboardX", settings.tensorboard), "wandb": ("wandb", settings.wandb != "off")}
    for name, (package, used) in wanted.items():
        if used and importlib.util.find_spec(package) is None:
            off = "false" if name == "tensorboard" else "off"
            raise ConfigurationError(
                f"logging.{name} needs {package}, which is not installed: pip install 'retouch-gym[{name}]', or do "
                f"without: logging.{name}={off}."
            )


def make_sinks(settings: LoggingConfig, output: Path, config: Mapping[str, Any]) -> list[Sink]:
    """The sinks that are asked for, writing below `output`.

    Raises:
        ConfigurationError: If one of them is not installed.
    """
    check_logging(settings)
    sinks: list[Sink] = []
    if settings.tensorboard:
        sinks.append(TensorBoardSink(output / "tensorboard"))
    if settings.wandb != "off":
        sinks.append(WandbSink(output / "wandb", settings, config))
    return sinks


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
