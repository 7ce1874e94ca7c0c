"""What `scaling.py` trains: the policy, the algorithm with a number of runners, and runs side by side, timed."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from retouch_agents.demo.config import MODEL_SIZE
from retouch_agents.rllib import GRPO, GRPOConfig
from retouch_agents.sft import SFTConfig, SFTTrainer
from retouch_agents.tiny import build_tiny
from retouch_gym.datasets.grammar import words
from retouch_gym.tools.iea import IEA

GROUP = 8
"""Answers to each task."""

BATCH = 16
"""Tasks of an iteration of the runs that are measured: 128 answers."""

MAX_TOKENS = 64
"""Most tokens of an answer."""

RUNNERS = (0, 1, 2)
"""How many remote runners; with 0 the driver samples itself."""

CLOCKS = ("sample_seconds", "learn_seconds", "sync_seconds", "encode_seconds", "generate_seconds", "play_seconds")
"""What is kept of ``train()["grpo"]``."""


def dataset(seed: int) -> dict[str, Any]:
    """Requests in words and photos to be restored, 64 pixels, as in the main job."""
    return {"split": "train", "size": 1_000_000, "resolution": 64, "seed": seed}


def start_policy(out: Path, steps: int, seed: int = 0) -> Path:
    """A policy whose answers end by themselves, taught once."""
    folder = out / f"policy-{steps}"
    if not folder.is_dir():
        base = build_tiny(out / "base", IEA, words(), size=MODEL_SIZE, seed=seed)
        env = {"toolset": "iea", "dataset": "samples", "dataset_kwargs": dataset(seed)}
        for row in SFTTrainer(base, folder, env, SFTConfig(steps=steps, log_every=50)).train():
            print(f"policy, step {row['step']:.0f} of {steps}: loss {row['loss']:.3f}", flush=True)
    return folder


def algorithm(policy: Path, runners: int, staleness: int = 0) -> GRPO:
    """GRPO with a number of remote runners; whatever the number, the same tasks and seeds, so the same answers.

    The learning rate is so small that every iteration is as much work as the last.

    Args:
        policy: The model's folder.
        runners: Remote runners; 0 samples in the driver.
        staleness: How old the weights may be that an answer is drawn with; 0 samples and learns in turns.
    """
    env = {"toolset": "iea", "dataset": "samples", "dataset_kwargs": dataset(100), "reward": "edit", "max_turns": 1}
    settings: dict[str, Any] = {"max_staleness": staleness} if staleness else {}
    config: Any = (
        GRPOConfig()
        .environment("Retouch/Retouch-v0", env_config=env)
        .env_runners(num_env_runners=runners)
        .learners(num_learners=0)
        .training(
            model=str(policy.resolve()),
            group_size=GROUP,
            prompts_per_iteration=BATCH,
            max_new_tokens=MAX_TOKENS,
            lr=1e-6,
            **settings,
        )
        .debugging(seed=0)
    )
    return GRPO(config=config)


def overlaps() -> bool:
    """Whether sampling may overlap with learning: whether there is such a setting."""
    return hasattr(GRPOConfig(), "max_staleness")


def kinds() -> dict[str, tuple[int, int]]:
    """Runs to compare: name to number of runners and staleness."""
    found = {str(count): (count, 0) for count in RUNNERS}
    if overlaps():
        found |= {f"{count} overlapped": (count, 1) for count in RUNNERS if count}
    return found


def measure_runs(
    policy: Path,
    folder: Path,
    compared: Sequence[str],
    repeats: int,
    warm_up: int,
    iterations: int,
    say: Callable[[str], None],
) -> dict[str, list[list[dict[str, float]]]]:
    """Train with every number of runners.

    Those that sample and learn in turns are built together and trained iteration by iteration in turns: while one of
    them trains, the processes of the others sleep, so that each has the machine to itself, and whatever else slows the
    machine down for a while slows all of them down. Those that overlap draw ahead while nobody asks: one after another.

    Args:
        policy: The model's folder.
        folder: Where every repeat is kept as soon as it is done; what is there is not done again.
        compared: Keys of `kinds`.
        repeats: How often all of them are built and trained.
        warm_up: Iterations that are not counted.
        iterations: Those that are.
        say: Is told how far it is.

    Returns:
        Name of the run to a list with an entry for every repeat: a list of iterations, each with ``seconds``, the
        ``processor`` seconds of this process among them, ``answers`` and those of `CLOCKS`.
    """
    found: dict[str, list[list[dict[str, float]]]] = {name: [] for name in compared}
    together = [name for name in compared if kinds()[name][1] == 0]
    alone = [[name] for name in compared if name not in together]
    for repeat in range(repeats):
        for names in (together, *alone):
            target = folder / f"{repeat}-{'-'.join(names).replace(' ', '-')}.json"
            if not target.is_file():
                save(target, _side_by_side(policy, names, warm_up, iterations))
            for name, rows in json.loads(target.read_text(encoding="utf-8")).items():
                found[name].append(rows)
                say(f"repeat {repeat + 1}, {name} runners: {rate(rows):.0f} answers/s")
    return found


def _side_by_side(
    policy: Path, names: Sequence[str], warm_up: int, iterations: int
) -> dict[str, list[dict[str, float]]]:
    """Train several runs, an iteration of each in turns; who goes first changes."""
    algorithms: dict[str, GRPO] = {}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    try:
        for name in names:
            algorithms[name] = algorithm(policy, *kinds()[name])
        for number in range(warm_up + iterations):
            turn = number % len(names)
            for name in (*names[turn:], *names[:turn]):
                row = _iteration(algorithms[name])
                if number >= warm_up:
                    rows[name].append(row)
    finally:
        for one in algorithms.values():
            one.stop()
    return rows


def save(target: Path, found: Any) -> None:
    """Write JSON, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".new")
    fresh.write_text(json.dumps(found, indent=1), encoding="utf-8")
    fresh.replace(target)


def _iteration(running: GRPO) -> dict[str, float]:
    began = time.perf_counter(), time.process_time()
    numbers = running.train()["grpo"]
    seconds, processor = time.perf_counter() - began[0], time.process_time() - began[1]
    kept = {name: float(numbers.get(name, 0.0)) for name in CLOCKS}
    return {**kept, "seconds": seconds, "processor": processor, "answers": float(numbers["answers"])}


def rate(rows: Sequence[dict[str, float]], clock: str = "seconds") -> float:
    """Answers per second of the median iteration.

    Args:
        rows: Iterations of a run.
        clock: Which seconds: of the whole iteration, or of a stage.
    """
    return statistics.median(row["answers"] / max(row[clock], 1e-9) for row in rows)


def usual(runs: Sequence[Sequence[dict[str, float]]], clock: str) -> float:
    """Median seconds over the iterations of all repeats."""
    return statistics.median(row[clock] for rows in runs for row in rows)
