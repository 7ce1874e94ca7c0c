"""How fast recipes of the toolset ``lightroom`` are developed, beside other ways to do the same.

    OMP_NUM_THREADS=1 python benchmarks/develop.py [--size 512] [--megapixels 24] [--repeats 9]

The recipe that everybody can do: half a stop of exposure, more contrast, more saturation. Pillow, OpenCV with NumPy,
and kornia (where it is installed) do it with their own operations; RawTherapee and darktable (where they are
installed) with their own modules, start of the program included; so pixels differ, and only the work is alike. Then
the recipes of a retoucher, ours alone. Rounds are interleaved, medians reported; compare ratios within one run.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import resource
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
import PIL.Image
import PIL.ImageEnhance

from retouch_gym.errors import RetouchError
from retouch_gym.recipes import Recipe
from retouch_gym.renderers import get_renderer
from retouch_gym.renderers.engines.darktable import DarktableRenderer
from retouch_gym.renderers.engines.rawtherapee import RawTherapeeRenderer
from retouch_gym.renderers.lightroom.reference import render_reference
from retouch_gym.types import Image

COMMON = Recipe("lightroom", {"exposure": 0.5, "contrast": 20, "saturation": 25})
TYPICAL = Recipe(
    "lightroom",
    {
        "exposure": 0.4,
        "contrast": 15,
        "highlights": -40,
        "shadows": 35,
        "temperature": 8,
        "vibrance": 20,
        "clarity": 15,
        "sharpening_amount": 40,
    },
)
SIX = Recipe(
    "lightroom",
    {"exposure": 0.4, "contrast": 15, "highlights": -40, "shadows": 35, "whites": 10, "blacks": -10},
)
RECIPES: Mapping[str, Recipe] = {"common": COMMON, "six tones": SIX, "typical eight": TYPICAL}


def photo(height: int, width: int) -> Image:
    """Smooth noise, uint8 (height, width, 3)."""
    small = np.random.default_rng(0).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def with_pillow(image: Image) -> Image:
    """Brightness, contrast and colour of Pillow, on encoded values."""
    made = PIL.ImageEnhance.Brightness(PIL.Image.fromarray(image)).enhance(2**0.25)
    made = PIL.ImageEnhance.Contrast(made).enhance(1.2)
    return np.asarray(PIL.ImageEnhance.Color(made).enhance(1.25))


def with_opencv(image: Image) -> Image:
    """The same in linear light with NumPy floats and OpenCV, as one writes it first."""
    x = image.astype(np.float32) / 255
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32) * np.float32(2**0.5)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 1e-6) ** (1 / 2.4) - 0.055)
    toned = np.clip(0.5 + 1.2 * (encoded.astype(np.float32) - 0.5), 0, 1)
    grey = cv2.cvtColor(toned, cv2.COLOR_RGB2GRAY)[..., None]
    return np.asarray(np.clip(grey + 1.25 * (toned - grey), 0, 1) * 255 + 0.5, np.uint8)


def with_kornia() -> Callable[[Image], Any] | None:
    """The adjustments of kornia on a float tensor; None where it is not installed."""
    try:
        enhance, torch = importlib.import_module("kornia.enhance"), importlib.import_module("torch")
    except ImportError:
        return None
    torch.set_num_threads(1)

    def adjust(image: Image) -> Any:
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        x = enhance.adjust_saturation(enhance.adjust_contrast(enhance.adjust_brightness(x, 0.19), 1.2), 1.25)
        return (x[0].permute(1, 2, 0) * 255 + 0.5).byte().numpy()

    return adjust


def jobs(image: Image) -> dict[str, Callable[[], Any]]:
    """Everything that is timed on one photo."""
    native, tensors = get_renderer("native"), get_renderer("torch")
    room = np.empty_like(image)
    kornia = with_kornia()
    made: dict[str, Callable[[], Any]] = {"copy of the photo": lambda: np.copyto(room, image)}
    for name, recipe in RECIPES.items():
        made[f"native, {name}"] = lambda recipe=recipe: native.render([image], [recipe])
    made["torch, common"] = lambda: tensors.render([image], [COMMON])
    if image.size < 4_000_000:
        made["specification in NumPy float64, common"] = lambda: render_reference(image, COMMON)
    made["Pillow, common"] = lambda: with_pillow(image)
    made["OpenCV and NumPy, common"] = lambda: with_opencv(image)
    if kornia is not None:
        made["kornia, common"] = lambda: kornia(image)
    for renderer in (RawTherapeeRenderer(on_unsupported="warn"), DarktableRenderer(on_unsupported="warn")):
        try:
            renderer.render([image[:16, :16].copy()], [COMMON])
        except RetouchError as error:
            print(f"{renderer.name} is left out: {error}")
            continue
        made[f"{renderer.name}, common"] = lambda renderer=renderer: renderer.render([image], [COMMON])
    return made


def medians(made: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each, taking turns."""
    for job in made.values():
        job()
    found: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(repeats):
        for name, job in made.items():
            start = time.perf_counter()
            job()
            found[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in found.items()}


def memory(image: Image) -> None:
    """How much more memory a render takes, as a multiple of the photo as float32."""
    native = get_renderer("native")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    native.render([image], [TYPICAL])
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    share = (after - before) * 1024 / (4 * image.size)
    print(f"native, typical eight: the peak of memory rose by {share:.2f} × the photo as float32\n")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="side of the square photo in pixels")
    parser.add_argument("--megapixels", type=float, default=24, help="size of the large photo; 0 leaves it out")
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*cannot render.*")
    cv2.setNumThreads(1)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    side = round((given.megapixels * 1e6 / 1.5) ** 0.5)
    photos = {f"{given.size}²": photo(given.size, given.size)}
    if side:
        photos[f"{given.megapixels:g} megapixels"] = photo(side, round(side * 1.5))
    for title, image in photos.items():
        if image.size > 4_000_000:
            memory(image)
        found = medians(jobs(image), given.repeats if image.size < 4_000_000 else max(2, given.repeats // 4))
        print(f"| {title} | ms | of native, common |", "|---|---|---|", sep="\n")
        for name, seconds in found.items():
            print(f"| {name} | {seconds * 1e3:,.2f} | {seconds / found['native, common']:.1f}× |")
        print()


if __name__ == "__main__":
    main()
