"""A runner's sampling with a judge elsewhere, in one lane and in two (docs/scaling.md).

    OMP_NUM_THREADS=1 python benchmarks/lanes.py [--judge-seconds 0.25] [--prompts 16] [--repeats 5]

The judge is `Likeness` that takes a while longer for every answer, and judges one call after another: it stands for a
model on another machine, and uses no core of this one. The ways run in turns in one process, with the same tasks and
seeds; their answers are compared.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retouch_agents.demo.config import MODEL_SIZE
from retouch_agents.rllib import GRPOConfig, start_ray
from retouch_agents.rllib.env_runner import RetouchEnvRunner
from retouch_agents.rllib.rollouts import GroupRequest, SampleResult
from retouch_agents.tiny import build_tiny
from retouch_gym.datasets.grammar import words
from retouch_gym.rewards import Likeness, RewardOutput
from retouch_gym.tasks import Episode
from retouch_gym.tools.iea import IEA


class Distant(Likeness):
    """`Likeness` from far away.

    Args:
        seconds: What an answer costs; a call of n answers takes n times as long.
    """

    one_at_a_time = threading.Lock()

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """After a while."""
        with self.one_at_a_time:
            time.sleep(self.seconds * len(episodes))
        return super().score(episodes)


def runner_of(model: Path, lanes: int, args: argparse.Namespace) -> RetouchEnvRunner:
    """The local env runner of an algorithm with so many lanes."""
    env: dict[str, Any] = {
        "toolset": "iea",
        "dataset": "samples",
        "dataset_kwargs": {"size": 256, "resolution": 64},
        "max_turns": 1,
        "reward": Distant(args.judge_seconds / args.answers),
    }
    config = GRPOConfig().environment("Retouch/Retouch-v0", env_config=env).env_runners(num_env_runners=0)
    settings = config.training(
        model=model, group_size=8, prompts_per_iteration=args.prompts, max_new_tokens=64, lanes=lanes
    )
    runner: RetouchEnvRunner = settings.build_algo().env_runner_group.local_env_runner
    return runner


def timed(runner: RetouchEnvRunner, requests: Sequence[GroupRequest]) -> tuple[float, SampleResult]:
    """Seconds of one round of sampling."""
    started = time.perf_counter()
    found = runner.sample(requests=requests)
    return time.perf_counter() - started, found


def main() -> None:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--judge-seconds", type=float, nargs="+", default=[0.0, 0.1, 0.25, 0.5], help="of a whole round"
    )
    parser.add_argument("--prompts", type=int, default=16, help="of 8 answers each")
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    args.answers = 8 * args.prompts
    start_ray()
    with tempfile.TemporaryDirectory() as folder:
        model = build_tiny(Path(folder) / "model", IEA, words(), size=MODEL_SIZE, seed=0)
        print(f"{args.answers} answers a round; medians of {args.repeats} rounds, seconds (times of one lane)")
        for seconds in args.judge_seconds:
            args.judge_seconds = seconds
            runners = {lanes: runner_of(model, lanes, args) for lanes in args.lanes}
            taken: dict[int, list[float]] = {lanes: [] for lanes in runners}
            for repeat in range(args.repeats + 1):
                requests = [GroupRequest(n, n, 1000 * repeat + n) for n in range(args.prompts)]
                found = {lanes: timed(runner, requests) for lanes, runner in runners.items()}
                answers = [[r.token_ids.tolist() for r in result.rollouts] for _, result in found.values()]
                assert all(other == answers[0] for other in answers), "the lanes drew different answers"
                if repeat:  # the first warms up
                    for lanes, (spent, _) in found.items():
                        taken[lanes].append(spent)
            usual = {lanes: statistics.median(times) for lanes, times in taken.items()}
            shown = "  ".join(
                f"{n} lanes {value:.2f} ({usual[args.lanes[0]] / value:.2f}x)" for n, value in usual.items()
            )
            print(f"judge {seconds:.2f} s: {shown}", flush=True)


if __name__ == "__main__":
    main()
