"""An agent that sees what its first answer did, against one that answers once (issue 6, shows 3).

    python benchmarks/multi_turn.py --seeds 0 1 2     # everything: train, measure on held-out photos, print, draw

The task is in `_unknown_response.py`: a slider whose value is multiplied by a hidden response in every episode. Two
agents of the same size start from the same weights and get the same number of supervised steps and of sampled
answers in GRPO; one has one turn, the other two, with the photo shown in between. Held out are the samples' test
photos; --split validation measures on training photos that were set aside, for whoever wants to change something.

Everything is written below --out; what is there is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from _multi_turn_play import Agent, Played, Policy, Tamper, always, greyed, measuring, play, swapped
from _unknown_response import RESPONSES, Demonstrated, env_options, vocabulary
from numpy.typing import NDArray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from retouch_agents.checkpoints import swap_folder
from retouch_agents.demo.report import Example, contact_sheet
from retouch_agents.metrics_log import MetricsLog
from retouch_agents.reinforce import GRPOStage, reinforce
from retouch_agents.sft import SFTConfig, SFTTrainer
from retouch_agents.tiny import TinySize, build_tiny
from retouch_gym.datasets.base import get_dataset
from retouch_gym.errors import ConfigurationError
from retouch_gym.evaluation.bootstrap import bootstrap_interval
from retouch_gym.tools.iea import IEA

TRAIN_TASKS = 1_000_000
TURNS = {"single": 1, "multi": 2}
"""The two agents and their turns."""

FRACTIONS = tuple(0.25 * step for step in range(-2, 9))
"""Shares of the requested amount among which the best single answer is sought, on training tasks."""

SIZE = TinySize(image_side=32, hidden=64, layers=2, vision_hidden=48, vision_layers=1)
"""Of both agents, .2 million parameters; a photo is 4 image tokens."""

SHEET_ROWS = 8


@dataclass(frozen=True)
class Settings:
    """What a run's figures depend on.

    Args:
        sft_steps: Supervised steps of each agent.
        batch_size: Examples a step.
        iterations: Iterations of GRPO of each agent; 0 leaves it out.
        answers: Answers sampled an iteration, the same for both agents.
        group_size: Episodes of one task.
        learning_rate: Of GRPO.
    """

    sft_steps: int
    batch_size: int
    iterations: int
    answers: int
    group_size: int
    learning_rate: float


@dataclass(frozen=True)
class Stage(GRPOStage):
    """`GRPOStage` whose learning rate falls over as many answers for both agents: an episode may have several.

    Args:
        answers: Answers sampled in the whole stage.
    """

    answers: int = 0

    def algorithm_config(self, model: Path) -> AlgorithmConfig:
        """RLlib's config of the run."""
        schedule = [[0, self.learning_rate], [self.answers, self.learning_rate / 10]]
        return super().algorithm_config(model).training(lr=schedule)


def best_fraction(path: Path) -> float:
    """The share of what the words ask for that earns most on training tasks, where the answer is the only one."""
    if not path.is_file():
        options = env_options("train", 1, 200, seed=10_000)
        means = {fraction: float(play(always(fraction), options).rewards.mean()) for fraction in FRACTIONS}
        path.write_text(json.dumps({"best": max(means, key=means.__getitem__), "means": means}), encoding="utf-8")
    return float(json.loads(path.read_text(encoding="utf-8"))["best"])


def train(out: Path, seed: int, settings: Settings, fraction: float) -> None:
    """Train both agents of a seed: the same start, as many supervised steps, as many sampled answers."""
    base, metrics = out / "base", MetricsLog(out / "metrics.jsonl")
    if not base.is_dir():
        swap_folder(build_tiny(out / "base.new", IEA, vocabulary(), size=SIZE, seed=seed), base)
    for name, turns in TURNS.items():
        options = env_options("train", turns, TRAIN_TASKS, seed)
        sft, grpo = out / f"{name}-sft", out / f"{name}-grpo"
        if not sft.is_dir():
            config = SFTConfig(
                steps=settings.sft_steps,
                batch_size=settings.batch_size,
                learning_rate=3e-3,
                warmup=50,
                number_sigma=0.0,
                log_every=25,
                checkpoint_every=50,
            )
            trainer = SFTTrainer(base, sft, Demonstrated(options, fraction), config)
            metrics.rewind(f"{name}-sft", trainer.step)
            for row in trainer.train():
                metrics.append(f"{name}-sft", row)
                if row["step"] % 50 == 0:
                    say(f"seed {seed} {name} SFT step {row['step']} of {settings.sft_steps}: loss {row['loss']:.3f}")
        if settings.iterations and not grpo.is_dir():
            stage = Stage(
                env_options("train", turns, TRAIN_TASKS, seed + 1000),
                settings.iterations,
                prompts_per_iteration=settings.answers // (settings.group_size * turns),
                group_size=settings.group_size,
                env_runners=0,
                learning_rate=settings.learning_rate,
                seed=seed,
                env="Retouch/Chat-v0",
                max_new_tokens=48,
                name=f"{name}-grpo",
                answers=settings.answers * settings.iterations,
            )
            reinforce(sft, grpo, stage, metrics, told(f"seed {seed} {name} GRPO", settings.iterations))


