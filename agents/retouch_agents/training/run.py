"""A run in its folder: stage after stage, what is done already left alone."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from retouch_agents.checkpoints import recover_folder
from retouch_agents.training.config import RLStage, TrainConfig
from retouch_agents.training.curves import draw_curves
from retouch_agents.training.loggers import WatchedLog, make_sinks
from retouch_agents.training.plan import FOLDER
from retouch_agents.training.progress import ProgressSink, describe
from retouch_agents.training.reading import read_config, write_config
from retouch_agents.training.stages import run_rl, run_sft
from retouch_agents.training.start import starting_model
from retouch_gym.errors import ConfigurationError

CONFIG, METRICS, CURVES = "config.yaml", "metrics.jsonl", "curves.png"


class CurvesSink:
    """Draws the learning curves anew at every checkpoint and at the end.

    Args:
        log: Where the rows are.
        path: The PNG.
        every: Steps between two checkpoints, by stage.
    """

    def __init__(self, log: Path, path: Path, every: Mapping[str, int]) -> None:
        self.log = WatchedLog(log, ())
        self.path = path
        self.every = every

    def begin(self, stage: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Nothing yet."""

    def row(self, stage: str, row: Mapping[str, Any]) -> None:
        """Draw if a checkpoint was due."""
        if row["step"] % self.every[stage] == 0:
            self.close()

    def close(self) -> None:
        """Draw."""
        draw_curves(self.log.read(), self.path)


class Run:
    """Carries out a configuration.

    Args:
        config: The run.
        console: Where to speak.
    """

    def __init__(self, config: TrainConfig, console: Console) -> None:
        self.config = config
        self.console = console
        self.output = config.output

    def run(self, *, resume: bool = False) -> None:
        """Do what is left to do, then say where everything is.

        Args:
            resume: Go on in a folder that holds this run already.

        Raises:
            ConfigurationError: If the folder holds something else, or a run and `resume` is not set.
        """
        self._claim(resume)
        metrics = self._metrics()
        running_already = ray.is_initialized()
        try:
            model = starting_model(self.config, self.output / "model")
            for number, name in enumerate(self.config.stages, 1):
                self._stage(number, name, model, metrics)
                model = self.output / name
        finally:
            metrics.close()
            if not running_already and ray.is_initialized():
                ray.shutdown()
        self.summary()

    def _claim(self, resume: bool) -> None:
        """Take the folder, or find out that it is another's.

        Raises:
            ConfigurationError: See `run`.
        """
        path = self.output / CONFIG
        others = [found.name for found in self.output.iterdir() if found.name != FOLDER] if self.output.is_dir() else []
        if others and not path.is_file():
            raise ConfigurationError(
                f"{self.output} holds other things than a run ({', '.join(sorted(others)[:3])}); choose another: "
                "output=FOLDER."
            )
        if others and not resume:
            raise ConfigurationError(
                f"{self.output} holds a run already; go on with it by --resume, or choose another: output=FOLDER."
            )
        if others:
            self._same_as(read_config(path))
        self.output.mkdir(parents=True, exist_ok=True)
        path.write_text(write_config(self.config), encoding="utf-8")

    def _same_as(self, found: TrainConfig) -> None:
        before, now = _flat(found.comparable()), _flat(self.config.comparable())
        different = [
            f"{key} = {before.get(key)!r} there, {now.get(key)!r} now"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
        ]
        if different:
            raise ConfigurationError(
                f"{self.output} was begun with other settings: {'; '.join(different)}. Resume with the same ones, or "
                "choose another folder: output=FOLDER."
            )

    def _metrics(self) -> WatchedLog:
        config = self.config
        path = self.output / METRICS
        plain = json.loads(json.dumps(_flat(config.comparable()), default=str))
        sinks = make_sinks(config.logging, self.output, plain)
        if config.logging.curves:
            every = {name: stage.checkpoint_every for name, stage in config.stages.items()}
            sinks.append(CurvesSink(path, self.output / CURVES, every))
        lengths = {name: stage.length for name, stage in config.stages.items()}
        return WatchedLog(path, [*sinks, ProgressSink(self.console, lengths)])

    def _stage(self, number: int, name: str, model: Path, metrics: WatchedLog) -> None:
        stage = self.config.stages[name]
        head = f"[{number}/{len(self.config.stages)}] {name}"
        if recover_folder(self.output / name).is_dir():
            self.console.print(Text(f"{head}: done already", style="dim"))
            return
        self.console.print(Text(f"{head}: {stage.algorithm}, {stage.length:,} steps from {model}", style="bold cyan"))
        carry_out = run_rl if isinstance(stage, RLStage) else run_sft
        carry_out(self.config, name, model, metrics, lambda step, text: None)

    def summary(self) -> None:
        """Print the last numbers of every stage, where things are, and what to do next."""
        rows = WatchedLog(self.output / METRICS, ()).read()
        table = Table(title=f"Done: {self.output}")
        for header in ("stage", "steps", "at the end"):
            table.add_column(header)
        for name in self.config.stages:
            mine = [row for row in rows if row["stage"] == name]
            if mine:
                table.add_row(name, str(mine[-1]["step"]), describe(mine[-1]))
        self.console.print(table)
        last = self.output / list(self.config.stages)[-1]
        places = {
            str(last): "the trained model; from_pretrained opens it",
            str(self.output / METRICS): "every logged row",
            str(self.output / CURVES): "learning curves" if self.config.logging.curves else "",
            str(self.output / "tensorboard"): "tensorboard --logdir it" if self.config.logging.tensorboard else "",
            str(self.output / "wandb"): "wandb sync its run folders" if self.config.logging.wandb == "offline" else "",
            str(self.output / CONFIG): "the settings, every default written out",
        }
        for place, meaning in places.items():
            if meaning:
                self.console.print(Text(f"  {place}  {meaning}"), soft_wrap=True)
        self.console.print(Text(f"Next: {evaluation_command(self.config, last)}"), soft_wrap=True)


def evaluation_command(config: TrainConfig, model: Path) -> str:
    """A command that measures a model on tasks that it was not trained on."""
    environment = config.environment
    options = {**environment.dataset_options, "split": "test"}
    if "size" in options:
        options["size"] = 240
    words = ["retouch-gym", "evaluate", str(model), "--dataset", environment.dataset]
    words += ["--dataset-kwargs", json.dumps(options), "--toolset", environment.toolset, "--reward", environment.reward]
    if environment.reward_options:
        words += ["--reward-kwargs", json.dumps(environment.reward_options)]
    return shlex.join(words)


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{name}.")
        else:
            found[name] = value
    return found
