"""Renders recipes of the toolset ``lightroom`` with the compiled kernels: the order is that of `reference`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from retouch_gym.adjustments.curves import Curve
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.lightroom import filters, settings, tables
from retouch_gym.renderers.lightroom._pixels import TO_BYTES, TO_DARK, TO_FLOATS, TO_LUMA, TO_TONES, render_pixels
from retouch_gym.renderers.lightroom.color import VIBRANCE
from retouch_gym.renderers.lightroom.effects import GRAIN_STRENGTH
from retouch_gym.renderers.lightroom.geometry import crop_and_straighten
from retouch_gym.renderers.lightroom.masks import mask_of
from retouch_gym.renderers.lightroom.settings import DEFAULTS, Settings, is_neutral, settings_of, with_defaults
from retouch_gym.types import Image

Floats: TypeAlias = NDArray[np.float32]
"""float32 (H, W, 3), encoded, 0..1."""

_NO_BYTES = np.empty(0, np.uint8)
_NO_SOURCE = np.empty(0, np.uint8)
_NO_SOURCE.flags.writeable = False
_NOTHING = filters.NOTHING.reshape(-1)
_LINEAR = ("dehaze", *settings.CALIBRATION)
_DEVELOP = (*_LINEAR, *settings.TONE, *settings.LUMA_DETAIL, "noise_color", *settings.RECOLOR, *settings.GRADING)


def render_image(photo: Image, recipe: Recipe) -> Image:
    """Render a photo of 8 bits. See `NativeRenderer.render`."""
    values = settings_of(recipe)
    if recipe.locals or recipe.crop:
        buffer = _before_effects(photo, values, recipe)
        return _develop(buffer, DEFAULTS, {}, _Effects(values, recipe.seed), to_bytes=True)
    if _is_identity(values, recipe.curves) and is_neutral(values, ("vignette_amount", "grain_amount")):
        return photo.copy()
    return _develop(photo, values, recipe.curves, _Effects(values, recipe.seed), to_bytes=True)


def render_floats(photo: Floats, recipe: Recipe) -> Floats:
    """Render encoded floats in 0..1. See `NativeRenderer.render_float`."""
    values = settings_of(recipe)
    buffer = _before_effects(photo, values, recipe)
    if is_neutral(values, ("vignette_amount", "grain_amount")):
        return buffer
    return _develop(buffer, DEFAULTS, {}, _Effects(values, recipe.seed), out=buffer)


def _before_effects(photo: NDArray[Any], values: Settings, recipe: Recipe) -> Floats:
    """The photo developed, its local adjustments made, and cropped: a new array."""
    buffer: Floats = _develop(photo, values, recipe.curves)
    for adjustment in recipe.locals:
        changes = with_defaults(adjustment.controls)
        mask = mask_of(adjustment, photo)
        if changes["noise_color"]:
            changed = _develop(buffer, changes, {})
            changed -= buffer
            changed *= mask[..., None]
            buffer += changed
        elif not _is_identity(changes, {}):
            _develop(buffer, changes, {}, mask=mask, out=buffer)
    return crop_and_straighten(buffer, recipe.crop) if recipe.crop else buffer


def _is_identity(values: Settings, curves: Mapping[str, Curve]) -> bool:
    return not curves and is_neutral(values, _DEVELOP)


@dataclass(frozen=True)
class _Effects:
    """Vignette and grain of a recipe."""

    values: Settings
    seed: int


_NO_EFFECTS = _Effects(DEFAULTS, 0)


def _develop(
    photo: NDArray[Any],
    values: Settings,
    curves: Mapping[str, Curve],
    effects: _Effects = _NO_EFFECTS,
    *,
    mask: filters.Plane = _NOTHING,
    out: Floats | None = None,
    to_bytes: bool = False,
) -> NDArray[Any]:
    """`reference.develop`, then a mask between its source and its result, then vignette and grain.

    Args:
        photo: uint8, or float32 encoded 0..1; (H, W, 3), C-contiguous.
        values: All controls.
        curves: Point curves.
        effects: Vignette and grain.
        mask: float32 (H, W); only where floats are written over themselves, and without colour noise.
        out: Where floats go, may be the photo; by default a new array.
        to_bytes: Whether to return uint8 instead.
    """
    height, width = photo.shape[:2]
    tones = _Tones(photo, values, curves)
    if values["noise_color"]:
        smooth = filters.scratch("tones", photo.shape) if to_bytes else np.empty(photo.shape, np.float32)
        tones.run(TO_TONES, smooth)
        filters.reduce_color_noise(smooth, values["noise_color"] / 100)
        photo, tones = smooth, _Tones(smooth, DEFAULTS, {})
        out = smooth if out is None else out
        if is_neutral(values, settings.LUMA_DETAIL):
            np.clip(smooth, 0, 1, out=smooth)  # the kernel clips where luma detail is added
    delta = _NOTHING
    if not is_neutral(values, settings.LUMA_DETAIL):
        delta = filters.luma_detail(tones.run(TO_LUMA, filters.scratch("luma", (height, width))), values)
    grain = _NOTHING
    if effects.values["grain_amount"]:
        grain = filters.grain(height, width, effects.seed, effects.values)
    if to_bytes:
        result: NDArray[Any] = np.empty(photo.shape, np.uint8)
    else:
        result = np.empty(photo.shape, np.float32) if out is None else out
    render_pixels(
        tones.source,
        (result.reshape(-1), _NOTHING) if to_bytes else (_NO_BYTES, result.reshape(-1)),
        TO_BYTES if to_bytes else TO_FLOATS,
        width,
        tones.tables,
        (tones.veil, delta.reshape(-1), mask.reshape(-1), grain.reshape(-1)),
        (tables.bands(values), tables.grades(values)),
        tables.vignette(height, width, effects.values),
        (
            VIBRANCE * values["vibrance"] / 100,
            effects.values["vignette_amount"] / 100,
            GRAIN_STRENGTH * effects.values["grain_amount"] / 100,
        ),
    )
    return result


class _Tones:
    """The stages up to the tone curves of one photo, to be run as often as needed rather than kept."""

    def __init__(self, photo: NDArray[Any], values: Settings, curves: Mapping[str, Curve]) -> None:
        flat = photo.reshape(-1).view()
        # Read-only whatever it was: one type to compile for.
        flat.flags.writeable = False
        from_bytes = photo.dtype == np.uint8
        self.source = (flat, tables.EMPTY) if from_bytes else (_NO_SOURCE, flat)
        self.width = photo.shape[1]
        self.veil = _NOTHING
        if values["dehaze"] > 0:
            self.tables = (tables.decoding(from_bytes), tables.EMPTY, tables.EMPTY)
            dark = self.run(TO_DARK, filters.scratch("veil", photo.shape[:2]))
            self.veil = filters.veil(dark, values["dehaze"] / 100).reshape(-1)
        self.tables = tables.tones(values, curves, from_bytes)

    def run(self, output: int, out: Floats) -> Floats:
        """Fill `out` with what `output` says, and return it."""
        nothing = (self.veil, _NOTHING, _NOTHING, _NOTHING)
        none = tables.EMPTY
        target = (_NO_BYTES, out.reshape(-1))
        shape = (none, none, none)
        render_pixels(
            self.source, target, output, self.width, self.tables, nothing, (none, none), shape, (0.0, 0.0, 0.0)
        )
        return out
