"""Train a tiny generalist reward model and policies with it, and say what it is worth (issue 5).

    python benchmarks/judge.py sft --seed 0          # the judge, 6,000 steps on perturbed pairs; and two policies
    python benchmarks/judge.py accuracy --seed 0     # accuracy on held-out pairs, with controls
    python benchmarks/judge.py reward --seed 0       # GRPO with the judge, the rule and a random reward, by the rule
    python benchmarks/judge.py pgrt --seed 0         # PGRT against as much training on perturbations
    python benchmarks/judge.py report                # every figure that is there

Everything is written below --out; what is there is not done again. Held-out: other photos (the samples' test split, or
--test-photos). The README tells what its figures were made with, and what was chosen after looking at them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _policy_rewards import greedy_rewards, paired, sampled_rewards

from retouch_agents.demo.config import MODEL_SIZE
from retouch_agents.metrics_log import MetricsLog
from retouch_agents.pipelines.edits import decided_pairs, sample_edits
from retouch_agents.pipelines.pgrt import PGRTConfig, alternate, train_policy
from retouch_agents.pipelines.tiny_judge import MAX_TOKENS, build_tiny_judge, teach_judge
from retouch_agents.reinforce import GRPOStage, reinforce
from retouch_agents.sft import SFTConfig, SFTTrainer
from retouch_agents.tiny import build_tiny
from retouch_gym.datasets.base import get_dataset
from retouch_gym.datasets.grammar import words
from retouch_gym.tools.iea import IEA
from retouch_reward_models.grm import load_generalist
from retouch_reward_models.training.accuracy import PairScores, score_pairs
from retouch_reward_models.training.pairs import Pair, PerturbedPairs

SLIDERS = ("exposure", "contrast", "saturation", "temperature", "tint", "vignette")
"""What the requests are about: sliders that 32 pixels can tell apart."""

PERTURBER = {"extra": 0.1, "extras": list(SLIDERS)}
"""One fault an edit: what accuracy is measured on, and what PGRT goes beyond."""

FAULTY = {**PERTURBER, "faults": 3}
"""What the judge learns from: a policy errs in several sliders at once."""

MARGIN = 2.0
"""Points (of 10) between the right totals of two edits of a policy, from which the instruction decides between them."""

CONTROLS = ("none", "before_blanked", "instruction_swapped")
TEST_TASKS = 600
POLICY_PAIRS = 4500
"""One a task, so that intervals over pairs are intervals over tasks; the photos are four."""


BOTH = ("instruct", "restore")


@dataclass(frozen=True)
class Photos:
    """Whose photos.

    Args:
        train: Photos or folders to train on; None for the shipped ones.
        test: Photos or folders to test on; None for the shipped ones.
    """

    train: list[str] | None
    test: list[str] | None

    def tasks(
        self, split: str, seed: int, size: int = 1_000_000, kinds: Sequence[str] = ("instruct",)
    ) -> dict[str, Any]:
        """Requests that name sliders, or (kind *restore*) leave it to the photo what it needs; 64-pixel photos."""
        about = {"split": split, "size": size, "kinds": list(kinds), "resolution": 64, "seed": seed, "sliders": SLIDERS}
        return {**about, "photos": self.train, "test_photos": self.test}


def sft(out: Path, args: argparse.Namespace) -> None:
    """The judge; a policy whose edits it is to judge; and one that has learned so little that a reward can help it."""
    judge = out / "judge"
    for name, steps in (("policy", args.policy_steps), ("early", args.early_steps)):
        if not (out / name).is_dir():
            base = build_tiny(out / f"{name}-base", IEA, words(), size=MODEL_SIZE, seed=args.seed)
            data = args.of.tasks("train", args.seed)
            env = {"toolset": "iea", "dataset": "samples", "dataset_kwargs": data}
            for row in SFTTrainer(base, out / name, env, SFTConfig(steps=steps, log_every=50)).train():
                print(name, row, flush=True)
    if not judge.is_dir():
        base = build_tiny_judge(out / "judge-base", seed=args.seed)
        data = args.of.tasks("train", args.seed, kinds=BOTH)
        pairs = PerturbedPairs("samples", data, FAULTY, seed=args.seed)
        config = SFTConfig(steps=args.judge_steps, batch_size=24, number_sigma=1.0, log_every=100)
        for row in teach_judge(base, judge, pairs, config, seed=args.seed):
            print("judge", row, flush=True)


def perturbed_test(of: Photos, count: int = TEST_TASKS, kinds: Sequence[str] = ("instruct",)) -> PerturbedPairs:
    """Held-out perturbed pairs, the same for every seed."""
    return PerturbedPairs("samples", of.tasks("test", 0, count, kinds), PERTURBER, seed=7)


def policy_test(of: Photos, policy: Path, seed: int, count: int = POLICY_PAIRS) -> list[Pair]:
    """Held-out pairs of a policy's own edits that the instruction decides: one a task, so that they are independent."""
    dataset, rng = get_dataset("samples", **of.tasks("test", 1)), np.random.default_rng(seed)
    pairs: list[Pair] = []
    for start in range(0, len(dataset), 256):
        edits = sample_edits(policy, dataset, range(start, start + 256), answers=4, seed=seed)
        decided = [decided_pairs([edit], MARGIN) for edit in edits]
        pairs += [found[int(rng.integers(len(found)))] for found in decided if found]
        if len(pairs) >= count:
            break
    return pairs[:count]