def told(what: str, count: int) -> Any:
    """Prints every tenth iteration."""

    def show(step: int, text: str) -> None:
        if step % 5 == 0 or step == count:
            say(f"{what} iteration {step} of {count}: {text}")

    return show


def measure(out: Path, seed: int, settings: Settings, fraction: float, split: Any, tasks: int) -> dict[str, Any]:
    """Play the held-out tasks with every agent of a seed; writes ``SPLIT-TASKS.json`` and ``.png``."""
    path = out / f"{split}-{tasks}.json"
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    stages = ("sft", "grpo") if settings.iterations else ("sft",)
    last = stages[-1]
    trained = [(name, stage) for name in TURNS for stage in stages]
    agents: dict[str, Policy] = {f"{name} {stage}": Agent(out / f"{name}-{stage}") for name, stage in trained}
    chosen: list[tuple[str, Policy, int, Tamper | None]] = [
        ("script: nothing", always(0.0), 1, None),
        ("script: best single answer", always(fraction), 1, None),
        ("script: try, measure, correct", measuring, 2, None),
        *((f"{name} {stage}", agents[f"{name} {stage}"], TURNS[name], None) for name, stage in trained),
        (f"multi {last}, photo greyed", agents[f"multi {last}"], 2, greyed),
        (f"multi {last}, photo swapped", agents[f"multi {last}"], 2, swapped),
        ("script: try, measure, correct, photo swapped", measuring, 2, swapped),
    ]
    played = {
        name: play(policy, env_options(split, turns, tasks, seed=0), tamper) for name, policy, turns, tamper in chosen
    }
    for name, episodes in played.items():
        say(f"seed {seed} {name}: {episodes.rewards.mean():+.3f}, refused {episodes.refused:.1%}")
    draw(out / f"{split}-{tasks}.png", played[f"single {last}"], played[f"multi {last}"], split, tasks)
    found = {name: described(episodes) for name, episodes in played.items()}
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(found), encoding="utf-8")
    fresh.replace(path)
    return found


def described(played: Played) -> dict[str, Any]:
    """What is kept of played episodes."""
    by_response = {
        f"{response:g}": float(played.rewards[played.responses == response].mean()) for response in RESPONSES
    }
    return {
        "rewards": played.rewards.tolist(),
        "refused": played.refused,
        "by_response": by_response,
        "texts": played.texts[:20],
    }


def draw(path: Path, single: Played, multi: Played, split: Any, tasks: int) -> None:
    """Strips of the first episodes, not picked by result: before, single answer, after turn 1, after turn 2, goal."""
    options = env_options(split, 1, tasks, seed=0)
    dataset = get_dataset(options["dataset"], **options["dataset_kwargs"])
    examples = []
    for index in range(SHEET_ROWS):
        task = dataset[index]
        assert task.reference is not None
        photos = [
            ("before", single.photos[index][0]),
            ("single answer", single.photos[index][-1]),
            *((f"after turn {turn}", photo) for turn, photo in enumerate(multi.photos[index][1:], 1)),
            ("goal", task.reference.load()),
        ]
        title = f"{task.instruction} (hidden response {multi.responses[index]:g})"
        answers = [
            f"single: {single.texts[index][0]}",
            *(f"turn {n}: {t}" for n, t in enumerate(multi.texts[index], 1)),
        ]
        notes = [*answers, f"reward: single {single.rewards[index]:+.2f}, multi {multi.rewards[index]:+.2f}"]
        examples.append(Example(title, photos, notes))
    contact_sheet(examples, path)


