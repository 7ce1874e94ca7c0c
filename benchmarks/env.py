"""How many steps per second an environment makes: render, score and observe, every step.

    OMP_NUM_THREADS=1 python benchmarks/env.py [--quick] [--peer CHECKOUT] [--json FILE]
    OMP_NUM_THREADS=1 python benchmarks/env.py --soak 100000

Compares the single environment, Gymnasium's sync and async vectors of it, and the native vector with one and two
threads, at 256² and 512², with the published IEA editor in the same loop (given a checkout of it) and with the time to
copy the photos. All play the same: 16 photos in memory, P6 (exposure, contrast, highlights, shadows, saturation,
temperature) set anew in each turn, episodes of 8 turns, the likeness paid in every turn. Rounds are interleaved and
medians reported, so that compare ratios within one run. `--soak` makes steps with a vector of 16 and reports memory and
open files.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import gymnasium
import numpy as np
from _peers import PublishedEditor
from gymnasium.vector import AutoresetMode
from rich.progress import track

import retouch_gym  # noqa: F401 (registers the environments)
from retouch_gym.datasets.base import ListedDataset
from retouch_gym.images import Pixels
from retouch_gym.recipes import Recipe
from retouch_gym.renderers import Rendered, get_renderer
from retouch_gym.rewards import EditReward, score_one
from retouch_gym.tasks import Episode, Task
from retouch_gym.testing import make_episode
from retouch_gym.types import Image, ToolCall

P6 = ("exposure", "contrast", "highlights", "shadows", "saturation", "temperature")
P14 = (*P6, "brightness", "natural_contrast", "whites", "blacks", "vibrance", "tint", "vignette", "fade")
SETS = {"P6": P6, "P14": P14, "P15": (*P14, "sharpness")}
ENVS = 16
TURNS = 8
TARGET = Recipe("iea", {"exposure": 25, "temperature": 30, "saturation": -20})


class InMemory(ListedDataset):
    """Smooth noise photos that are in memory, so that only the environment is measured."""

    name = "in-memory"
    split = "test"

    def __init__(self, size: int, count: int = ENVS) -> None:
        super().__init__([f"in-memory/{size}-{index}" for index in range(count)])
        self.size = size

    def photo(self, index: int) -> Image:
        """The photo of a task, uint8 (size, size, 3)."""
        rng = np.random.default_rng(index)
        small = rng.integers(0, 256, (self.size // 8 + 1, self.size // 8 + 1, 3), dtype=np.uint8)
        return np.asarray(cv2.resize(small, (self.size, self.size), interpolation=cv2.INTER_CUBIC), np.uint8)

    def __getitem__(self, index: int) -> Task:
        photo = Pixels(self.photo(index))
        return Task(self.id_of(index), photo, "warmer", reference=Rendered(photo, TARGET), recipe=TARGET)


@dataclass
class Contestant:
    """Something that steps.

    Args:
        name: What it is called in the table.
        step: Makes one step in each of its environments.
        envs: How many those are.
        close: Frees what it holds.
    """

    name: str
    step: Callable[[], Any]
    envs: int
    close: Callable[[], Any] = lambda: None


def plans() -> Iterator[list[ToolCall]]:
    """P6 with other values in each turn, made beforehand: writing calls is the agent's work."""
    made = [
        [ToolCall(name, {"value": 10 + (turn * 7 + place) % 40}) for place, name in enumerate(P6)] for turn in range(40)
    ]
    return itertools.cycle(made)


def options(size: int) -> dict[str, Any]:
    """What every environment here is made with."""
    return {
        "dataset": InMemory(size),
        "reward": "likeness",
        "reward_mode": "delta",
        "max_turns": TURNS,
        "cache_mb": 1024,
    }


def single(size: int) -> Contestant:
    """One environment."""
    env = gymnasium.make("Retouch/Retouch-v0", disable_env_checker=True, **options(size))
    plan = plans()
    env.reset(seed=0)

    def step() -> None:
        *_, terminated, _, _ = env.step(next(plan))
        if terminated:
            env.reset()

    return Contestant("single environment", step, 1, env.close)


def vector(name: str, size: int, **kwargs: Any) -> Contestant:
    """A vector of the structured environment."""
    made = {**options(size), **kwargs}
    envs = gymnasium.make_vec("Retouch/Retouch-v0", num_envs=ENVS, **made)
    plan = plans()
    envs.reset(seed=0)
    return Contestant(name, lambda: envs.step((next(plan),) * ENVS), ENVS, envs.close)


