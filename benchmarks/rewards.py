"""How fast the rule rewards score, one thread, medians of interleaved runs.

    OMP_NUM_THREADS=1 python benchmarks/rewards.py [--size 512] [--repeats 15]

Compares the pixel distance with its formula written in plain NumPy floats, as the published code does,
and times the edit reward with its leave-one-out renders for 6, 14 and 15 used sliders (P6, P14, P15).
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import cv2
import numpy as np

from retouch_gym.images import Pixels
from retouch_gym.recipes import Recipe
from retouch_gym.renderers import Rendered, get_renderer
from retouch_gym.rewards import EditReward, Likeness, pixel_distance, score_one
from retouch_gym.tasks import Task
from retouch_gym.testing import make_episode
from retouch_gym.types import Image

P6 = ("exposure", "contrast", "highlights", "shadows", "saturation", "temperature")
P14 = (*P6, "brightness", "natural_contrast", "whites", "blacks", "vibrance", "tint", "vignette", "fade")
P15 = (*P14, "sharpness")


def numpy_distance(a: Image, b: Image) -> float:
    """The formula in float32, as one would write it first."""
    x, y = a.astype(np.float32) / 255, b.astype(np.float32) / 255
    return float((np.mean(np.abs(x - y)) + np.sqrt(np.mean((x - y) ** 2))) / 2)


def medians(jobs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each job, the jobs taking turns so that noise hits all alike."""
    for job in jobs.values():
        job()
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="side of the square photo in pixels")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (options.size // 8 + 1, options.size // 8 + 1, 3), dtype=np.uint8)
    photo = np.asarray(cv2.resize(small, (options.size, options.size), interpolation=cv2.INTER_CUBIC), np.uint8)
    native = get_renderer("native")
    target = Recipe("iea", {"exposure": 25, "temperature": 30, "saturation": -20})
    task = Task("bench", Pixels(photo), "benchmark", reference=Rendered(Pixels(photo), target))
    jobs: dict[str, Callable[[], object]] = {}
    reference = task.reference.load() if task.reference else photo
    jobs["distance, NumPy floats"] = lambda: numpy_distance(photo, reference)
    jobs["distance"] = lambda: pixel_distance(photo, reference)
    for name, sliders in (("P6", P6), ("P14", P14), ("P15", P15)):
        episode = make_episode(task, Recipe("iea", dict.fromkeys(sliders, 18)), native)
        _ = episode.reference
        jobs[f"likeness, {name}"] = lambda episode=episode: score_one(Likeness(), episode)
        jobs[f"edit with leave-one-out, {name}"] = lambda episode=episode: score_one(EditReward(), episode)
    found = medians(jobs, options.repeats)
    print(f"{platform.processor() or platform.machine()}, {options.size}², 1 thread, warm, {options.repeats} repeats")
    for name, seconds in found.items():
        print(f"{name:34} {seconds * 1e3:9.3f} ms")
    print(f"distance: {found['distance, NumPy floats'] / found['distance']:.0f}× the plain NumPy formula")


if __name__ == "__main__":
    main()