def judge_of(folder: Path) -> Any:
    """The reward model in a folder."""
    return load_generalist(str(folder), batch_size=128, max_tokens=MAX_TOKENS)


def described(scores: PairScores) -> dict[str, Any]:
    """Accuracy, its interval, and the share of readable verdicts."""
    low, high = scores.interval()
    shown = {"accuracy": scores.accuracy, "low": low, "high": high, "pairs": len(scores.better)}
    return {**shown, "valid": scores.valid_rate, "asked": scores.asked}


def accuracy(out: Path, args: argparse.Namespace) -> None:
    """Accuracy of the judge after SFT."""
    judge, found = judge_of(out / "judge"), {}
    for together in (False, True):
        form = "together" if together else "alone"
        for control in CONTROLS:
            found[f"perturbed {form} {control}"] = described(
                score_pairs(judge, perturbed_test(args.of), together=together, control=control)
            )
            print(f"perturbed {form} {control}", found[f"perturbed {form} {control}"], flush=True)
    for control in CONTROLS[:2]:
        vague = score_pairs(judge, perturbed_test(args.of, kinds=("restore",)), control=control)
        found[f"perturbed restore alone {control}"] = described(vague)
        print(f"perturbed restore alone {control}", described(vague), flush=True)
    pairs = policy_test(args.of, out / "policy", args.seed)
    for control in CONTROLS:
        shown = pairs if control == "none" else pairs[: POLICY_PAIRS // 3]
        found[f"policy alone {control}"] = described(score_pairs(judge, shown, control=control))
        print(f"policy alone {control}", found[f"policy alone {control}"], flush=True)
    save(out / "accuracy.json", found)


def reward(out: Path, args: argparse.Namespace) -> None:
    """GRPO of the early policy with three rewards, measured by the rule."""
    metrics = MetricsLog(out / "metrics.jsonl")
    asked = args.of.tasks("train", args.seed + 100)
    data = {"toolset": "iea", "dataset": "samples", "dataset_kwargs": asked, "max_turns": 1}
    stage = GRPOStage(data, args.iterations, env_runners=0, seed=args.seed, learning_rate=args.policy_lr)
    say = heard()
    if not (out / "grpo-judge").is_dir():
        train_policy(out / "early", out / "grpo-judge", stage, out / "judge", metrics, say)
    others = {
        "grpo-rule": {"reward": "edit"},
        "grpo-random": {"reward": "retouch_reward_models.training.controls:RandomReward"},
    }
    for name, chosen in others.items():
        if not (out / name).is_dir():
            whole = GRPOStage(
                {**data, **chosen},
                args.iterations,
                env_runners=0,
                seed=args.seed,
                learning_rate=args.policy_lr,
                name=name,
            )
            reinforce(out / "early", out / name, whole, metrics, lambda n, text: say(text))
    names = ("early", "grpo-judge", "grpo-rule", "grpo-random")
    test = get_dataset("samples", **args.of.tasks("test", 2, args.test_tasks))
    found: dict[str, Any] = {}
    for how, measure in (("greedy", greedy_rewards), ("sampled", sampled_rewards)):
        rows = {name: measure(out / name, test) for name in names}
        found |= {f"{how} {name}": {"rule reward": float(values.mean())} for name, values in rows.items()}
        for better, worse in (("grpo-judge", "early"), ("grpo-judge", "grpo-random"), ("grpo-rule", "early")):
            found[f"{how} {better} - {worse}"] = paired(rows[better] - rows[worse])
    save(out / "reward.json", found)
    print(json.dumps(found, indent=1))


def pgrt(out: Path, args: argparse.Namespace) -> None:
    """PGRT against as much training on perturbations alone."""
    say = heard()
    common: dict[str, Any] = {"dataset": "samples", "dataset_kwargs": args.of.tasks("train", args.seed + 200)}
    judge_stage = GRPOStage(
        {},
        args.judge_iterations,
        env_runners=0,
        learning_rate=args.judge_lr,
        temperature=args.judge_temperature,
        max_new_tokens=MAX_TOKENS,
        num_updates=1,
    )
    policy_stage = GRPOStage({"toolset": "iea"}, args.policy_iterations, env_runners=0)
    both: dict[str, Any] = {
        "rounds": args.rounds,
        "perturbed": {"perturber": PERTURBER},
        "judge": judge_stage,
        "margin": MARGIN,
        "seed": args.seed,
    }
    arms = {
        "pgrt": PGRTConfig(**common, **both, share=0.5, policy=policy_stage),
        "perturbed": PGRTConfig(**common, **both, share=0.0, policy=None),
    }
    judges = {"before": out / "judge"}
    policies = {"before": out / "policy"}
    for name, config in arms.items():
        started = time.perf_counter()
        last_policy, judges[name] = alternate(out / "policy", out / "judge", out / name, config, say)
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
        if name == "pgrt":
            policies["trained"] = last_policy
    found: dict[str, Any] = {}
    pairs = {kind: policy_test(args.of, folder, args.seed, POLICY_PAIRS // 2) for kind, folder in policies.items()}
    own = [*pairs["before"], *pairs["trained"]]
    sets: dict[str, tuple[Sequence[Pair] | PerturbedPairs, bool]] = {
        "policy alone": (own, False),
        "policy together": (own[::3], True),
        "perturbed alone": (perturbed_test(args.of, 1000), False),
    }
    for kind, (shown, together) in sets.items():
        outcomes = {}
        for name, folder in judges.items():
            scores = score_pairs(judge_of(folder), shown, together=together)
            outcomes[name] = scores.outcomes
            found[f"{kind} {name}"] = described(scores)
        key = f"{kind} pgrt - perturbed"
        found[key] = paired(outcomes["pgrt"] - outcomes["perturbed"])
        print(key, found[key], {name: float(values.mean()) for name, values in outcomes.items()}, flush=True)
    save(out / "pgrt.json", found)


def report(out: Path, args: argparse.Namespace) -> None:
    """Every figure that is there, seeds side by side."""
    for name in ("accuracy", "reward", "pgrt"):
        found = [json.loads(path.read_text()) for path in sorted(out.parent.glob(f"seed-*/{name}.json"))]
        if not found:
            continue
        print(f"\n{name}, {len(found)} seeds")
        for key in found[0]:
            print(f"  {key:<44}", "  ".join(_short(one[key]) for one in found))


def _short(entry: dict[str, float]) -> str:
    value = entry.get("accuracy", entry.get("mean", entry.get("rule reward")))
    ends = f" [{entry['low']:+.3f}, {entry['high']:+.3f}]" if "low" in entry else ""
    return f"{value:+.3f}{ends}" + (f" n={entry['pairs']}" if "pairs" in entry else "")


def save(path: Path, found: dict[str, Any]) -> None:
    """Write figures as JSON."""
    path.write_text(json.dumps(found, indent=1), encoding="utf-8")


def heard(every: int = 10) -> Callable[[str], None]:
    """Prints every tenth text."""
    count = 0

    def say(text: str) -> None:
        nonlocal count
        count += 1
        if count % every == 1:
            print(f"{count:4d} {text}", flush=True)

    return say


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = {"sft": sft, "accuracy": accuracy, "reward": reward, "pgrt": pgrt, "report": report}
    parser.add_argument("stages", nargs="+", choices=list(stages))
    parser.add_argument("--out", type=Path, default=Path("runs/judge"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--policy-steps", type=int, default=300)
    parser.add_argument("--photos", nargs="+", help="photos or folders to train on; the samples' own by default")
    parser.add_argument("--test-photos", nargs="+", help="photos or folders to test on; the samples' own by default")
    parser.add_argument("--early-steps", type=int, default=120)
    parser.add_argument("--judge-steps", type=int, default=6000)
    parser.add_argument("--iterations", type=int, default=250, help="of GRPO, for each reward")
    parser.add_argument("--rounds", type=int, default=2, help="of PGRT")
    parser.add_argument("--judge-iterations", type=int, default=40, help="a round")
    parser.add_argument("--policy-iterations", type=int, default=25, help="a round")
    parser.add_argument("--policy-lr", type=float, default=2e-4)
    parser.add_argument("--judge-lr", type=float, default=4e-4)
    parser.add_argument("--judge-temperature", type=float, default=0.6)
    parser.add_argument("--test-tasks", type=int, default=480)
    args = parser.parse_args()
    args.of = Photos(args.photos, args.test_photos)
    out = args.out / f"seed-{args.seed}"
    out.mkdir(parents=True, exist_ok=True)
    for stage in args.stages:
        stages[stage](out, args)


if __name__ == "__main__":
    main()