def numeric(name: str, size: int, **kwargs: Any) -> Contestant:
    """A vector of the numeric environment at full size: arrays of one shape, which shared memory can hold."""
    made = {**options(size), "size": size, "sliders": P6, "words": "none", **kwargs}
    envs = gymnasium.make_vec("Retouch/Sliders-v0", num_envs=ENVS, **made)
    rng = np.random.default_rng(0)
    actions = rng.uniform(0.1, 0.5, (32, ENVS, len(P6))).astype(np.float32)
    envs.reset(seed=0)
    turn = iter(range(1 << 30))
    return Contestant(name, lambda: envs.step(actions[next(turn) % 32]), ENVS, envs.close)


def published(checkout: Path, size: int) -> Contestant:
    """The published editor and its pixel distance, in the same loop."""
    editor = PublishedEditor(checkout)
    data = InMemory(size)
    photos = [data.photo(index) for index in range(ENVS)]
    opened = [editor.open(photo) for photo in photos]
    references = [
        np.asarray(cv2.cvtColor(each.process_image(dict(TARGET.controls)), cv2.COLOR_BGR2RGB)) for each in opened
    ]
    untouched = [distance(photo, reference) for photo, reference in zip(photos, references, strict=True)]
    turn = iter(range(1 << 30))

    def step() -> tuple[Image, float]:
        number = next(turn)
        which = number % ENVS
        sliders = {name: 10 + (number * 7 + place) % 40 for place, name in enumerate(P6)}
        shown = cv2.cvtColor(opened[which].process_image(sliders), cv2.COLOR_BGR2RGB)
        return shown, max(-1.0, 1 - distance(shown, references[which]) / untouched[which])

    return Contestant("published IEA editor in a loop", step, 1)


def distance(a: Any, b: Any) -> float:
    """The pixel distance as one writes it in NumPy floats, and as it is published."""
    x, y = a.astype(np.float32) / 255, b.astype(np.float32) / 255
    return float((np.mean(np.abs(x - y)) + np.sqrt(np.mean((x - y) ** 2))) / 2)


def copying(size: int) -> Contestant:
    """Copying each photo once into memory that is there: no environment can be faster."""
    photos = np.zeros((ENVS, size, size, 3), np.uint8)
    room = np.empty_like(photos)
    return Contestant("copy of the photo (bound)", lambda: np.copyto(room, photos), ENVS)


@contextmanager
def contestants(size: int, peer: Path | None) -> Iterator[list[Contestant]]:
    """Everything that is compared at one size."""
    same = {"autoreset_mode": AutoresetMode.SAME_STEP}
    shared = {"shared_memory": True, "context": "forkserver", **same}
    made = [
        single(size),
        vector("sync vector, observations copied", size, vectorization_mode="sync", vector_kwargs=same),
        vector("sync vector", size, vectorization_mode="sync", vector_kwargs={**same, "copy": False}),
        numeric("async vector, shared memory, copied", size, vectorization_mode="async", vector_kwargs=shared),
        numeric(
            "async vector, shared memory", size, vectorization_mode="async", vector_kwargs={**shared, "copy": False}
        ),
        vector("native vector, 1 thread", size, **same),
        vector("native vector, 2 threads", size, threads=2, **same),
        numeric("native vector, numeric view, 1 thread", size, **same),
        copying(size),
    ]
    if peer is not None:
        made.append(published(peer, size))
    try:
        yield made
    finally:
        for each in made:
            each.close()


