"""The stages of the main job. Each leaves a folder; a stage whose folder is there is not run again."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from retouch_agents.checkpoints import swap_folder
from retouch_agents.demo.config import MODEL_SIZE, DemoConfig
from retouch_agents.demo.evaluation import evaluate_demo
from retouch_agents.demo.report import Row, describe_findings, learning_curve, markdown_table, rich_table
from retouch_agents.metrics_log import MetricsLog
from retouch_agents.reinforce import GRPOStage, reinforce
from retouch_agents.sft import SFTConfig, SFTTrainer
from retouch_agents.tiny import build_tiny
from retouch_gym.datasets.grammar import words
from retouch_gym.errors import ConfigurationError
from retouch_gym.tools.iea import IEA

ARTEFACTS = {
    "contact_sheet.png": "before, SFT, GRPO and reference, with the instruction and the calls made",
    "learning_curve.png": "supervised loss; reward over GRPO's iterations",
    "table.md": "the table above",
    "metrics.jsonl": "every logged row",
    "evaluation.json": "every held-out episode",
    "sft/, grpo/": "models; open them with from_pretrained",
}


class Demo:
    """Runs the main job in a folder.

    Args:
        out: The folder.
        config: Settings; a folder made with others is refused.
        console: Where to speak.
    """

    def __init__(self, out: Path, config: DemoConfig, console: Console) -> None:
        self.out = out
        self.config = config
        self.console = console
        self.metrics = MetricsLog(out / "metrics.jsonl")

    def run(self, *, fresh: bool = False) -> None:
        """Run what is left to do, then print the table.

        Raises:
            ConfigurationError: If the folder was made with other settings and `fresh` is not set.
        """
        self._claim_folder(fresh)
        report = self.out / "evaluation.json"
        if report.is_file():
            self.console.print(f"[green]Already done.[/] Results of [bold]{self.out}[/] (--fresh to start over):")
        started = time.perf_counter()
        base, sft, grpo = self.out / "base", self.out / "sft", self.out / "grpo"
        if not base.is_dir():
            self._say("1/4", "Building a tiny Qwen3-VL with random weights, and training its tokenizer")
            fresh_base = build_tiny(self.out / "base.new", IEA, words(), size=MODEL_SIZE, seed=self.config.seed)
            swap_folder(fresh_base, base)
        if not sft.is_dir():
            self._say("2/4", f"Supervised fine-tuning, {self.config.sft_steps} steps")
            self._fine_tune(base, sft)
        if not grpo.is_dir():
            self._say("3/4", f"GRPO on Ray RLlib, {self.config.grpo_iterations} iterations")
            if self.config.env_runners:
                self.console.print(
                    "[dim]Ray may print a line about constructor arguments in the object store: harmless.[/]"
                )
            with self._progress("GRPO", self.config.grpo_iterations) as show:
                reinforce(sft, grpo, self._grpo_stage(), self.metrics, show)
        if not report.is_file():
            self._say("4/4", f"Evaluating on {self.config.test_tasks} held-out tasks")
            evaluate_demo(self.out, self.config)
            learning_curve(self.metrics.read(), self.out / "learning_curve.png")
            self._record_time(time.perf_counter() - started)
        self._print_results()

    def _claim_folder(self, fresh: bool) -> None:
        path = self.out / "config.json"
        if not path.is_file() and self.out.is_dir() and any(self.out.iterdir()):
            raise ConfigurationError(f"{self.out} holds other things than a demo. Choose an empty or new --out.")
        if fresh:
            shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True, exist_ok=True)
        wanted = json.loads(json.dumps(asdict(self.config)))
        if not path.is_file():
            path.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
            return
        found = json.loads(path.read_text(encoding="utf-8"))
        different = [
            f"{key} = {found.get(key)!r} there, {wanted[key]!r} now" for key in wanted if found.get(key) != wanted[key]
        ]
        if different:
            raise ConfigurationError(
                f"{self.out} was made with other settings ({'; '.join(different)}). "
                "Choose another folder with --out, or start over with --fresh."
            )

    def _say(self, stage: str, text: str) -> None:
        self.console.print(f"[bold cyan]\\[{stage}][/] {text} …")

    @contextmanager
    def _progress(self, name: str, total: int) -> Iterator[Any]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=self.console) as progress:
            bar = progress.add_task(name, total=total)

            def show(step: int, text: str) -> None:
                progress.update(bar, completed=step, description=f"{name}  {text}")

            yield show

    def _fine_tune(self, base: Path, output: Path) -> None:
        settings = SFTConfig(steps=self.config.sft_steps, batch_size=self.config.sft_batch)
        trainer = SFTTrainer(base, output, self.config.env_config("train"), settings)
        self.metrics.rewind("sft", trainer.step)
        with self._progress("SFT", settings.steps) as show:
            for row in trainer.train():
                self.metrics.append("sft", row)
                show(int(row["step"]), f"loss {row['loss']:.3f}")

    def _grpo_stage(self) -> GRPOStage:
        config = self.config
        return GRPOStage(
            env_config=config.env_config("train"),
            iterations=config.grpo_iterations,
            prompts_per_iteration=config.prompts_per_iteration,
            group_size=config.group_size,
            env_runners=config.env_runners,
            seed=config.seed,
        )

    def _record_time(self, seconds: float) -> None:
        path = self.out / "evaluation.json"
        report = json.loads(path.read_text(encoding="utf-8"))
        report["minutes"] = round(seconds / 60, 2)
        path.write_text(json.dumps(report, indent=1), encoding="utf-8")

    def _print_results(self) -> None:
        report = json.loads((self.out / "evaluation.json").read_text(encoding="utf-8"))
        rows = [Row(**row) for row in report["table"]]
        (self.out / "table.md").write_text(markdown_table(rows), encoding="utf-8")
        table_console = Console(width=max(self.console.width, 140), quiet=self.console.quiet)
        table_console.print(
            rich_table(rows, f"Held-out photos, {report['config']['test_tasks']} tasks, greedy answers")
        )
        for line in describe_findings(report["findings"]):
            self.console.print(line)
        self.console.print(f"The run that finished it took {report['minutes']} minutes. In [bold]{self.out}[/]:")
        for name, meaning in ARTEFACTS.items():
            self.console.print(f"  {name:<20} {meaning}")
