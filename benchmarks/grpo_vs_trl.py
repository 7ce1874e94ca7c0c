"""Our GRPO beside TRL's on a CPU: samples per second, and reward after the same number of samples (issue 6).

    python benchmarks/grpo_vs_trl.py --seeds 0 1 2          # everything; what is below --out is not done again
    python benchmarks/grpo_vs_trl.py --report               # the table of what is there

Both start from the same tiny Qwen3-VL, taught by a few supervised steps, and see the same tasks (a photo and a request)
in the same order: 16 tasks an iteration, 8 answers to each, paid by the rule reward `edit`, played and scored by the
same code in one batch. The loss is the same (GRPO's, checked in tests/agents/rllib/test_losses_against_trl.py), and so
are Adam, its constant learning rate and the clipping; only the random numbers differ. Each training run is a process of
its own, ours and TRL's in alternating order; the first iterations are not timed. One evaluator of ours measures all.
Before that both learn once from the very same answers, and what they did to the weights is compared.

    runs of --iterations     1 thread, KL .04, 2 updates: speed, stages and reward of every seed
    short runs               KL 0 and 1 update (TRL's defaults); 2 threads; both cores the way each side does it
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _grpo_run import STAGES, Run
from _policy_rewards import greedy_rewards, paired, sampled_rewards
from judge import tasks

from retouch_agents.demo.config import MODEL_SIZE
from retouch_agents.sft import SFTConfig, SFTTrainer
from retouch_agents.tiny import build_tiny
from retouch_gym.datasets.base import get_dataset
from retouch_gym.datasets.grammar import words
from retouch_gym.evaluation.bootstrap import bootstrap_interval
from retouch_gym.tools.iea import IEA

HERE = Path(__file__).resolve().parent
SIDES = ("ours", "trl")
RESULT = "result.json"

MARGIN = 0.05
"""Ours is no worse where the interval of its reward minus TRL's lies above minus this; set before a full run."""

VARIANTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "plain": {side: {"kl": 0.0, "updates": 1} for side in SIDES},
    "two threads": {side: {"threads": 2} for side in SIDES},
    # Our runners sample with a thread each; meanwhile the learner sleeps, so that it may have both cores for itself.
    "two cores": {"ours": {"processes": 2, "threads": 2}, "trl": {"processes": 2}},
}
"""What the short runs change, by name and side."""

Result = dict[str, Any]


def start_of(out: Path, seed: int, steps: int) -> Path:
    """The policy that both sides start from: one that has learned so little that a reward can help it."""
    folder = out / f"seed-{seed}" / "start"
    if not folder.is_dir():
        base = build_tiny(out / f"seed-{seed}" / "base", IEA, words(), size=MODEL_SIZE, seed=seed)
        env = {"toolset": "iea", "dataset": "samples", "dataset_kwargs": tasks("train", seed)}
        for row in SFTTrainer(base, folder, env, SFTConfig(steps=steps, log_every=40)).train():
            print(f"seed {seed}: start, step {row['step']}, loss {row['loss']:.3f}", flush=True)
    return folder


def long_runs(out: Path, args: argparse.Namespace) -> Iterator[Run]:
    """A run of each side for every seed, the side that goes first alternating."""
    for number, seed in enumerate(args.seeds):
        start = out / f"seed-{seed}" / "start"
        for side in SIDES if number % 2 == 0 else SIDES[::-1]:
            folder = out / f"seed-{seed}" / side
            yield Run(side, str(start), str(folder), seed, args.iterations, learning_rate=args.lr, keep=True)


def short_runs(out: Path, args: argparse.Namespace) -> Iterator[Run]:
    """The variants, `--repeats` times, the side that goes first alternating."""
    start = out / f"seed-{args.seeds[0]}" / "start"
    for repeat in range(args.repeats):
        for name, changes in VARIANTS.items():
            for side in SIDES if repeat % 2 == 0 else SIDES[::-1]:
                folder = out / "short" / f"{name.replace(' ', '-')}-{side}-{repeat}"
                run = Run(side, str(start), str(folder), repeat, args.short_iterations, learning_rate=args.lr)
                yield replace(run, **changes[side])