def report(out: Path, found: dict[int, dict[str, Any]], split: str) -> dict[str, Any]:
    """Means and paired differences with 95% bootstrap intervals, for each seed and over seeds."""
    names = list(next(iter(found.values())))
    last = "grpo" if "multi grpo" in names else "sft"
    pairs = [(f"multi {last}", f"single {last}"), (f"multi {last}", "script: best single answer")]
    pairs += [(f"multi {last}, photo greyed", f"single {last}"), (f"multi {last}, photo swapped", f"single {last}")]
    pairs += [("multi grpo", "multi sft"), ("single grpo", "single sft")] if last == "grpo" else []
    rewards = {name: np.array([one[name]["rewards"] for one in found.values()]) for name in names}
    table = {name: summary(values, list(found)) for name, values in rewards.items()}
    for name in names:
        table[name]["refused"] = float(np.mean([one[name]["refused"] for one in found.values()]))
        table[name]["by_response"] = {
            key: float(np.mean([one[name]["by_response"][key] for one in found.values()]))
            for key in found[min(found)][name]["by_response"]
        }
    differences = {f"{a} − {b}": summary(rewards[a] - rewards[b], list(found)) for a, b in pairs}
    whole = {"split": split, "seeds": list(found), "table": table, "differences": differences}
    (out / f"{split}.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False), encoding="utf-8")
    return whole


def summary(values: NDArray[np.float64], seeds: Sequence[int]) -> dict[str, Any]:
    """Of (seeds, episodes): the mean over seeds of every episode, resampled over episodes; and each seed alone."""
    each = {str(seed): bootstrap_interval(row)._asdict() for seed, row in zip(seeds, values, strict=True)}
    return {**bootstrap_interval(values.mean(axis=0))._asdict(), "episodes": values.shape[1], "by_seed": each}


def table_text(whole: dict[str, Any]) -> str:
    """The report as Markdown."""
    heads = [f"response {response:g}" for response in RESPONSES]
    lines = [f"| {whole['split']} photos, {len(whole['seeds'])} seeds | reward [95%] | refused | {' | '.join(heads)} |"]
    lines.append("|---" * (3 + len(heads)) + "|")
    for name, row in whole["table"].items():
        cells = [f"{value:+.3f}" for value in row["by_response"].values()]
        lines.append(f"| {name} | {_interval(row)} | {row['refused']:.1%} | {' | '.join(cells)} |")
    lines += ["", "| paired difference | over seeds [95%] | by seed |", "|---|---|---|"]
    for name, row in whole["differences"].items():
        lines.append(f"| {name} | {_interval(row)} | {'; '.join(map(_interval, row['by_seed'].values()))} |")
    return "\n".join(lines)


def _interval(row: dict[str, float]) -> str:
    return f"{row['mean']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"


def claim(out: Path, settings: Settings) -> None:
    """Refuse a folder that was made with other settings.

    Raises:
        ConfigurationError: If it was.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "settings.json"
    if not path.is_file():
        path.write_text(json.dumps(asdict(settings), indent=1), encoding="utf-8")
    found = json.loads(path.read_text(encoding="utf-8"))
    if found != asdict(settings):
        raise ConfigurationError(f"{out} was made with {found}; now it is {asdict(settings)}. Choose another --out.")


def say(text: str) -> None:
    """Print a line of progress with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> None:
    """Do whatever is left to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/multi_turn"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--tasks", type=int, default=480, help="held-out episodes")
    parser.add_argument("--sft-steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--iterations", type=int, default=15, help="of GRPO; 0: supervised fine-tuning alone")
    parser.add_argument("--answers", type=int, default=128, help="sampled in each iteration of GRPO")
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="of GRPO")
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    transformers.logging.disable_progress_bar()
    settings = Settings(
        args.sft_steps, args.batch_size, args.iterations, args.answers, args.group_size, args.learning_rate
    )
    claim(args.out, settings)
    fraction = best_fraction(args.out / "single_answers.json")
    say(f"the best single answer sets {fraction:g} of what the words ask for (chosen on training tasks)")
    found = {}
    for seed in args.seeds:
        folder = args.out / f"seed-{seed}"
        folder.mkdir(exist_ok=True)
        train(folder, seed, settings, fraction)
        found[seed] = measure(folder, seed, settings, fraction, args.split, args.tasks)
    print(table_text(report(args.out, found, args.split)))


if __name__ == "__main__":
    main()
