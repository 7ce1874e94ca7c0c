"""Everything that looks at the three channels of one pixel: calibration, colour bands, saturation, grading.

Plain NumPy, float64, colours in the last axis. All but calibration acts on encoded values in 0..1, where equal
steps look about equally large. Luma is the Rec. 709 sum of encoded values, chroma the largest minus the smallest
channel, and hue that of HSV.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retouch_gym.renderers.lightroom.settings import Settings
from retouch_gym.renderers.lightroom.tone import LUMA
from retouch_gym.tools.lightroom_controls import COLORS, ZONES

Array = NDArray[np.float64]

BAND_CENTERS = (0.0, 30.0, 60.0, 120.0, 180.0, 240.0, 280.0, 320.0)
"""Hues of the eight colour bands, degrees, in the order of `COLORS`."""

HUE_RANGE = 30.0
"""Degrees that a hue slider at 100 turns its band."""

VIBRANCE = 0.8
SKIN = 27.0
"""Middle and half width of the hues of skin, degrees."""
PRIMARY_MIX, PRIMARY_SATURATION = 0.25, 0.4
GRADING_STRENGTH, GRADING_LUMINANCE, SHADOW_TINT = 0.4, 0.25, 0.12


def luma(rgb: Array) -> Array:
    """0.2126 R + 0.7152 G + 0.0722 B."""
    return np.asarray(rgb @ np.array(LUMA))


def calibration_matrix(settings: Settings) -> Array:
    """The 3 × 3 matrix of linear light that moves the primaries and keeps white.

    Column p is the colour that primary p becomes: the primary plus 0.25 |h| of its neighbour in the sense of the
    hue slider h (red: yellow above 0 and magenta below, green: aqua and yellow, blue: magenta and aqua), then its
    distance from the grey of equal luminance times 1 + 0.4 s. Every row is divided by its sum.
    """
    columns = np.eye(3)
    for p, name in enumerate(("red", "green", "blue")):
        hue, saturation = (settings[f"calibration_{name}_{what}"] / 100 for what in ("hue", "saturation"))
        columns[(p + 1) % 3, p] += PRIMARY_MIX * max(hue, 0)
        columns[(p + 2) % 3, p] += PRIMARY_MIX * max(-hue, 0)
        grey = np.array(LUMA) @ columns[:, p]
        columns[:, p] = grey + (1 + PRIMARY_SATURATION * saturation) * (columns[:, p] - grey)
    return np.asarray(columns / columns.sum(axis=1, keepdims=True))


def hue_of(rgb: Array) -> Array:
    """HSV hue in degrees, 0..360; 0 for greys."""
    r, g, b = np.moveaxis(rgb, -1, 0)
    top, chroma = rgb.max(axis=-1), np.ptp(rgb, axis=-1)
    d = np.where(chroma > 0, chroma, 1)
    sextant = np.where(top == r, (g - b) / d, np.where(top == g, 2 + (b - r) / d, 4 + (r - g) / d))
    return np.asarray(np.where(chroma > 0, 60 * sextant % 360, 0))


def band_weights(hue: Array) -> Array:
    """How much each colour band has of a hue: shape (..., 8), 0..1, sum 1.

    Between two neighbouring centres, with t the way from the first to the second, 1 − t²(3 − 2t) and t²(3 − 2t).
    """
    centers = np.array((*BAND_CENTERS, 360.0))
    k = np.clip(np.searchsorted(centers, hue, side="right") - 1, 0, len(COLORS) - 1)
    t = (hue - centers[k]) / (centers[k + 1] - centers[k])
    share = (t * t * (3 - 2 * t))[..., None]
    bands = np.arange(len(COLORS))
    first, second = k[..., None] == bands, ((k + 1) % len(COLORS))[..., None] == bands
    return np.asarray(first * (1 - share) + second * share)


def band_effects(hue: Array, settings: Settings) -> tuple[Array, Array, Array]:
    """Of each hue: the angle to turn in radians, the factor of chroma, the luma to add per chroma.

    With the band's sliders weighted by `band_weights`: angle 30° h, factor 1 + s, luma 0.5 l. Black and white B
    (0 or 1) replaces the factor by 0 and the luma by that of its own mix: both are blended in proportion to B.
    """
    weights = band_weights(hue)

    def mixed(pattern: str) -> Array:
        return np.asarray(weights @ np.array([settings[pattern.format(color)] / 100 for color in COLORS]))

    grey = settings["black_and_white"]
    angle = np.deg2rad(HUE_RANGE) * mixed("hsl_{}_hue")
    factor = (1 - grey) * (1 + mixed("hsl_{}_saturation"))
    lift = 0.5 * ((1 - grey) * mixed("hsl_{}_luminance") + grey * mixed("bw_{}"))
    return angle, factor, lift


def skin_share(hue: Array) -> Array:
    """How much a hue is one of skin: t²(3 − 2t) of t = max(1 − |hue − 27°|/27°, 0)."""
    t = np.maximum(1 - np.abs(hue - SKIN) / SKIN, 0)
    return np.asarray(t * t * (3 - 2 * t))


def recolor(rgb: Array, settings: Settings) -> Array:
    """Colour bands, vibrance, saturation, black and white.

    With Y the luma, C the chroma, (angle, factor, lift) of the pixel's hue, and f = factor · (1 + S) ·
    (1 + 0.8 V (1 − C)² (1 − skin/2)) of saturation S and vibrance V: the colour's distance from its mean, turned
    about the grey axis by the angle and times f, is added to a grey such that the luma becomes Y + lift · C. Not
    clipped.
    """
    chroma, hue = np.ptp(rgb, axis=-1), hue_of(rgb)
    angle, factor, lift = band_effects(hue, settings)
    muted = (1 - chroma) ** 2 * (1 - skin_share(hue) / 2)
    factor = factor * (1 + settings["saturation"] / 100) * (1 + VIBRANCE * settings["vibrance"] / 100 * muted)
    r, g, b = np.moveaxis(rgb, -1, 0)
    d = rgb - rgb.mean(axis=-1, keepdims=True)
    turned = np.stack([b - g, r - b, g - r], axis=-1) / np.sqrt(3)
    d = factor[..., None] * (np.cos(angle)[..., None] * d + np.sin(angle)[..., None] * turned)
    return np.asarray(d + (luma(rgb) + lift * chroma - luma(d))[..., None])


def pure_tint(hue: float) -> Array:
    """The colour of a hue (degrees) with full saturation, less its luma: shape (3,), luma 0."""
    sextants = (hue / 60 + np.array([0.0, 4.0, 2.0])) % 6
    pure = np.clip(np.abs(sextants - 3) - 1, 0, 1)
    return np.asarray(pure - luma(pure))


def zone_weights(y: Array, settings: Settings) -> Array:
    """How much of shadows, midtones, highlights and all has a luma in 0..1: shape (..., 4).

    With balance β and blending γ: x = y + 0.8 β y (1 − y) and k = 1 + 2^(2 − 2γ); then (1 − x)^k, the rest, x^k, 1.
    """
    balance, blending = settings["grading_balance"] / 100, settings["grading_blending"] / 100
    x = y + 0.8 * balance * y * (1 - y)
    k = 1 + 2 ** (2 - 2 * blending)
    low, high = (1 - x) ** k, x**k
    return np.stack([low, 1 - low - high, high, np.ones_like(x)], axis=-1)


def grading_offsets(y: Array, settings: Settings) -> Array:
    """What colour grading and the shadow tint add to R, G and B of a luma in 0..1: shape (..., 3).

    (1 − (2y − 1)⁴) Σ over the zones of weight · (0.4 s · tint of the hue + 0.25 l), so that black and white stay;
    the shadow tint t adds 0.12 t · tint of 300° (magenta) to the shadows.
    """
    zones = np.array(
        [
            GRADING_STRENGTH * settings[f"grading_{zone}_saturation"] / 100 * pure_tint(settings[f"grading_{zone}_hue"])
            + GRADING_LUMINANCE * settings[f"grading_{zone}_luminance"] / 100
            for zone in ZONES
        ]
    )
    zones[0] += SHADOW_TINT * settings["calibration_shadow_tint"] / 100 * pure_tint(300.0)
    ends = 1 - (2 * y - 1) ** 4
    return np.asarray(ends[..., None] * (zone_weights(y, settings) @ zones))
