"""What the trainers of `Retouch/Sliders-v0` share: tasks, a held-out examination, and the curve."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import gymnasium as gym
import matplotlib
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

import retouch_gym
from retouch_gym.evaluation import Interval, bootstrap_interval

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ENV_ID = f"{retouch_gym.__name__}:Retouch/Sliders-v0"
"""With the module in front, so that Gymnasium imports it wherever the environment is made."""

SLIDERS = ("exposure", "contrast", "saturation", "temperature", "tint")

CHALLENGES: dict[str, dict[str, Any]] = {
    "match": {"task": "match", "kind": "restore", "words": "none"},
    "instruct": {"task": "edit", "kind": "instruct", "words": "hash"},
    "restore": {"task": "edit", "kind": "restore", "words": "none"},
}
"""match: the goal is shown. instruct: words say what to do. restore: the photo is off and nothing says how."""

Predict = Callable[[Any], NDArray[Any]]
"""Batched observations in, as many actions (n, sliders) out, without exploration."""


def env_options(challenge: str, split: str, tasks: int, view: str = "flat") -> dict[str, Any]:
    """Arguments of a single-shot `SlidersEnv`: one vector of five sliders, then the reward.

    Args:
        challenge: One of `CHALLENGES`.
        split: ``"train"`` or ``"test"``; no photo is in both.
        tasks: Number of tasks.
        view: ``"flat"``, one vector with photos of 8 × 8 for MLPs; ``"dict"``, photos of 36 × 36 for CNNs.
    """
    wanted = CHALLENGES[challenge]
    return {
        "task": wanted["task"],
        "words": wanted["words"],
        "dataset_kwargs": {"split": split, "kinds": [wanted["kind"]], "size": tasks},
        "sliders": SLIDERS,
        "reward": "likeness",
        "max_turns": 1,
        "cache_mb": 512,
        "flat": view == "flat",
        "size": 8 if view == "flat" else 36,
    }


def options_parser(description: str | None, steps: int | None, steps_help: str) -> argparse.ArgumentParser:
    """The options that the trainers have in common."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--challenge", choices=CHALLENGES, default="match", help="what is asked (default: match)")
    parser.add_argument("--steps", type=int, default=steps, help=steps_help)
    parser.add_argument("--minutes", type=float, default=10, help="stop earlier after this time (default: 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train-tasks", type=int, default=4000, help="tasks to learn from (default: 4000)")
    parser.add_argument("--test-tasks", type=int, default=256, help="held-out tasks (default: 256)")
    parser.add_argument("--out", type=Path, help="folder of the curve and the figures (default: below runs/)")
    return parser


class HeldOut:
    """The same unseen photos for every policy, all in one batch."""

    def __init__(self, options: dict[str, Any], count: int) -> None:
        self.count = count
        self.envs = gym.make_vec(ENV_ID, num_envs=count, prefetch=False, **options)
        self.observations, _ = self.envs.reset(options={"index": range(count)})

    def rewards(self, actions: NDArray[Any]) -> NDArray[np.float64]:
        """The reward of an action (n, sliders) in each task."""
        self.envs.reset(options={"index": range(self.count)})
        _, rewards, _, _, _ = self.envs.step(actions)
        return np.asarray(rewards, np.float64)

    def of_others(self) -> Any:
        """The observations, each task's in the place of the next one."""
        if isinstance(self.observations, dict):
            return {name: np.roll(part, 1, axis=0) for name, part in self.observations.items()}
        return np.roll(self.observations, 1, axis=0)


