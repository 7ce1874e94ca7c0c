"""PPO, GRPO and its family on one task, from one policy, with equally many answers.

    python benchmarks/algorithms.py --seeds 0            # supervised start, a run of each, a table and a picture
    python benchmarks/algorithms.py --only ppo grpo --iterations 200

Every run starts from the same supervised policy and draws as many answers, at the same learning rate; what the rows
of `retouch_agents.rllib.objective.ALGORITHMS` say is all that differs. Held-out: other photos (the samples' test
split). The reward is the edit reward R = .7L + .3U. Everything is written below --out; what is there is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from _policy_rewards import greedy_rewards, paired, sampled_rewards
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from retouch_agents.demo.config import MODEL_SIZE
from retouch_agents.metrics_log import MetricsLog
from retouch_agents.reinforce import GRPOStage, reinforce
from retouch_agents.rllib.objective import ALGORITHMS
from retouch_agents.sft import SFTConfig, SFTTrainer
from retouch_agents.tiny import build_tiny
from retouch_gym.datasets.base import get_dataset
from retouch_gym.datasets.grammar import words
from retouch_gym.tools.iea import IEA

mpl.use("Agg")
from matplotlib import pyplot as plt


@dataclass(frozen=True)
class Row(GRPOStage):
    """A stage with one of the algorithms.

    Args:
        algorithm: Its name.
    """

    algorithm: str = "grpo"

    def algorithm_config(self, model: Path) -> AlgorithmConfig:
        """The stage's config with the algorithm's options."""
        config: Any = super().algorithm_config(model)
        chosen: AlgorithmConfig = config.algorithm(self.algorithm)
        return chosen


def tasks(split: str, seed: int, size: int = 1_000_000) -> dict[str, Any]:
    """Requests in words and photos to be restored, 64 pixels, as in the main job."""
    return {"split": split, "size": size, "resolution": 64, "seed": seed}


def supervise(out: Path, args: argparse.Namespace, seed: int) -> Path:
    """The policy that every run starts from."""
    if not (out / "sft").is_dir():
        base = build_tiny(out / "base", IEA, words(), size=MODEL_SIZE, seed=seed)
        data = {"toolset": "iea", "dataset": "samples", "dataset_kwargs": tasks("train", seed)}
        for row in SFTTrainer(base, out / "sft", data, SFTConfig(steps=args.sft_steps, log_every=100)).train():
            print(f"seed {seed} SFT {row['step']:5.0f}  loss {row['loss']:.3f}", flush=True)
    return out / "sft"


def run(out: Path, args: argparse.Namespace, seed: int, name: str) -> None:
    """Train with one algorithm."""
    target = out / name
    if target.is_dir():
        return
    data = {"toolset": "iea", "dataset": "samples", "dataset_kwargs": tasks("train", seed + 100), "reward": "edit"}
    stage = Row(
        {**data, "max_turns": 1},
        args.iterations,
        env_runners=args.env_runners,
        learning_rate=args.lr,
        seed=seed,
        name=name,
        algorithm=name,
    )
    started = time.perf_counter()

    def show(step: int, text: str) -> None:
        if step % 10 == 0:
            print(f"seed {seed} {name:<21} {step:4d}  {text}  {time.perf_counter() - started:.0f} s", flush=True)

    reinforce(out / "sft", target, stage, MetricsLog(out / "metrics.jsonl"), show)


def measure(out: Path, names: list[str], args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Held-out rewards of all, paired with those of the supervised policy."""
    test = get_dataset("samples", **tasks("test", 2, args.test_tasks))
    found: dict[str, Any] = {"seed": seed}
    for how, measured in (("greedy", greedy_rewards), ("sampled", sampled_rewards)):
        start = measured(out / "sft", test)
        found[f"{how} sft"] = float(start.mean())
        for name in names:
            values = measured(out / name, test)
            found[f"{how} {name}"] = {"reward": float(values.mean()), "gain": paired(values - start)}
            np.save(out / f"{how}-{name}.npy", values - start)
    return found


def table(folders: list[Path], names: list[str]) -> str:
    """Gains over the supervised policy, every seed and all together."""
    found = [json.loads((folder / "algorithms.json").read_text()) for folder in folders]
    lines = ["| algorithm | likeliest answers: gain over SFT | drawn answers: gain over SFT |", "|---|---|---|"]
    start = ", ".join(f"{one['greedy sft']:+.3f} / {one['sampled sft']:+.3f}" for one in found)
    for name in names:
        cells = []
        for how in ("greedy", "sampled"):
            pooled = paired(np.concatenate([np.load(folder / f"{how}-{name}.npy") for folder in folders]))
            each = ", ".join(f"{one[f'{how} {name}']['gain']['mean']:+.3f}" for one in found)
            cells.append(f"{pooled['mean']:+.3f} [{pooled['low']:+.3f}, {pooled['high']:+.3f}] (seeds: {each})")
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    return "\n".join([f"SFT, likeliest / drawn: {start}", *lines])


def draw(folders: list[Path], names: list[str], target: Path) -> None:
    """Training reward over answers, a line an algorithm, the mean over seeds."""
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name in names:
        curves = [
            [row["reward"] for row in MetricsLog(folder / "metrics.jsonl").read() if row["stage"] == name]
            for folder in folders
        ]
        length = min(len(curve) for curve in curves)
        mean = np.mean([curve[:length] for curve in curves], axis=0)
        window = min(9, length)
        smooth = np.convolve(mean, np.ones(window) / window, mode="valid")
        axes.plot(np.arange(len(smooth)) + window // 2, smooth, label=name)
    axes.set(xlabel="iteration", ylabel="reward of drawn answers", title="Equal samples, equal learning rate")
    axes.legend(fontsize=8)
    figure.savefig(target, dpi=120)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/algorithms"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=sorted(ALGORITHMS), default=list(ALGORITHMS))
    parser.add_argument("--sft-steps", type=int, default=1000)
    parser.add_argument("--iterations", type=int, default=80)
    parser.add_argument("--env-runners", type=int, default=0, help="remote Ray env runners; 0 samples in this process")
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--test-tasks", type=int, default=480)
    args = parser.parse_args()
    folders = []
    for seed in args.seeds:
        out = args.out / f"seed-{seed}"
        out.mkdir(parents=True, exist_ok=True)
        supervise(out, args, seed)
        for name in args.only:
            run(out, args, seed, name)
        target = out / "algorithms.json"
        known = json.loads(target.read_text(encoding="utf-8")) if target.is_file() else {}
        if any(f"sampled {name}" not in known for name in args.only):
            target.write_text(json.dumps(measure(out, args.only, args, seed), indent=1), encoding="utf-8")
        folders.append(out)
    text = table(folders, args.only)
    (args.out / "table.md").write_text(text + "\n", encoding="utf-8")
    draw(folders, args.only, args.out / "curves.png")
    print(text)


if __name__ == "__main__":
    main()
