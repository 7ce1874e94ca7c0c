"""Everything that looks at one channel of one pixel: decoding, white balance, exposure, tones and curves.

Plain NumPy, any shape, float64. Photos have the primaries and white of sRGB (Rec. 709, D65). "Linear" is linear
light, 1 is the source's white; "encoded" is what sRGB's transfer curve makes of it, without an upper limit:
what exposure pushes beyond white comes back with negative highlights or whites. Values v of sliders are v/100.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from retouch_gym.adjustments.curves import Curve, evaluate_curve
from retouch_gym.renderers.lightroom.settings import Settings

Array = NDArray[np.float64]

LUMA = (0.2126, 0.7152, 0.0722)
"""Weights of R, G and B in luminance, Rec. 709."""

WARMTH = 0.6
"""Octaves that temperature 100 adds to red and takes from blue."""
MAGENTA = 0.4
"""Octaves that tint 100 takes from green."""

SHOULDER = 0.5
"""Encoded value above which highlights act."""
TOE = 0.6
"""Encoded value below which shadows act."""

ZONES = {
    "curve_highlights": (0.5, 1.0, 0.10),
    "curve_lights": (0.25, 1.0, 0.15),
    "curve_darks": (0.0, 0.75, 0.15),
    "curve_shadows": (0.0, 0.5, 0.10),
}
"""From, to and height of the four bumps of the parametric curve, in the order of application."""


def decode(encoded: Array) -> Array:
    """Encoded to linear (IEC 61966-2-1): x/12.92 up to 0.04045, then ((x + 0.055)/1.055)^2.4."""
    curved = ((np.maximum(encoded, 0.04045) + 0.055) / 1.055) ** 2.4
    return np.asarray(np.where(encoded <= 0.04045, encoded / 12.92, curved))


def encode(linear: Array) -> Array:
    """Inverse of `decode`: 12.92 x up to 0.0031308, then 1.055 x^(1/2.4) − 0.055; no upper limit."""
    curved = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, curved))


def channel_gains(settings: Settings) -> Array:
    """Factors of linear R, G and B: white balance times exposure.

    With t temperature and m tint: (2^(0.6 t), 2^(−0.4 m), 2^(−0.6 t)), divided by the luminance of these three, so
    that white keeps its luminance; times 2^EV.
    """
    warmth, magenta = WARMTH * settings["temperature"] / 100, MAGENTA * settings["tint"] / 100
    balance = np.exp2(np.array([warmth, -magenta, -warmth]))
    return np.asarray(balance / (balance @ np.array(LUMA)) * 2.0 ** settings["exposure"])


def highlights(e: Array, v: float) -> Array:
    """With u = max(e − 0.5, 0): e + v u²/(1 − v u) below 0, e + 0.9 v u² max(1 − e, 0)/0.25 above."""
    u = np.maximum(e - SHOULDER, 0)
    if v < 0:
        return np.asarray(e + v * u * u / (1 - v * u))
    return np.asarray(e + 0.9 * v * u * u * np.maximum(1 - e, 0) / (1 - SHOULDER) ** 2)


def shadows(e: Array, v: float) -> Array:
    """The value e + (2^(1.5 v) − 1) e max(1 − e/0.6, 0)²."""
    return np.asarray(e + (2 ** (1.5 * v) - 1) * e * np.maximum(1 - e / TOE, 0) ** 2)


def whites(e: Array, v: float) -> Array:
    """The value e (1 + 0.6 v e²/(1 + e²)): white itself becomes 1 + 0.3 v."""
    return np.asarray(e * (1 + 0.6 * v * e * e / (1 + e * e)))


def blacks(e: Array, v: float) -> Array:
    """The value e + 0.12 v max(1 − e, 0)³."""
    return np.asarray(e + 0.12 * v * np.maximum(1 - e, 0) ** 3)


def contrast(e: Array, v: float) -> Array:
    """The value e + 0.9 v e (1 − e)(2 e − 1), for e in 0..1: away from ½ or towards it."""
    return np.asarray(e + 0.9 * v * e * (1 - e) * (2 * e - 1))


def zone(e: Array, v: float, low: float, high: float, height: float) -> Array:
    """The value e + v · height · 16 t²(1 − t)², t = (e − low)/(high − low) clipped to 0..1: a smooth bump."""
    t = np.clip((e - low) / (high - low), 0, 1)
    return np.asarray(e + v * height * 16 * (t * (1 - t)) ** 2)


def tone_curve(encoded: Array, settings: Settings, curves: Mapping[str, Curve], channel: int) -> Array:
    """Encoded values after exposure to encoded values in 0..1.

    Highlights, shadows, whites, blacks, clip to 0..1, contrast, the parametric curve (highlights, lights, darks,
    shadows), the point curve of all channels, then that of the channel. Each rises wherever its input does
    (point curves: where their points rise).

    Args:
        encoded: Encoded values, 0 or more, any shape.
        settings: All controls.
        curves: Point curves by name.
        channel: 0, 1 or 2 for R, G, B.
    """
    e = encoded
    for name, function in (("highlights", highlights), ("shadows", shadows), ("whites", whites), ("blacks", blacks)):
        if settings[name]:
            e = function(e, settings[name] / 100)
    e = np.clip(e, 0, 1)
    if settings["contrast"]:
        e = contrast(e, settings["contrast"] / 100)
    for name, (low, high, height) in ZONES.items():
        if settings[name]:
            e = zone(e, settings[name] / 100, low, high, height)
    for name in ("curve", ("curve_red", "curve_green", "curve_blue")[channel]):
        if name in curves:
            e = evaluate_curve(curves[name], e)
    return np.asarray(np.clip(e, 0, 1))
