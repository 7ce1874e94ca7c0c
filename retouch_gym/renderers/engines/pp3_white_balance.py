"""RawTherapee's white balance as gains of the channels, and the temperature and tint that give the same gains.

For a photo that is no raw file RawTherapee 5.9 multiplies *encoded* values. With x = 1000/kelvin the gains are, but
for a common factor, (exp(RED(x)), green, exp(BLUE(x))): cubics fitted to grey patches that the program rendered at 27
temperatures of its daylight range (4001..25000 K), within 0.0009 of the logarithm. The common factor keeps
0.299 R + 0.587 G + 0.114 B. The sliders multiply linear light; a power stands between the two, so the match is
approximate.
"""

from __future__ import annotations

import math

import numpy as np

from retouch_gym.renderers.lightroom.tone import MAGENTA, WARMTH

RED = (4.012797, -1.016172, -4.342147, 0.646828)
BLUE = (-22.312042, 15.608606, 2.822656, -0.759719)
"""Coefficients of log(red/green) and log(blue/green) at green 1, highest power of x first."""

COOLEST, WARMEST = 4001, 25000
"""Kelvin at which the cubics hold; a higher setting is a warmer photo."""

POWER = 2.2
"""Linear light is about encoded values to this power, over the tones of photographs."""

_SLIDER_RED_BLUE = 2 * WARMTH * math.log(2) / 100 / POWER
_SLIDER_GREEN = MAGENTA * math.log(2) / 100 / POWER


def to_kelvin(temperature: float, tint: float) -> tuple[int, float]:
    """The program's kelvin and green for the sliders temperature and tint."""
    wanted = temperature * _SLIDER_RED_BLUE
    low, high = COOLEST, WARMEST
    while high - low > 1:
        middle = (low + high) // 2
        if _red_blue(middle) < wanted:
            low = middle
        else:
            high = middle
    kelvin = min(low, high, key=lambda k: abs(_red_blue(k) - wanted))
    return kelvin, math.exp(_mean(kelvin) - tint * _SLIDER_GREEN)


def from_kelvin(kelvin: float, green: float) -> tuple[int, int]:
    """The sliders temperature and tint, whole, for the program's kelvin and green; they may be out of range.

    Raises:
        ValueError: If green is not above 0.
    """
    if not green > 0:
        raise ValueError(f"green {green} should be above 0")
    at = min(max(kelvin, COOLEST), WARMEST)
    return round(_red_blue(at) / _SLIDER_RED_BLUE), round((_mean(at) - math.log(green)) / _SLIDER_GREEN)


def _red_blue(kelvin: float) -> float:
    """The logarithm of red's gain over blue's."""
    x = 1000 / kelvin
    return float(np.polyval(RED, x) - np.polyval(BLUE, x))


def _mean(kelvin: float) -> float:
    """The logarithm of the mean of red's and blue's gain over green's."""
    x = 1000 / kelvin
    return float(np.polyval(RED, x) + np.polyval(BLUE, x)) / 2
