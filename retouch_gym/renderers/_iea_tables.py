r"""Tone curves of the 16 IEA sliders: one table of 256 output levels, shared by the three channels.

Exposure, brightness, contrast, fade, natural_contrast, highlights, shadows, whites and blacks look at one
value at a time, so together they are a function of the 8-bit input level and nothing else. With n the
value in 0..1 and v the slider, in the order of application (every result is clipped to 0..1):

| slider | default (``iea``) | published (``iea-compat``), where it differs |
|---|---|---|
| exposure | n · 2^(v/100) | |
| brightness | n + v/200 | |
| contrast | ½ + 2^(v/100) (n − ½) | factor linear from ½ to 2: 1.25 just above 0 |
| fade | s = .006 v; n + s(1 − n), then ½ + (1 − s/2)(n − ½) | truncated to 8 bits after this row |
| natural_contrast | v > 0: ½ + tanh(√v (n − ½)/2) / (2 tanh(√v/4)); v < 0: its inverse | 1/(1 + e^(−v/10 (n − .502))) |
| highlights | n + .008 v (1 − n) n | |
| shadows | n + .0075 v (1 − n²)(1 − n) | .008 v, which swaps the order of tones above v = 93 |
| whites | n · 1.8^(v/100) | n (1 + .008 v) |
| blacks | 1 − (1 − n) · 1.8^(−v/100) | n + .008 v (1 − n) |

The published editor truncates to 8 bits after each of the last five; the default keeps the fractions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retouch_gym.compiling import inline, kernel

# Places of the sliders in the vector of values: the published order, as in `retouch_gym.tools.iea.SLIDERS`.
(EXPOSURE, BRIGHTNESS, CONTRAST, NATURAL_CONTRAST, HIGHLIGHTS, SHADOWS, WHITES, BLACKS) = range(8)
FADE = 14

f32 = np.float32


@inline
def _scale(value: float, low: float, high: float) -> float:
    """Map a slider in −100..100 linearly to low..high, in the published order of operations."""
    return (value + 100.0) * (high - low) / 200.0 + low


@inline
def _to_byte(level: Any) -> int:
    """Round to float32 as the published editor stores it, clip, truncate."""
    return int(min(max(f32(level), f32(0.0)), f32(255.0)))


@inline
def _basic_compat(u: int, sliders: NDArray[np.float64], gain: Any) -> int:
    """Exposure to fade in float32, one operation at a time, as NumPy does it for the published editor."""
    x = f32(u) / f32(255.0)
    half, one = f32(0.5), f32(1.0)
    if sliders[EXPOSURE] != 0.0:
        x = x * gain
    if sliders[BRIGHTNESS] != 0.0:
        x = x + f32(_scale(sliders[BRIGHTNESS], -0.5, 0.5))
    if sliders[CONTRAST] != 0.0:
        x = half + f32(_scale(sliders[CONTRAST], 0.5, 2.0)) * (x - half)
    if sliders[FADE] != 0.0:
        # A negative fade has strength 0 and still rounds: (x − ½) + ½ is not x in float32.
        strength = max(sliders[FADE], 0.0) * 0.6 / 100.0
        x = x + f32(strength) * (one - x)
        x = half + f32(1.0 - strength * 0.5) * (x - half)
    return int(min(max(x, f32(0.0)), one) * f32(255.0))


@inline
def _curve_compat(u: int, sliders: NDArray[np.float64], gain: Any) -> int:
    """One level through the published chain, truncated to 8 bits after every curve."""
    u = _basic_compat(u, sliders, gain)
    if sliders[NATURAL_CONTRAST] != 0.0:
        factor = f32(-_scale(sliders[NATURAL_CONTRAST], -10.0, 10.0))
        power = f32(math.exp(float(factor * (f32(u) - f32(128.0)) / f32(255.0))))
        u = _to_byte(f32(255.0) / (f32(1.0) + power))
    if sliders[HIGHLIGHTS] != 0.0:
        n = u / 255.0
        u = _to_byte((n + _scale(sliders[HIGHLIGHTS], -0.8, 0.8) * (1.0 - n) * n) * 255.0)
    if sliders[SHADOWS] != 0.0:
        n = u / 255.0
        u = _to_byte((n + _scale(sliders[SHADOWS], -0.8, 0.8) * (1.0 - n * n) * (1.0 - n)) * 255.0)
    if sliders[WHITES] != 0.0:
        n = u / 255.0
        u = _to_byte((n + _scale(sliders[WHITES], -0.8, 0.8) * n) * 255.0)
    if sliders[BLACKS] != 0.0:
        n = u / 255.0
        u = _to_byte((n + _scale(sliders[BLACKS], -0.8, 0.8) * (1.0 - n)) * 255.0)
    return u


@inline
def _clip(n: float) -> float:
    return min(max(n, 0.0), 1.0)


@inline
def _s_curve(n: float, value: float) -> float:
    """Logistic curve that keeps 0, ½ and 1; a negative value is the inverse of the positive one.

    The root makes the effect linear in the slider near 0: the curve leaves the identity with F².
    """
    factor = math.sqrt(abs(value))
    end = math.tanh(factor / 4.0)
    if value > 0.0:
        return 0.5 + math.tanh(factor * (n - 0.5) / 2.0) / (2.0 * end)
    return 0.5 + 2.0 / factor * math.atanh((2.0 * n - 1.0) * end)


@inline
def _curve(n: float, sliders: NDArray[np.float64], powers: tuple[float, float, float, float]) -> float:
    """One value in 0..1 through the default chain."""
    exposure, contrast, whites, blacks = powers
    n = n * exposure + sliders[BRIGHTNESS] / 200.0
    n = 0.5 + contrast * (n - 0.5)
    strength = 0.006 * sliders[FADE]
    n = n + strength * (1.0 - n)
    n = _clip(0.5 + (1.0 - 0.5 * strength) * (n - 0.5))
    if sliders[NATURAL_CONTRAST] != 0.0:
        n = _clip(_s_curve(n, sliders[NATURAL_CONTRAST]))
    n = _clip(n + 0.008 * sliders[HIGHLIGHTS] * (1.0 - n) * n)
    n = _clip(n + 0.0075 * sliders[SHADOWS] * (1.0 - n * n) * (1.0 - n))
    return _clip(1.0 - (1.0 - _clip(n * whites)) * blacks)


@kernel
def fill_tone_table(sliders: NDArray[np.float64], compat: bool, table: NDArray[np.float32]) -> None:
    """Write the output level (0..255) of each 8-bit input level.

    Args:
        sliders: The 16 values in the published order, −100..100.
        compat: Whether to reproduce the published editor; its levels are whole numbers.
        table: float32 (256,), written.
    """
    if compat:
        gain = f32(2.0 ** _scale(sliders[EXPOSURE], -1.0, 1.0))
        for u in range(256):
            table[u] = f32(_curve_compat(u, sliders, gain))
    else:
        exposure, contrast = 2.0 ** (sliders[EXPOSURE] / 100.0), 2.0 ** (sliders[CONTRAST] / 100.0)
        whites, blacks = 1.8 ** (sliders[WHITES] / 100.0), 1.8 ** (-sliders[BLACKS] / 100.0)
        for u in range(256):
            table[u] = f32(255.0 * _curve(u / 255.0, sliders, (exposure, contrast, whites, blacks)))