class Training:
    """Shows how far a training is, examines the policy on the way, and writes down what came of it.

    Args:
        title: Algorithm and library, for the curve and the table.
        given: The options of `options_parser`.
        options: Arguments of the environment of the held-out tasks.
        predict: The policy as it is when called.
        examinations: How often the policy is examined, the start not counted.
    """

    def __init__(
        self,
        title: str,
        given: argparse.Namespace,
        options: dict[str, Any],
        predict: Predict,
        examinations: int = 10,
    ) -> None:
        self.title, self.given, self.predict = title, given, predict
        self.held_out = HeldOut(options, given.test_tasks)
        self.every = max(1, given.steps // examinations)
        self.curve: list[dict[str, float]] = []
        self.steps, self.seconds, self._began = 0, 0.0, time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps,"))
        self._progress = Progress(*columns, TimeElapsedColumn(), TextColumn("of about"), TimeRemainingColumn())
        self._bar = self._progress.add_task(title, total=given.steps)

    def __enter__(self) -> Training:
        self.given.out.mkdir(parents=True, exist_ok=True)
        self._progress.start()
        self._examine()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def reached(self, steps: int) -> bool:
        """Say how many steps were taken.

        Returns:
            Whether to go on: there are steps and time left.
        """
        self.seconds += time.monotonic() - self._began
        self.steps = steps
        ended = steps >= self.given.steps or self.seconds >= 60 * self.given.minutes
        if ended or steps >= self.curve[-1]["steps"] + self.every:
            self._examine()
        self._progress.update(self._bar, completed=min(steps, self.given.steps))
        self._began = time.monotonic()
        return not ended

    def _examine(self) -> None:
        found = bootstrap_interval(self.held_out.rewards(self.predict(self.held_out.observations)))
        self.curve.append({"steps": self.steps, "seconds": self.seconds, **found._asdict()})
        self._progress.update(self._bar, description=f"{self.title}: held-out reward {found.mean:+.3f}")
        # The clock of the training does not run during examinations.
        self._began = time.monotonic()

    def report(self) -> dict[str, Any]:
        """Print the table, write ``curve.png`` and ``result.json``, and return the figures."""
        out = self.given.out
        rewards = self._rewards()
        result = {
            "title": self.title,
            "options": {**vars(self.given), "out": str(self.given.out)},
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "steps_per_second": round(self.steps / max(self.seconds, 1e-9), 1),
            "rewards": {name: bootstrap_interval(found)._asdict() for name, found in rewards.items()},
            "trained_minus": {
                name: bootstrap_interval(rewards["trained"] - found)._asdict()
                for name, found in rewards.items()
                if name != "trained"
            },
            "curve": self.curve,
        }
        result["learned"] = all(result["trained_minus"][name]["low"] > 0 for name in ("untouched", "random"))
        (out / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        self._plot(out / "curve.png", Interval(**result["rewards"]["random"]))
        self._print(result)
        return result

    def _rewards(self) -> dict[str, NDArray[np.float64]]:
        """Rewards per held-out task of the policy and of what it has to beat."""
        space = self.held_out.envs.action_space
        space.seed(self.given.seed)
        return {
            "trained": self.held_out.rewards(self.predict(self.held_out.observations)),
            "untouched": self.held_out.rewards(np.zeros(space.shape, np.float32)),
            "random": self.held_out.rewards(space.sample()),
            "trained, wrong photos": self.held_out.rewards(self.predict(self.held_out.of_others())),
        }

    def _plot(self, path: Path, random: Interval) -> None:
        steps, mean, low, high = (
            np.array([point[name] for point in self.curve]) for name in ("steps", "mean", "low", "high")
        )
        figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
        axes.fill_between(steps, low, high, alpha=0.25, linewidth=0)
        axes.plot(steps, mean, marker="o", markersize=3, label=f"{self.title}, 95% interval")
        axes.axhline(0, color="black", linewidth=1, label="untouched")
        axes.axhspan(random.low, random.high, color="tab:red", alpha=0.25, linewidth=0)
        axes.axhline(random.mean, color="tab:red", linewidth=1, linestyle="--", label="random")
        axes.set(
            title=f"Sliders-v0, {self.given.challenge}: {self.given.test_tasks} tasks on unseen photos",
            xlabel="environment steps",
            ylabel="likeness (0 untouched, 1 the reference)",
        )
        axes.grid(alpha=0.3)
        axes.legend(loc="center right")
        figure.savefig(path, dpi=120)
        plt.close(figure)

    def _print(self, result: dict[str, Any]) -> None:
        console = Console()
        table = Table(title=f"{self.title}, {self.given.challenge}: held-out reward, mean [95% interval]")
        for name, side in (("policy", "left"), ("reward", "right"), ("trained − it, paired", "right")):
            table.add_column(name, justify=side)
        for name, found in result["rewards"].items():
            gain = result["trained_minus"].get(name)
            table.add_row(name, _as_text(found), "" if gain is None else _as_text(gain))
        console.print(table)
        console.print(
            f"{result['steps']} steps in {result['seconds'] / 60:.1f} minutes, "
            f"{result['steps_per_second']:.0f} a second. Curve and figures: {self.given.out}"
        )
        if not result["learned"]:
            console.print("Not (yet) above untouched and random: train longer, see --steps and --minutes.")


def _as_text(found: dict[str, float]) -> str:
    return f"{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