def measure(made: list[Contestant], seconds: float, rounds: int) -> dict[str, float]:
    """Steps per second of each: the median of interleaved rounds."""
    found: dict[str, list[float]] = {each.name: [] for each in made}
    for number in track(range(rounds + 1), "measuring", transient=True):
        for each in made:
            start, steps = time.perf_counter(), 0
            while time.perf_counter() - start < (seconds if number else 0.3):
                each.step()
                steps += each.envs
            if number:
                found[each.name].append(steps / (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in found.items()}


def report(size: int, found: dict[str, float]) -> None:
    """Print the table of one size."""
    one = found["single environment"]
    peer = found.get("published IEA editor in a loop")
    head = f"| {size}², 16 environments | steps/s | of single |" + (" of published |" if peer else "")
    print(head, "|---|---|---|" + ("---|" if peer else ""), sep="\n")
    for name, speed in found.items():
        tail = f" {speed / peer:.1f}× |" if peer else ""
        print(f"| {name} | {speed:,.0f} | {speed / one:.2f}× |{tail}")
    best = max(found[name] for name in found if name.startswith("async"))
    print(f"\nnative, 2 threads: {found['native vector, 2 threads'] / best:.2f}× the better async vector\n")


def leave_one_out(editor: PublishedEditor, repeats: int = 3) -> dict[str, float]:
    """How many times as fast the edit reward is as the published editor's leave-one-out, at 512²."""
    data = InMemory(512)
    task, native = data[0], get_renderer("native")
    photo, opened = data.photo(0), editor.open(data.photo(0))
    assert task.reference is not None
    reference, ratios = task.reference.load(), {}
    for name, sliders in SETS.items():
        episode = make_episode(task, Recipe("iea", dict.fromkeys(sliders, 18)), native)
        _ = episode.reference

        def published_reward(sliders: tuple[str, ...] = sliders) -> None:
            values = dict.fromkeys(sliders, 18)
            for left_out in (None, *sliders):
                used = {key: value for key, value in values.items() if key != left_out}
                distance(cv2.cvtColor(opened.process_image(used), cv2.COLOR_BGR2RGB), reference)
            distance(photo, reference)

        def ours(episode: Episode = episode) -> None:
            score_one(EditReward(), episode)

        times: dict[str, list[float]] = {"published": [], "ours": []}
        for number in range(repeats + 1):
            for key, job, count in (("published", published_reward, 1), ("ours", ours, 5)):
                start = time.perf_counter()
                for _ in range(count):
                    job()
                if number:
                    times[key].append((time.perf_counter() - start) / count)
        ratios[name] = statistics.median(times["published"]) / statistics.median(times["ours"])
    return ratios


def aims(figures: dict[int, dict[str, float]], rewards: dict[str, float]) -> None:
    """Print what is aimed at beside what was found; the floor is for slower processors without AVX-512."""
    size = max(figures)
    found = figures[size]
    peer = found["published IEA editor in a loop"]
    best = max(found[name] for name in found if name.startswith("async"))
    two = found["native vector, 2 threads"]
    rows = [
        (f"single environment, {size}², of the published editor", found["single environment"] / peer, 12, 6),
        (f"native vector on 2 free cores, {size}², of it", two / peer, 24, None),
        ("native vector on 2 free cores, of the async vector", two / best, 2.5, None),
        *(
            (f"edit reward with leave-one-out, {name}", rewards[name], aim, 8)
            for name, aim in (("P6", 18), ("P14", 30), ("P15", 10))
        ),
    ]
    print("| aim | at least | floor | found |", "|---|---|---|---|", sep="\n")
    for name, ratio, aim, floor in rows:
        print(f"| {name} | {aim}× | {f'{floor}×' if floor else '–'} | {ratio:.1f}× |")


def soak(steps: int) -> int:
    """Make steps with a vector of 16 and watch memory and open files; 1 if either grew."""
    envs = gymnasium.make_vec(
        "Retouch/Retouch-v0",
        num_envs=ENVS,
        dataset_kwargs={"size": 400, "resolution": 64},
        reward="edit",
        max_turns=4,
        autoreset_mode=AutoresetMode.SAME_STEP,
        cache_mb=2,
    )
    plan = plans()
    envs.reset(seed=0)
    rows = []
    for number in track(range(steps), "stepping"):
        envs.step((next(plan),) * ENVS)
        if (number + 1) % max(1, steps // 10) == 0:
            rows.append((number + 1, resident_mb(), len(list(Path("/proc/self/fd").iterdir()))))
    envs.close()
    print("| steps of 16 | resident MB | open files |", "|---|---|---|", sep="\n")
    for row in rows:
        print(f"| {row[0]:,} | {row[1]:.1f} | {row[2]} |")
    # The first tenth fills caches; what is asked is whether it grows from there.
    change = rows[-1][1] / rows[0][1] - 1
    leaked = rows[-1][2] - rows[0][2]
    print(f"\nmemory {change:+.2%} since the first tenth, {leaked:+d} open files")
    return int(abs(change) > 0.02 or leaked > 0)


def resident_mb() -> float:
    """Resident memory of this process, MB (2²⁰ bytes)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="256² only, short rounds")
    parser.add_argument("--peer", type=Path, help="checkout of OpenDFM/Image_Edit_Agent")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--soak", type=int, metavar="STEPS", help="instead: memory and files over that many steps")
    given = parser.parse_args()
    if given.soak:
        sys.exit(soak(given.soak))
    cv2.setNumThreads(1)
    figures: dict[int, dict[str, float]] = {}
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    for size in (256,) if given.quick else (256, 512):
        with contestants(size, given.peer) as made:
            figures[size] = measure(made, 0.3 if given.quick else 1.0, 3 if given.quick else 7)
        report(size, figures[size])
    if given.peer:
        aims(figures, leave_one_out(PublishedEditor(given.peer)))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
