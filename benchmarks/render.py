"""How fast the native renderer is: one thread, medians of interleaved runs.

    OMP_NUM_THREADS=1 python benchmarks/render.py [--quick] [--peer CHECKOUT]

Renders P6 (exposure, contrast, highlights, shadows, saturation, temperature), P6B (with sharpness), P14 (all
but sharpness and grain) and P15 (all but grain) at 512×512, and P6 and P15 at 24 megapixels:

* compat: `NativeRenderer`, toolset ``iea-compat``, the published editor's bytes
* default: `NativeRenderer`, toolset ``iea``
* tables: the same pipeline with NumPy and OpenCV look-up tables (`_peers.render_with_tables`)
* copy: copying the photo into a new array, as every renderer must
* memcpy: copying it into memory that is there already
* published: the published editor itself, with `--peer`, a checkout of it (``src/image_editor.py``)

Every run writes a new photo; at 512×512 source and result lie in the cache, as in an environment.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import cv2
import numba
import numpy as np
from _peers import PublishedEditor, render_with_tables

from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.native import NativeRenderer
from retouch_gym.types import Image

P6 = {"exposure": 20, "contrast": 15, "highlights": -30, "shadows": 25, "saturation": 15, "temperature": 10}
P6B = {**P6, "sharpness": 30}
REST = {"brightness": 5, "natural_contrast": 12, "whites": 5, "blacks": -5, "vibrance": -10, "tint": -8}
P14 = {**P6, **REST, "vignette": 25, "fade": 10}
P15 = {**P14, "sharpness": 30}

FIRST_CALL = """
import time
import numpy as np
from retouch_gym import Recipe
start = time.perf_counter()
from retouch_gym.renderers.native import NativeRenderer
imported = time.perf_counter()
recipe = {"exposure": 10, "vignette": 10, "sharpness": 10, "grain": 10}
photo = np.zeros((64, 64, 3), np.uint8)
NativeRenderer().render([photo] * 2, [Recipe("iea", recipe), Recipe("iea-compat", recipe)])
print(imported - start, time.perf_counter() - imported)
"""


def make_photo(height: int, width: int) -> Image:
    """Smooth colours with noise, like a photo to any algorithm whose speed depends on the content."""
    rng = np.random.default_rng(0)
    ground = cv2.resize(
        rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    return cv2.add(ground, rng.integers(0, 16, ground.shape, dtype=np.uint8)).astype(np.uint8)


def medians(jobs: Mapping[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Median seconds of each job.

    The jobs take turns, so that a noisy machine hits all alike; each runs three times a turn and the first,
    with the caches full of another job's data, is not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(turns):
        for name, job in jobs.items():
            for run in range(3):
                start = time.perf_counter()
                job()
                if run:
                    times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def compare(title: str, photo: Image, sliders: Mapping[str, float], turns: int, peer: PublishedEditor | None) -> None:
    """Print one row: milliseconds, and how many times as long as the compatible mode."""
    renderer = NativeRenderer()
    compat, default = Recipe("iea-compat", sliders), Recipe("iea", sliders)
    target = np.empty_like(photo)
    jobs: dict[str, Callable[[], object]] = {
        "compat": lambda: renderer.render([photo], [compat]),
        "default": lambda: renderer.render([photo], [default]),
        "tables": lambda: render_with_tables(photo, sliders),
        "copy": lambda: photo.copy(),
        "memcpy": lambda: np.copyto(target, photo),
    }
    ours = renderer.render([photo], [compat])[0]
    checks = [f"tables {cv2.norm(ours, render_with_tables(photo, sliders), cv2.NORM_INF):.0f}"]
    if peer is not None:
        editor = peer.open(photo)
        jobs["published"] = lambda: editor.process_image(dict(sliders))
        published = np.ascontiguousarray(editor.process_image(dict(sliders))[:, :, ::-1])
        checks.append(f"published {cv2.norm(ours, published, cv2.NORM_INF):.0f}")
    seconds = medians(jobs, turns)
    cells = [f"{1e3 * s:9.3f} ({s / seconds['compat']:5.2f}x)" for s in seconds.values()]
    print(f"{title:<12} {' '.join(cells)}   levels off: {', '.join(checks)}")


def small_photos(turns: int) -> None:
    """Print what a render of a thumbnail costs, many recipes of one photo at a time (leave one out)."""
    renderer, photo, count = NativeRenderer(), make_photo(64, 64), 100
    pixel = np.ascontiguousarray(photo[:1, :1])
    jobs: dict[str, Callable[[], object]] = {}
    for toolset in ("iea-compat", "iea"):
        recipes = [Recipe(toolset, P6)] * count
        for image in (photo, pixel):
            jobs[f"{toolset} {len(image)}x{len(image)}"] = partial(renderer.render, [image] * count, recipes)
    cells = ", ".join(f"{name} {1e6 * s / count:.0f} us" for name, s in medians(jobs, turns).items())
    print(f"100 recipes of one photo, P6, each: {cells}")


def first_calls() -> None:
    """Print the time of the first render in a new process, with an empty and with a filled cache."""
    with tempfile.TemporaryDirectory() as cache:
        for title in ("cold", "warm"):
            output = subprocess.run(
                [sys.executable, "-c", FIRST_CALL],
                env={**os.environ, "NUMBA_CACHE_DIR": cache},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            imported, called = map(float, output.split())
            print(f"first call, {title} cache: import {imported:.2f} s, every kernel once {called:.2f} s")


def processor() -> str:
    """Name of the CPU."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    found = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.processor() or "unknown CPU"


def main() -> None:
    """Print the machine, the tables and the times of the first call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few repeats, and 6 instead of 24 megapixels")
    parser.add_argument("--peer", type=Path, help="checkout of the published editor, run unmodified beside ours")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    peer = None
    if options.peer is not None:
        try:
            peer = PublishedEditor(options.peer)
        except ImportError as error:
            print(f"The published editor is left out: {error}.")
    versions = {"NumPy": np.__version__, "numba": numba.__version__, "OpenCV": cv2.__version__}
    print(f"{processor()}, {os.cpu_count()} CPUs, {platform.machine()}, one thread used")
    print(f"Python {platform.python_version()}, {', '.join(' '.join(item) for item in versions.items())}")
    names = ["compat", "default", "tables", "copy", "memcpy", *(["published"] if peer else [])]
    print(f"\nms (times compat)\n{'':<12} {' '.join(f'{name:>18}' for name in names)}")
    photo = make_photo(512, 512)
    for title, sliders in (("P6", P6), ("P6B", P6B), ("P14", P14), ("P15", P15)):
        compare(f"{title} 512x512", photo, sliders, 4 if options.quick else 12, peer)
    height, width = (2000, 3000) if options.quick else (4000, 6000)
    large = make_photo(height, width)
    for title, sliders in (("P6", P6), ("P15", P15)):
        compare(f"{title} {height * width // 1_000_000} MP", large, sliders, 1 if options.quick else 2, peer)
    print()
    small_photos(2 if options.quick else 10)
    first_calls()


if __name__ == "__main__":
    main()