def check(out: Path, args: argparse.Namespace) -> None:
    """Let both learn from the same answers."""
    start, folder = out / f"seed-{args.seeds[0]}" / "start", out / "same-answers"
    launch(Run("same", str(start), str(folder), 0, 1, learning_rate=args.lr), HERE / "_same_step.py")


def perform(run: Run) -> None:
    """Train in a fresh process, unless the result is there."""
    if launch(run, HERE / f"_{run.side}_side.py"):
        folder = Path(run.out)
        print(f"{folder.parent.name}/{folder.name}: {rate(load(folder)):.0f} answers/s", flush=True)


def launch(run: Run, script: Path) -> bool:
    """Run a script in a fresh process, unless the result of the same run is there; returns whether it was run."""
    folder = Path(run.out)
    if (folder / RESULT).is_file() and Run.read(folder / "run.json") == run:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run.write(folder / "run.json")
    several = run.side == "trl" and run.processes > 1
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={run.processes}"] if several else []
    threads = str(run.threads)
    settings = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads}
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    with (folder / "log.txt").open("w") as log:
        subprocess.run(
            [sys.executable, *launcher, str(script), str(folder / "run.json")],
            env={**os.environ, **settings, **quiet},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=True,
        )
    return True


def load(folder: Path) -> Result:
    """The result of a run."""
    found: Result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return found


def rate(result: Result, clock: str = "seconds") -> float:
    """Answers per second over the iterations that are timed, the whole iteration counted: median iteration.

    Args:
        result: Of a run.
        clock: ``"seconds"`` by the wall's clock, ``"processor"`` by what the process used of the processor.
    """
    run = Run(**result["run"])
    return run.answers / statistics.median(result[clock][run.warm_up :])


def stages(result: Result) -> dict[str, float]:
    """Median seconds of each stage of an iteration."""
    first = result["run"]["warm_up"]
    return {name: statistics.median(result["stages"][name][first:]) for name in STAGES}


def measure(out: Path, seed: int, count: int) -> dict[str, dict[str, list[float]]]:
    """Reward of every held-out task, by policy and by how answers are taken."""
    target = out / f"seed-{seed}" / "evaluation.json"
    policies = [out / f"seed-{seed}" / side / "policy" for side in SIDES]
    # A run with other settings has been done again since.
    stale = target.is_file() and any(target.stat().st_mtime < policy.stat().st_mtime for policy in policies)
    if stale or not target.is_file():
        found, test = {}, get_dataset("samples", **tasks("test", 2, count))
        for name in ("start", *SIDES):
            folder = out / f"seed-{seed}" / (name if name == "start" else f"{name}/policy")
            found[name] = {
                "likeliest": greedy_rewards(folder, test).tolist(),
                "drawn": sampled_rewards(folder, test).tolist(),
            }
        target.write_text(json.dumps(found), encoding="utf-8")
    return dict(json.loads(target.read_text(encoding="utf-8")))


