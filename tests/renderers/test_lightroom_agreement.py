"""The compiled renderer of the toolset lightroom agrees with its specification in plain NumPy."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

from retouch_gym.adjustments import Crop, LinearGradient, LocalAdjustment, LuminanceRange, MaskPart, RadialGradient
from retouch_gym.errors import ToolError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.lightroom.reference import render_encoded, render_reference
from retouch_gym.renderers.native import NativeRenderer
from retouch_gym.tools.lightroom_controls import CONTROLS, LOCAL
from retouch_gym.tools.toolset import get_toolset
from retouch_gym.types import Image

RENDERER = NativeRenderer()
NAMES = [control.name for control in CONTROLS]

COMPANIONS: dict[str, dict[str, float]] = {
    "sharpening_": {"sharpening_amount": 80},
    "vignette_": {"vignette_amount": -50},
    "grain_": {"grain_amount": 50},
    "bw_": {"black_and_white": 1},
    "grading_balance": {"grading_shadows_saturation": 60, "grading_shadows_hue": 200},
    "grading_blending": {"grading_shadows_saturation": 60, "grading_shadows_hue": 200},
    **{f"grading_{z}_hue": {f"grading_{z}_saturation": 50} for z in ("shadows", "midtones", "highlights", "global")},
}
"""What a control needs beside it to have an effect."""


def companions(name: str) -> dict[str, float]:
    return next((extra for prefix, extra in COMPANIONS.items() if name.startswith(prefix)), {})


def scene(height: int = 44, width: int = 61) -> Image:
    """Slopes of every hue with noise and edges, black and white included."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [128 + 140 * np.sin(x / (7 + 3 * c) + y / 11 + 2 * c) for c in range(3)]
    photo = np.stack(waves, axis=-1) + np.random.default_rng(0).normal(0, 8, (height, width, 3))
    photo[:6, :9], photo[-5:, -7:] = 0, 255
    return np.asarray(np.clip(photo, 0, 255), dtype=np.uint8)


def check(photo: Image, recipe: Recipe) -> None:
    """Rounded results differ by what rounding decides, unrounded ones by a third of a level at most."""
    exact = render_encoded(photo / 255, photo, recipe)
    assert exact.min() >= 0
    assert exact.max() <= 1
    image = RENDERER.render([photo], [recipe])[0]
    floats = RENDERER.render_float([(photo / 255).astype(np.float32)], [recipe])[0]
    assert image.shape == floats.shape == exact.shape
    assert np.abs(255 * exact - image).max() <= 0.85
    assert 255 * np.abs(exact - floats).max() <= 0.35
    assert np.abs(render_reference(photo, recipe).astype(int) - image).max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_every_control(name: str) -> None:
    control = next(control for control in CONTROLS if control.name == name)
    for value in (control.low, control.high):
        check(scene(), Recipe("lightroom", {**companions(name), name: value}, seed=3))


def drawn(seed: int) -> Recipe:
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(CONTROLS), int(rng.integers(1, 30)), replace=False)
    controls = {CONTROLS[i].name: float(rng.uniform(CONTROLS[i].low, CONTROLS[i].high)) for i in chosen}
    extra: dict[str, Any] = {}
    if seed % 3 == 0:
        extra["curves"] = {"curve": ((0, 0.05), (0.3, 0.2), (0.7, 0.85), (1, 1)), "curve_red": ((0, 0), (0.5, 0.6))}
    if seed % 4 == 0:
        extra["crop"] = Crop(left=0.1, right=0.8, bottom=0.9, angle=float(rng.uniform(-10, 10)) if seed % 8 else 0.0)
    if seed % 2 == 0:
        one = local("one", rng, RadialGradient(x=0.4, y=0.5, radius_x=0.4, radius_y=0.3))
        two = local("two", rng, LuminanceRange(low=0.3, high=0.8), LinearGradient(x0=0, y0=0, x1=1, y1=1))
        extra["locals"] = (one, two)
    return Recipe("lightroom", controls, seed, **extra)


def local(name: str, rng: np.random.Generator, *shapes: Any) -> LocalAdjustment:
    chosen = [LOCAL[i] for i in rng.choice(len(LOCAL), 4, replace=False)]
    controls = {control.name: float(rng.uniform(control.low, control.high)) for control in chosen}
    parts = tuple(MaskPart(shape=shape, op="intersect" if i else "add") for i, shape in enumerate(shapes))
    return LocalAdjustment(name=name, parts=parts, controls=controls, amount=0.8)


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_drawn_recipes(first: int) -> None:
    for seed in range(first, first + 20):
        noise = np.random.default_rng(seed).integers(0, 256, (23, 37, 3), dtype=np.uint8)
        check(scene() if seed % 3 else noise, drawn(seed))


def test_whatever_the_tools_draw() -> None:
    """Random calls of every tool, masks and crops included, on photos of odd sizes."""
    tools = get_toolset("lightroom")
    for seed in range(150):
        rng = np.random.default_rng(seed)
        recipe = Recipe("lightroom", seed=seed)
        for index in rng.integers(0, len(tools.tools), int(rng.integers(1, 14))).tolist():
            tool = tools.tools[index]
            with contextlib.suppress(ToolError):  # needs something before it
                recipe = recipe.apply([tool.parse(tool.sample(rng))], tools)
        photo = rng.integers(0, 256, (*rng.integers(1, 60, 2).tolist(), 3), dtype=np.uint8)
        image = RENDERER.render([photo], [recipe])[0]
        assert np.abs(render_reference(photo, recipe).astype(int) - image).max() <= 1, recipe.to_json()


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (2, 3), (300, 410)])
def test_sizes(shape: tuple[int, int]) -> None:
    photo = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    spatial = {"texture": 60, "clarity": -50, "dehaze": 40, "sharpening_amount": 90, "sharpening_masking": 30}
    check(photo, Recipe("lightroom", {**spatial, "noise_luminance": 40, "noise_color": 70, "vignette_amount": -60}))
    check(photo, Recipe("lightroom", {"grain_amount": 60, "grain_size": 80, "vignette_roundness": -70}, seed=-4))


def test_each_colour_passes_alike() -> None:
    """A cube of colours through what looks at one pixel, in bytes and in floats."""
    axis = np.linspace(0, 255, 16).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(64, 64, 3)
    everything = {"exposure": 0.7, "highlights": -60, "temperature": 30, "calibration_green_hue": 40, "vibrance": 50}
    bands = {"hsl_red_hue": 70, "hsl_blue_luminance": -40, "hsl_green_saturation": 60, "grading_highlights_hue": 50}
    check(np.ascontiguousarray(cube), Recipe("lightroom", {**everything, **bands, "grading_highlights_saturation": 30}))
