"""The specification: what a recipe of the toolset ``lightroom`` does to a photo, stage by stage, in plain NumPy.

It is slow and exact (float64, no tables). Every other renderer of the toolset agrees with it within 1/255.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from retouch_gym.adjustments.curves import Curve
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.lightroom import color, detail, effects, settings, tone
from retouch_gym.renderers.lightroom.geometry import crop_and_straighten
from retouch_gym.renderers.lightroom.masks import mask_of
from retouch_gym.renderers.lightroom.settings import Settings, is_neutral, settings_of, with_defaults
from retouch_gym.types import Image

Array = NDArray[np.float64]


def render_reference(photo: Image, recipe: Recipe) -> Image:
    """Render one photo: `render_encoded`, rounded once at the end.

    Args:
        photo: uint8 (H, W, 3), sRGB.
        recipe: A recipe of the toolset ``lightroom``.

    Returns:
        A new uint8 photo, of the size that the recipe's crop leaves.

    Raises:
        RendererError: If the recipe has another toolset, an unknown control, or a value out of range.
    """
    return np.asarray(np.rint(255 * render_encoded(photo / 255, photo, recipe)), dtype=np.uint8)


def render_encoded(encoded: Array, source: Image, recipe: Recipe) -> Array:
    """Render encoded values in 0..1 (H, W, 3) to encoded values in 0..1, unrounded.

    The order: `develop` of the photo; `develop` of every local adjustment in proportion to its mask, on the result;
    crop and straighten; vignette and grain, which so fit the cropped frame.

    Args:
        encoded: The photo, sRGB-encoded, 0..1.
        source: The same in 8 bits, for masks that look at the source's colours.
        recipe: See `render_reference`.
    """
    values = settings_of(recipe)
    e = develop(np.asarray(encoded, dtype=np.float64), values, recipe.curves)
    for adjustment in recipe.locals:
        changed = develop(e, with_defaults(adjustment.controls), {})
        e = e + mask_of(adjustment, source)[..., None] * (changed - e)
    if recipe.crop:
        e = np.clip(crop_and_straighten(e.astype(np.float32), recipe.crop).astype(np.float64), 0, 1)
    if values["vignette_amount"]:
        e = effects.apply_vignette(e, values)
    if values["grain_amount"]:
        grain = effects.grain_plane(e.shape[0], e.shape[1], recipe.seed, values)
        e = np.clip(effects.apply_grain(e, color.luma(e), grain, values), 0, 1)
    return e


def develop(encoded: Array, values: Settings, curves: Mapping[str, Curve]) -> Array:
    """All controls but vignette and grain. Encoded 0..1 (H, W, 3) in and out; what is neutral is skipped.

    The order: `apply_tones`; colour noise, luma detail, clip; colour bands, vibrance and saturation, clip; grading,
    clip.
    """
    e = apply_tones(encoded, values, curves)
    if values["noise_color"]:
        e = detail.reduce_color_noise(e, values["noise_color"] / 100)
    if not is_neutral(values, settings.LUMA_DETAIL):
        e = e + detail.luma_detail(color.luma(e), values)[..., None]
    e = np.clip(e, 0, 1)
    if not is_neutral(values, settings.RECOLOR):
        e = np.clip(color.recolor(e, values), 0, 1)
    if not is_neutral(values, settings.GRADING):
        e = np.clip(e + color.grading_offsets(color.luma(e), values), 0, 1)
    return e


def apply_tones(encoded: Array, values: Settings, curves: Mapping[str, Curve]) -> Array:
    """Linear light (dehaze, calibration, white balance and exposure), encoded again, then the tone curves.

    Calibration is a matrix and may leave the range below; what is below 0 becomes 0 there. Beyond white nothing is
    lost before the curves.
    """
    linear_stages = ("dehaze", *settings.CALIBRATION)
    if is_neutral(values, (*linear_stages, *settings.TONE)) and not curves:
        return encoded
    e = encoded
    if not is_neutral(values, (*linear_stages, "exposure", *settings.WHITE_BALANCE)):
        linear = tone.decode(e)
        if values["dehaze"]:
            veil = detail.haze_veil(e) if values["dehaze"] > 0 else None
            linear = detail.dehaze(linear, veil, values["dehaze"] / 100)
        if not is_neutral(values, settings.CALIBRATION):
            linear = linear @ color.calibration_matrix(values).T
        e = tone.encode(np.maximum(linear * tone.channel_gains(values), 0))
    return np.stack([tone.tone_curve(e[..., c], values, curves, c) for c in range(3)], axis=-1)
