"""A training run that ours and TRL both know how to do, and the clock that both are timed with."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from judge import tasks

STAGES = ("generation", "reward", "learning", "rest")
"""What an iteration's seconds are split into; `rest` is prompts, weights and bookkeeping."""


@dataclass(frozen=True)
class Run:
    """One training run in a process of its own.

    Args:
        side: ``"ours"``, ``"trl"``, or ``"same"`` for both on the same answers.
        model: Folder of the model to start from.
        out: Folder for ``result.json`` and, if it is to be kept, ``policy``.
        seed: Seed of the order of tasks and of sampling.
        iterations: Of generating answers and learning from them.
        warm_up: Iterations at the beginning that are not timed.
        threads: Of torch and numba in the training process.
        processes: Ours: remote env runners, 0 for none. TRL: data-parallel processes, 0 for a single one.
        kl: Weight of the KL penalty to the first model; 0 for no reference model.
        updates: Optimiser steps on the answers of an iteration, each on all of them.
        prompts: Tasks of an iteration.
        group: Answers to each.
        max_new_tokens: Most tokens of an answer.
        learning_rate: Of Adam, constant, without weight decay.
        keep: Whether the trained policy is written.
    """

    side: str
    model: str
    out: str
    seed: int
    iterations: int
    warm_up: int = 3
    threads: int = 1
    processes: int = 0
    kl: float = 0.04
    updates: int = 2
    prompts: int = 16
    group: int = 8
    max_new_tokens: int = 64
    learning_rate: float = 1e-4
    keep: bool = False

    @property
    def answers(self) -> int:
        """Answers of an iteration."""
        return self.prompts * self.group

    def env_config(self) -> dict[str, Any]:
        """Arguments of `RetouchEnv`, for both sides."""
        return {
            "toolset": "iea",
            "dataset": "samples",
            "dataset_kwargs": tasks("train", self.seed + 100),
            "max_turns": 1,
            "reward": "edit",
        }

    def write(self, path: Path) -> None:
        """Save as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Run:
        """Inverse of `write`."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


class Clock:
    """Seconds of every iteration and of its stages.

    Attributes:
        seconds: Of whole iterations, by the wall's clock.
        processor: What this process, all its threads together, used of the processor in them: on a busy machine it
            tells more, for a run with one thread and no other processes.
        stages: Name of the stage to its seconds in every iteration, by the wall's clock.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.processor: list[float] = []
        self.stages: dict[str, list[float]] = {}
        self.start()

    def start(self) -> None:
        """An iteration begins."""
        self._open: dict[str, float] = {}
        self._began = time.perf_counter(), time.process_time()

    def add(self, stage: str, seconds: float) -> None:
        """Count seconds of the iteration that is running towards a stage."""
        self._open[stage] = self._open.get(stage, 0.0) + seconds

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function; what it takes counts towards a stage."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            result = function(*args, **kwargs)
            self.add(stage, time.perf_counter() - began)
            return result

        return wrapped

    def stop(self) -> None:
        """The iteration is over; what no stage took is `rest`."""
        self.seconds.append(time.perf_counter() - self._began[0])
        self.processor.append(time.process_time() - self._began[1])
        self.add("rest", self.seconds[-1] - sum(self._open.values()))
        for stage, seconds in self._open.items():
            self.stages.setdefault(stage, []).append(seconds)


def save_result(run: Run, clock: Clock, rewards: list[float], lengths: list[float], threads: int) -> None:
    """Write ``result.json``: the run, its seconds, and the mean reward and length of the answers of every iteration.

    Args:
        run: The run.
        clock: Its clock.
        rewards: Mean reward of the answers of each iteration.
        lengths: Mean length of the answers of each iteration, in tokens.
        threads: What torch says it used.
    """
    found = {
        "run": asdict(run),
        "seconds": clock.seconds,
        "processor": clock.processor,
        "stages": clock.stages,
        "reward": rewards,
        "length": lengths,
        "threads": threads,
    }
    target = Path(run.out) / "result.json"
    fresh = target.with_suffix(".new")
    fresh.write_text(json.dumps(found), encoding="utf-8")
    fresh.replace(target)