def speed_report(out: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Answers per second of every seed and variant."""
    found: dict[str, Any] = {"seeds": {}, "variants": {}}
    print("\nanswers per second, 1 thread, KL .04, 2 updates; in brackets per second that the processor was used")
    print("seed               ours                TRL   ours / TRL")
    for seed in seeds:
        results = {side: load(out / f"seed-{seed}" / side) for side in SIDES}
        rates = {side: rate(result) for side, result in results.items()}
        used = {side: rate(result, "processor") for side, result in results.items()}
        ratios = [one["ours"] / one["trl"] for one in (rates, used)]
        spent = {side: stages(result) for side, result in results.items()}
        lengths = {side: float(np.mean(result["length"])) for side, result in results.items()}
        found["seeds"][seed] = {"rates": rates, "processor": used, "ratios": ratios, "stages": spent, "length": lengths}
        shown = [f"{rates[side]:8.1f} ({used[side]:6.1f})" for side in SIDES]
        print(f"{seed:4d} {shown[0]:>18} {shown[1]:>18} {ratios[0]:7.2f}× ({ratios[1]:.2f}×)")
    print("\nseconds of a stage, median over iterations, then over seeds\n" + " " * 12 + "ours      TRL   TRL / ours")
    for stage in STAGES:
        ours, theirs = (
            statistics.median(found["seeds"][seed]["stages"][side][stage] for seed in seeds) for side in SIDES
        )
        print(f"{stage:<10} {ours:6.3f} {theirs:8.3f} {theirs / ours:9.2f}×")
    print(f"\nanswers per second, short runs: median (least, most)\n{'':<14}{'ours':>22}{'TRL':>24}   ours / TRL")
    for name in VARIANTS:
        rates_of: dict[str, list[float]] = {}
        for side in SIDES:
            folders = sorted((out / "short").glob(f"{name.replace(' ', '-')}-{side}-*"))
            rates_of[side] = [rate(load(folder)) for folder in folders if (folder / RESULT).is_file()]
        if all(rates_of.values()):
            middle = {side: statistics.median(values) for side, values in rates_of.items()}
            ratio = middle["ours"] / middle["trl"]
            found["variants"][name] = {**rates_of, "ratio": ratio}
            shown = [f"{middle[side]:8.1f} ({min(v):.1f}, {max(v):.1f})" for side, v in rates_of.items()]
            print(f"{name:<14}{shown[0]:>22}{shown[1]:>24} {ratio:9.2f}×")
    return found


def reward_report(out: Path, seeds: Sequence[int], count: int) -> dict[str, Any]:
    """Held-out reward before and after, and the paired differences."""
    found: dict[str, Any] = {}
    names = ("start", *SIDES)
    for how in ("likeliest", "drawn"):
        print(f"\nheld-out reward, {how} answers, 95% intervals over tasks")
        rows = {seed: measure(out, seed, count) for seed in seeds}
        for seed in seeds:
            values = {name: np.array(rows[seed][name][how]) for name in names}
            found[f"{how} seed {seed}"] = {
                **{name: bootstrap_interval(value, resamples=2000)._asdict() for name, value in values.items()},
                "ours - trl": paired(values["ours"] - values["trl"]),
            }
            cells = [_interval(found[f"{how} seed {seed}"][name]) for name in (*names, "ours - trl")]
            print(f"seed {seed}: start {cells[0]}  ours {cells[1]}  TRL {cells[2]}  ours − TRL {cells[3]}")
        # The test tasks are the same for all seeds: the mean over seeds of every task, resampled over tasks.
        pooled = np.mean([np.array(row["ours"][how]) - np.array(row["trl"][how]) for row in rows.values()], axis=0)
        found[f"{how} pooled ours - trl"] = paired(pooled)
        whole = found[f"{how} pooled ours - trl"]
        verdict = "no worse" if whole["low"] > -MARGIN else "not shown to be no worse"
        print(f"all seeds: ours − TRL {_interval(whole)}, {verdict} by a margin of {MARGIN}")
    print("\nreward while training, mean of a fifth of the iterations")
    for seed in seeds:
        for side in SIDES:
            curve = np.array(load(out / f"seed-{seed}" / side)["reward"])
            found[f"curve seed {seed} {side}"] = curve.tolist()
            print(f"seed {seed} {side:<4}", "  ".join(f"{part.mean():+.3f}" for part in np.array_split(curve, 5)))
    return found


def _interval(entry: Mapping[str, float]) -> str:
    return f"{entry['mean']:+.3f} [{entry['low']:+.3f}, {entry['high']:+.3f}]"


def report(out: Path, args: argparse.Namespace) -> None:
    """Print everything and write ``report.json``."""
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    same = load(out / "same-answers")
    print("the same answers:", ", ".join(f"{name} {value:.6g}" for name, value in same.items()))
    found = {
        "same": same,
        "speed": speed_report(out, args.seeds),
        "reward": reward_report(out, args.seeds, args.test_tasks),
    }
    (out / "report.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def main() -> None:
    """Train, evaluate, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/grpo_vs_trl"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sft-steps", type=int, default=120)
    parser.add_argument("--iterations", type=int, default=40, help="of the runs whose reward is measured")
    parser.add_argument("--short-iterations", type=int, default=10, help="of the runs for speed alone")
    parser.add_argument("--repeats", type=int, default=3, help="of the runs for speed alone")
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--test-tasks", type=int, default=480)
    parser.add_argument("--report", action="store_true", help="only print what is there")
    args = parser.parse_args()
    out: Path = args.out.resolve()
    if not args.report:
        for seed in args.seeds:
            start_of(out, seed, args.sft_steps)
        check(out, args)
        for run in (*long_runs(out, args), *short_runs(out, args)):
            perform(run)
    report(out, args)


if __name__ == "__main__":
    main()
