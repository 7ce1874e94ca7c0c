"""Tone curves: points that a smooth monotone line goes through."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from retouch_gym.errors import RecipeError

Curve: TypeAlias = tuple[tuple[float, float], ...]
"""Points (input, output), both 0..1 of the encoded range, inputs rising; two points at least."""

IDENTITY: Curve = ((0.0, 0.0), (1.0, 1.0))
"""The curve that changes nothing."""

MAX_POINTS = 16
"""Most points of a curve, as in Lightroom."""


def check_curve(points: object, name: str = "curve") -> Curve:
    """The points as a `Curve`.

    Raises:
        RecipeError: If there are not 2..16 points, one is no pair of numbers in 0..1, or inputs do not rise.
    """
    if not isinstance(points, Sequence) or isinstance(points, str) or not 2 <= len(points) <= MAX_POINTS:
        raise RecipeError(f"{name}: expected 2..{MAX_POINTS} points [input, output], got {str(points)[:80]}.")
    curve: list[tuple[float, float]] = []
    for point in points:
        if not isinstance(point, Sequence) or len(point) != 2 or not all(_is_share(value) for value in point):
            raise RecipeError(f"{name}: point {str(point)[:60]} should be [input, output], both 0..1.")
        if curve and point[0] <= curve[-1][0]:
            raise RecipeError(f"{name}: inputs should rise, but {point[0]} follows {curve[-1][0]}.")
        curve.append((float(point[0]), float(point[1])))
    return tuple(curve)


def evaluate_curve(curve: Curve, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The curve at `x`: cubic between the points without overshoot (Fritsch & Carlson 1980), flat beyond them.

    Where outputs rise from point to point the curve rises, so that no tone is turned round.

    Args:
        curve: The points.
        x: Inputs, any shape.

    Returns:
        Outputs of the same shape, 0..1.
    """
    px, py = np.array(curve, dtype=np.float64).T
    steps = np.diff(px)
    slopes = np.diff(py) / steps
    tangents = _tangents(steps, slopes)
    at = np.clip(np.asarray(x, dtype=np.float64), px[0], px[-1])
    k = np.clip(np.searchsorted(px, at, side="right") - 1, 0, len(steps) - 1)
    t = (at - px[k]) / steps[k]
    left = (1 + 2 * t) * (1 - t) ** 2 * py[k] + t * (1 - t) ** 2 * steps[k] * tangents[k]
    right = t * t * (3 - 2 * t) * py[k + 1] + t * t * (t - 1) * steps[k] * tangents[k + 1]
    return np.asarray(np.clip(left + right, 0.0, 1.0))


def _tangents(steps: NDArray[np.float64], slopes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slopes at the points: harmonic means inside, one-sided and limited at the ends."""
    tangents = np.empty(len(slopes) + 1)
    tangents[0], tangents[-1] = slopes[0], slopes[-1]
    for i in range(1, len(slopes)):
        if slopes[i - 1] * slopes[i] <= 0:
            tangents[i] = 0.0
            continue
        first, second = 2 * steps[i] + steps[i - 1], steps[i] + 2 * steps[i - 1]
        tangents[i] = (first + second) / (first / slopes[i - 1] + second / slopes[i])
    return tangents


def _is_share(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and 0 <= value <= 1
