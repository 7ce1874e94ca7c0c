"""The default renderer, on the CPU, compiled by numba when a photo is first rendered.

The 16 IEA sliders are rendered here, the toolset ``lightroom`` in `retouch_gym.renderers.lightroom`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retouch_gym.errors import ConfigurationError, ImageError, RendererError
from retouch_gym.images import check_image
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers._iea_pixels import render_pixels
from retouch_gym.renderers._iea_sharpen import RADIUS, sharpen
from retouch_gym.renderers._iea_tables import fill_tone_table
from retouch_gym.renderers.base import Renderer
from retouch_gym.renderers.lightroom.effects import noise_key, normal_values
from retouch_gym.renderers.lightroom.engine import render_floats, render_image
from retouch_gym.renderers.lightroom.settings import TOOLSET as LIGHTROOM
from retouch_gym.renderers.lightroom.settings import settings_of
from retouch_gym.tools.base import Control
from retouch_gym.tools.iea import IEA, IEA_COMPAT, SLIDERS
from retouch_gym.types import Image

_CONTROLS: Mapping[str, Mapping[str, Control]] = {toolset.name: toolset.controls for toolset in (IEA, IEA_COMPAT)}
_INDEX = {name: index for index, name in enumerate(SLIDERS)}
_SATURATION, _VIBRANCE, _TEMPERATURE, _TINT = (_INDEX[n] for n in ("saturation", "vibrance", "temperature", "tint"))
_SHARPNESS, _VIGNETTE, _GRAIN = (_INDEX[n] for n in ("sharpness", "vignette", "grain"))

# OpenCV's 8-bit Gaussian kernels in 256ths, from the centre outwards: σ = 3, and by kernel size.
_SIGMA_3 = (34, 32, 28, 20, 14, 9, 4, 3, 1)
_BY_SIZE = {
    3: (128, 64),
    5: (96, 64, 16),
    7: (72, 56, 28, 8),
    9: (60, 51, 30, 13, 4),
    11: (52, 45, 31, 17, 7, 2),
    13: (44, 41, 30, 19, 10, 5, 1),
    15: (40, 36, 30, 20, 12, 6, 3, 1),
}


class NativeRenderer(Renderer):
    r"""Renders the toolsets ``iea``, ``iea-compat`` and ``lightroom`` on the CPU.

    ``lightroom`` is specified in `retouch_gym.renderers.lightroom.reference` and ``docs/lightroom.md``; its recipes
    can crop, and then photos come back smaller.

    ``iea-compat`` renders as the published editor does, quirks included: byte for byte, except for the
    vignette (1 level) and the noise of the grain, which is unseeded there. Nothing set still changes
    pixels in that mode, because the published editor always passes through 8-bit HSV.

    ``iea``, the default, keeps the same sliders, strengths and order and mends the quirks: an empty recipe
    gives the source back, every slider is continuous through 0, and rounding happens once, at the end.
    With v the slider, x a level in 0..255 and S the HSV saturation (0..1):

    | slider | default (``iea``) | published (``iea-compat``), where it differs |
    |---|---|---|
    | exposure … blacks, fade | see `retouch_gym.renderers._iea_tables` | |
    | saturation | S · (1 + v/100), at most 1; hue and largest channel stay | in 8-bit HSV |
    | vibrance | S (1 + v/100 (1 − S)) | v > 0 nothing; v < 0 S (1 + v/100); in 8-bit HSV |
    | temperature | R + v/2, G + .3v, B − v/2 | whole levels |
    | tint | G + .3v | whole levels |
    | grain | x + 255 · N(0, .003v), from the recipe's seed and the pixel's index alone | unseeded there |
    | vignette | v > 0: x (1 − .009v m); v < 0: x − .009v m (255 − x); m below | |
    | sharpness > 0 | x + .015v (x − blur), Gaussian blur with σ = 3 | blur in 8 bits |
    | sharpness < 0 | discrete Gaussian blur with σ = −.026v, growing from 0 | kernel sizes 3, 5, … 15 |

    m = min(r/c, 1)^γ with c = 1 − .005|v|, γ = .5 + .015|v| and r the distance to the centre (w/2, h/2) over
    its maximum. Seeds count modulo 2^64.

    The order is: tones, saturation, vibrance, temperature, tint, grain, vignette, sharpness.

    Args:
        threads: How many photos of a batch are rendered at once; the kernels let Python's lock go.

    Raises:
        ConfigurationError: If `threads` is below 1.
    """

    name = "native"
    batch_bytes = 1 << 20  # a render that is compared while it is still in the cache costs a quarter less
    toolsets = frozenset((*_CONTROLS, LIGHTROOM))

    def __init__(self, threads: int = 1) -> None:
        if threads < 1:
            raise ConfigurationError(f"threads = {threads}; expected 1 or more.")
        self.threads = threads

    def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        """Render each photo with its recipe. See `Renderer.render`.

        Many recipes of one photo (leave one out) are a batch like any other: pass the photo repeatedly.

        Raises:
            RendererError: If the lengths differ, a toolset or a control is unknown, or a value is out of range.
            ImageError: If a photo is not a uint8 (H, W, 3) array.
        """
        _check_lengths(photos, recipes)
        for recipe in recipes:
            settings_of(recipe) if recipe.toolset == LIGHTROOM else _slider_values(recipe)
        sources = [check_image(photo, f"photos[{index}]") for index, photo in enumerate(photos)]
        if self.threads == 1 or len(sources) < 2:
            return [_render(photo, recipe) for photo, recipe in zip(sources, recipes, strict=True)]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(_render, sources, recipes))

    def render_float(
        self, photos: Sequence[NDArray[Any]], recipes: Sequence[Recipe]
    ) -> list[NDArray[np.uint16] | NDArray[np.float32]]:
        """Render photos of more than 8 bits with recipes of the toolset ``lightroom``.

        Args:
            photos: uint16, or float32 in 0..1, of shape (H, W, 3), sRGB-encoded.
            recipes: As many recipes.

        Returns:
            New arrays of the photos' types; floats are in 0..1.

        Raises:
            RendererError: As `render`, or if a recipe has another toolset.
            ImageError: If a photo is no such array, or holds floats outside 0..1.
        """
        _check_lengths(photos, recipes)
        return [
            _render_deep(photo, recipe, f"photos[{index}]")
            for index, (photo, recipe) in enumerate(zip(photos, recipes, strict=True))
        ]


def _check_lengths(photos: Sequence[object], recipes: Sequence[Recipe]) -> None:
    if len(photos) != len(recipes):
        raise RendererError(f"Got {len(photos)} photos and {len(recipes)} recipes; pass one recipe per photo.")


def _render_deep(photo: NDArray[Any], recipe: Recipe, name: str) -> NDArray[np.uint16] | NDArray[np.float32]:
    is_photo = isinstance(photo, np.ndarray) and photo.ndim == 3 and photo.shape[2] == 3 and photo.size > 0
    if not is_photo or photo.dtype not in (np.uint16, np.float32):
        got = f"{photo.dtype} {photo.shape}" if isinstance(photo, np.ndarray) else type(photo).__name__
        raise ImageError(f"{name} is {got}; expected uint16 or float32 of shape (height, width, 3); see render().")
    if photo.dtype == np.uint16:
        floats = render_floats(np.multiply(photo, 1 / 65535, dtype=np.float32), recipe)
        return np.asarray(np.rint(floats * np.float32(65535)), dtype=np.uint16)
    if not (photo.min() >= 0 and photo.max() <= 1):
        raise ImageError(f"{name} holds {photo.min():g}..{photo.max():g}; expected encoded values in 0..1. Clip them.")
    return render_floats(np.ascontiguousarray(photo), recipe)


def _slider_values(recipe: Recipe) -> NDArray[np.float64]:
    """The 16 values in the published order.

    Raises:
        RendererError: See `NativeRenderer.render`.
    """
    controls = _CONTROLS.get(recipe.toolset)
    if controls is None:
        raise RendererError(
            f"The native renderer cannot render toolset {recipe.toolset!r}; "
            f"it renders {', '.join((*_CONTROLS, LIGHTROOM))}."
        )
    values = np.zeros(len(SLIDERS))
    for name, value in recipe.controls.items():
        control = controls.get(name)
        if control is None:
            raise RendererError(f"Unknown control {name!r}; toolset {recipe.toolset!r} has {', '.join(controls)}.")
        if not control.low <= value <= control.high:
            raise RendererError(f"{name} = {value} is outside {control.low:g}..{control.high:g}; check the recipe.")
        values[_INDEX[name]] = value
    return values


def _render(photo: Image, recipe: Recipe) -> Image:
    if recipe.toolset == LIGHTROOM:
        return render_image(photo, recipe)
    sliders = _slider_values(recipe)
    compat = recipe.toolset == IEA_COMPAT.name
    if not compat and not sliders.any():
        return photo.copy()
    width = photo.shape[1]
    # Read-only whatever it was: one type to compile for, and no way to write into the input.
    flat = photo.reshape(-1).view()
    flat.flags.writeable = False
    sharpness = float(sliders[_SHARPNESS])
    if sharpness == 0:
        return _render_pixels(flat, width, recipe, sliders, compat).reshape(photo.shape)
    if compat or np.count_nonzero(sliders) > 1:
        flat = _render_pixels(flat, width, recipe, sliders, compat)
        flat.flags.writeable = False
    out = np.empty(photo.size, np.uint8)
    weights, strength = _blur_compat(sharpness) if compat else _blur(sharpness)
    sharpen(flat, out, width, weights, strength, compat)
    return out.reshape(photo.shape)


def _render_pixels(
    flat: NDArray[np.uint8], width: int, recipe: Recipe, sliders: NDArray[np.float64], compat: bool
) -> NDArray[np.uint8]:
    table = np.empty(256, np.float32)
    fill_tone_table(sliders, compat, table)
    saturation, vibrance, temperature, tint = (float(sliders[i]) for i in (_SATURATION, _VIBRANCE, _TEMPERATURE, _TINT))
    warmth, green = 0.5 * temperature, 0.3 * tint
    shift = (warmth, 0.6 * warmth, -warmth, green)
    if compat:
        # Truncating a whole level plus an offset adds the offset's floor; tint is rounded by OpenCV.
        red, warm_green, blue = (float(math.floor(offset)) for offset in shift[:3])
        shift = (red, warm_green, blue, float(round(green)))
        vibrance = min(vibrance, 0.0)
    vignette = float(sliders[_VIGNETTE])
    amount = abs(vignette)
    out = np.empty(flat.size, np.uint8)
    render_pixels(
        flat,
        out,
        width,
        table,
        compat,
        (1.0 + saturation / 100.0, vibrance / 100.0),
        shift,
        (0.003 * 255.0 * max(float(sliders[_GRAIN]), 0.0), noise_key(recipe.seed)),
        normal_values(),
        (0.009 * vignette, 1.0 - 0.005 * amount, 0.5 + 0.015 * amount),
    )
    return out


@functools.lru_cache(maxsize=256)
def _blur_compat(sharpness: float) -> tuple[NDArray[np.uint16], float]:
    """Weights of the published blur, and how far to step away from it."""
    if sharpness > 0:
        return _weights(_SIGMA_3), 0.015 * sharpness
    size = int(3 + 0.12 * -sharpness)
    return _weights(_BY_SIZE[size | 1]), -1.0


@functools.lru_cache(maxsize=256)
def _blur(sharpness: float) -> tuple[NDArray[np.uint16], float]:
    """Weights of the default blur, and how far to step away from it.

    The discrete Gaussian of variance t has the weights e^(−t) Iₙ(t) (Lindeberg, "Scale-space for discrete
    signals", 1990), the inverse Fourier transform of exp(t (cos θ − 1)).
    """
    if sharpness > 0:
        return _weights(_SIGMA_3), 0.015 * sharpness
    variance = (0.026 * sharpness) ** 2
    angles = 2 * math.pi * np.arange(64) / 64
    response = np.exp(variance * (np.cos(angles) - 1))
    side = np.rint(256 * np.fft.ifft(response).real[1 : RADIUS + 1])
    return _weights((256 - 2 * int(side.sum()), *(int(w) for w in side))), -1.0


def _weights(values: Sequence[int]) -> NDArray[np.uint16]:
    weights = np.zeros(RADIUS + 1, np.uint16)
    weights[: len(values)] = values
    return weights
