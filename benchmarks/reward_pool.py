"""A learned judge in a pool of actors against a copy of it in every env runner: episodes per second, and memory.

    OMP_NUM_THREADS=1 python benchmarks/reward_pool.py [--runners 8] [--episodes 4] [--rounds 4] [--quick]

Env runners are Ray actors that ask for scores of `--episodes` episodes at a time, one call after another, without doing
anything else. The judge is a Qwen3-VL with random weights, built here in two sizes, that looks at both photos and
writes at most 16 tokens; its value is how many. All ways run in turns in one run, with the same episodes; the table
gives medians, and every way's scores are compared with those of the model called here.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import transformers

from retouch_agents.rllib import start_ray
from retouch_agents.tiny import TinySize, build_tiny
from retouch_gym.chat.messages import user_message
from retouch_gym.images import Pixels
from retouch_gym.recipes import Recipe
from retouch_gym.renderers import get_renderer
from retouch_gym.rewards import Reward, RewardOutput
from retouch_gym.tasks import Episode, Task
from retouch_gym.testing import make_episode
from retouch_gym.tools.iea import IEA
from retouch_reward_models.backends.base import ChatFailure, ChatReply, ChatRequest
from retouch_reward_models.backends.local import TransformersBackend
from retouch_reward_models.serving.parcels import pack, packed_bytes
from retouch_reward_models.serving.pool import RewardPool

TOKENS = 16
COPIES = "a copy in each runner"
SIZES = {
    "small": TinySize(),
    "large": TinySize(hidden=512, layers=8, heads=8, vision_hidden=256, vision_layers=4),
}


class Wordiness(Reward):
    """How much of the room for its answer a local model used.

    Args:
        folder: The model.
    """

    name = "wordiness"
    range = (0.0, 1.0)

    def __init__(self, folder: str) -> None:
        self._backend = TransformersBackend(folder)

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """One batched generation."""
        asked = [
            ChatRequest([user_message(e.task.instruction, (e.source, e.image))], max_tokens=TOKENS) for e in episodes
        ]
        return [_wordiness(reply) for reply in self._backend.complete(asked)]


def _wordiness(reply: ChatReply | ChatFailure) -> RewardOutput:
    if isinstance(reply, ChatFailure):
        return RewardOutput(None, error=reply.reason)
    return RewardOutput((reply.completion_tokens or 0) / TOKENS)


def make_judge(folder: str) -> Reward:
    """The judge, in whatever process calls this."""
    return Wordiness(folder)


def memory_mb(process: int | str = "self") -> float:
    """Memory of a process that no other shares, in MB."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000


class Runner:
    """An env runner, as far as rewards see it: it asks for scores and waits.

    Args:
        rewards: Handles by name; without any it makes a copy of the judge here.
        folder: The judge's model.
    """

    def __init__(self, rewards: dict[str, Reward], folder: str) -> None:
        self._rewards = rewards or {COPIES: make_judge(folder)}

    def play(self, name: str, calls: Sequence[Sequence[Episode]]) -> list[float | None]:
        """Every call after another."""
        return [output.value for call in calls for output in self._rewards[name].score(call)]

    def memory(self) -> float:
        """See `memory_mb`."""
        return memory_mb()


def make_episodes(count: int, side: int) -> list[Episode]:
    """Episodes of groups of four on one photo, rendered."""
    rng = np.random.default_rng(0)
    native = get_renderer("native")
    found = []
    for number in range(count):
        if number % 4 == 0:
            photo = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            task = Task(f"bench/{number}", Pixels(photo), "warmer and brighter please")
        found.append(make_episode(task, Recipe("iea", {"exposure": float(number % 40)}), native))
    return found


def measure(folder: str, options: argparse.Namespace) -> None:
    """Time every way in turns and print a table."""
    count = options.runners * options.rounds * options.episodes
    episodes = make_episodes(count, options.side)
    calls = [episodes[start : start + options.episodes] for start in range(0, count, options.episodes)]
    shares = [calls[number :: options.runners] for number in range(options.runners)]
    judge = make_judge(folder)
    expected = [output.value for share in shares for call in share for output in judge.score(call)]
    pools = {
        f"pool, {actors} actor(s)": RewardPool(
            make_judge, {"folder": folder}, num_cpus=0, min_actors=actors, max_actors=actors
        )
        for actors in (1, 2)
    }
    remote: Any = ray.remote(num_cpus=0)(Runner)
    copies = [remote.remote({}, folder) for _ in shares]
    callers = [remote.remote(pools, folder) for _ in shares]
    off: dict[str, int] = {}

    def run(name: str) -> None:
        runners = callers if name in pools else copies
        got = ray.get([runner.play.remote(name, share) for runner, share in zip(runners, shares, strict=True)])
        values = [value for share in got for value in share]
        if None in values:
            raise SystemExit(f"{name}: an episode was not scored")
        off[name] = sum(value != wanted for value, wanted in zip(values, expected, strict=True))

    seconds = _interleaved({name: partial(run, name) for name in (COPIES, *pools)}, options.repeats)
    print("| way | episodes/s | of copies | episodes a batch | scores off | models | MB, runners | MB, pool |")
    print("|---|---|---|---|---|---|---|---|")
    for name, taken in seconds.items():
        own = sum(ray.get([runner.memory.remote() for runner in (callers if name in pools else copies)]))
        size, pids = float(options.episodes), []
        if name in pools:
            stats = pools[name].stats()
            state = stats["fleets"]["0"]
            size, pids = state["episodes"] / state["batches"], [actor["pid"] for actor in state["actors"]]
            pids.append(stats["pid"])
        speed = f"{count / taken:.1f} | {seconds[COPIES] / taken:.2f}× | {size:.1f} | {off[name]} of {count}"
        pooled = sum(memory_mb(pid) for pid in pids)
        print(f"| {name} | {speed} | {len(pids) - 1 if pids else len(copies)} | {own:.0f} | {pooled:.0f} |")
    for pool in pools.values():
        pool.close()
    for runner in (*copies, *callers):
        ray.kill(runner)


def _interleaved(jobs: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(repeats + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if turn:  # the first is for warming up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runners", type=int, default=8, help="env runners")
    parser.add_argument("--episodes", type=int, default=4, help="episodes of a call")
    parser.add_argument("--rounds", type=int, default=4, help="calls of each runner")
    parser.add_argument("--side", type=int, default=256, help="side of the square photos in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--quick", action="store_true", help="few runners and rounds, the small model")
    options = parser.parse_args()
    if options.quick:
        options.runners, options.rounds, options.repeats, options.sizes = 2, 2, 1, ["small"]
    transformers.logging.disable_progress_bar()
    start_ray(num_cpus=os.cpu_count())
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    four = make_episodes(4, options.side)
    sent, whole = packed_bytes(pack(four, references=False)) / 1e6, packed_bytes(four) / 1e6
    print(
        f"{options.runners} runners, {options.rounds} calls of {options.episodes} episodes each, {options.side}² photos"
    )
    print(f"four rollouts of a task: {sent:.2f} MB on their way, {whole:.2f} MB if nothing were packed")
    for name in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            build_tiny(folder, IEA, ["warmer", "and", "brighter", "please"], size=SIZES[name])
            weights = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
            print(f"\n{name}: {weights / 4e6:.1f} M parameters, {TOKENS} tokens an answer")
            measure(folder, options)


if __name__ == "__main__":
    main()
