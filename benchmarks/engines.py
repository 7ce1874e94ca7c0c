"""How close RawTherapee and darktable come to the specification of the toolset ``lightroom``, and how fast they are.

    OMP_NUM_THREADS=1 python benchmarks/engines.py [--photos FOLDER] [--quick]

Renders six photographs (those that come with the package, or the first six of a folder) with one control at a time, and
prints Markdown: the mean CIEDE2000 colour difference between the program and `render_reference` over all pixels of the
six, the largest mean of one photo, and what the control itself changes, to compare with. Below it, the time of a
photo, alone and in a batch. Needs scikit-image, and the programs: ``make engines``.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab

from retouch_gym import datasets
from retouch_gym.adjustments import Crop
from retouch_gym.images import PHOTO_SUFFIXES, load_image
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.engines.darktable import DarktableRenderer
from retouch_gym.renderers.engines.engine import EngineRenderer
from retouch_gym.renderers.engines.rawtherapee import RawTherapeeRenderer
from retouch_gym.renderers.engines.support import refused
from retouch_gym.renderers.lightroom.reference import render_reference
from retouch_gym.types import Image

SHIPPED = ("astronaut", "chelsea", "china", "coffee", "flower", "rocket")

PROMISED = ("exposure", "temperature", "tint", "saturation")
"""Controls that should agree."""

OTHERS: Mapping[str, Sequence[float]] = {
    "vibrance": (-50, 50),
    "contrast": (-50, 50),
    "highlights": (-50,),
    "shadows": (50,),
    "blacks": (-50, 50),
    "curve_highlights": (-50, 50),
    "curve_lights": (-50, 50),
    "curve_darks": (-50, 50),
    "curve_shadows": (-50, 50),
    "texture": (-50, 50),
    "clarity": (50,),
    "dehaze": (50,),
    "hsl_orange_hue": (-50, 50),
    "hsl_orange_saturation": (-50, 50),
    "hsl_orange_luminance": (-50, 50),
    "black_and_white": (1,),
    "sharpening_amount": (75,),
    "noise_luminance": (50,),
    "noise_color": (50,),
    "vignette_amount": (-50,),
}


def recipes(quick: bool) -> dict[str, Recipe]:
    """What is compared, by what it is called."""
    found = {"exposure -2": {"exposure": -2}, "exposure +1": {"exposure": 1}, "exposure +2.5": {"exposure": 2.5}}
    for name in PROMISED[1:]:
        found |= {f"{name} {value:+}": {name: value} for value in (-100, -50, 50, 100)}
    found["all four"] = {"exposure": 0.5, "temperature": 30, "tint": -20, "saturation": 25}
    if not quick:
        found |= {f"{name} {value:+}": {name: value} for name, values in OTHERS.items() for value in values}
    named = {name: Recipe("lightroom", controls) for name, controls in found.items()}
    if not quick:
        named["point curve"] = Recipe("lightroom", curves={"curve": ((0, 0), (0.25, 0.15), (0.6, 0.7), (1, 1))})
        named["crop"] = Recipe("lightroom", crop=Crop(left=0.1, top=0.2, right=0.8, bottom=0.9))
        named["crop, turned by 5°"] = Recipe("lightroom", crop=Crop(left=0.2, top=0.2, right=0.8, bottom=0.8, angle=5))
    return named


def difference(a: Image, b: Image) -> float:
    """Mean CIEDE2000 of two photos; of different sizes, not a number."""
    return float(deltaE_ciede2000(rgb2lab(a), rgb2lab(b)).mean()) if a.shape == b.shape else float("nan")


def compare(engine: EngineRenderer, photos: Sequence[Image], recipe: Recipe) -> str:
    """A cell: mean and largest difference; a dash where the program has no such thing."""
    if refused(recipe, engine.support):
        return "–"
    rendered = engine.render(photos, [recipe] * len(photos))
    errors = [difference(a, render_reference(b, recipe)) for a, b in zip(rendered, photos, strict=True)]
    return f"{np.mean(errors):.2f} ({max(errors):.2f})"


def seconds(engine: EngineRenderer, photo: Image, size: int, count: int) -> float:
    """Median seconds of three batches of `count` photos of size × size, per photo."""
    repeated = np.tile(photo, (-(-size // photo.shape[0]), -(-size // photo.shape[1]), 1))[:size, :size]
    recipe = Recipe("lightroom", {"exposure": 0.5, "temperature": 20, "saturation": 10})
    times = []
    for _ in range(3):
        start = time.perf_counter()
        engine.render([repeated] * count, [recipe] * count)
        times.append((time.perf_counter() - start) / count)
    return sorted(times)[1]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder with at least six photos")
    parser.add_argument("--quick", action="store_true", help="only what should agree")
    options = parser.parse_args()
    folder = options.photos or Path(datasets.__file__).parent / "assets"
    names = [f"{name}.png" for name in SHIPPED] if options.photos is None else [path.name for path in folder.iterdir()]
    files = sorted(name for name in names if Path(name).suffix.lower() in PHOTO_SUFFIXES)[:6]
    photos = [load_image(folder / name) for name in files]
    engines = [engine() for engine in (RawTherapeeRenderer, DarktableRenderer) if shutil.which(engine.command)]
    print(f"{platform.machine()}, {os.cpu_count()} cores; {len(photos)} photos: {', '.join(files)}\n")
    print("| control | effect |" + "".join(f" {engine.name} |" for engine in engines))
    print("|---" * (2 + len(engines)) + "|")
    for name, recipe in recipes(options.quick).items():
        effects = [difference(photo, render_reference(photo, recipe)) for photo in photos]
        cells = [compare(engine, photos, recipe) for engine in engines]
        effect = "–" if recipe.crop else f"{np.mean(effects):.2f}"
        print(f"| {name} | {effect} | {' | '.join(cells)} |", flush=True)
    print("\n| seconds a photo | 512², alone | 512², 8 in a batch | 24 megapixels |\n|---|---|---|---|")
    for engine in engines:
        times = [seconds(engine, photos[0], size, count) for size, count in ((512, 1), (512, 8), (4899, 1))]
        print(f"| {engine.name}, {engine.workers} workers | " + " | ".join(f"{value:.2f}" for value in times) + " |")


if __name__ == "__main__":
    main()
