"""Procedural scenes: overlapping shapes under a light that falls off, in muted colours.

Not photographs, but like them in what global sliders act on: a spread of tones, mostly weak colours with a
few strong ones, large and small areas (a *dead leaves* image: sizes follow a power law, near things hide
far ones), soft shading and fine grain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from retouch_gym.types import Image

_SMALLEST, _LARGEST = 0.02, 0.4
"""Radii of the shapes as a share of the side; they fall off like 1/r²."""


@dataclass(frozen=True)
class Scene:
    """A procedural scene. Implements `Photo`.

    Args:
        seed: Seed of everything in it.
        size: Side in pixels.
    """

    seed: int
    size: int

    def load(self) -> Image:
        """Draw the scene."""
        return _draw(self.seed, self.size).copy()


# A task looks at its photo when it is made, and the photo and its reference are loaded soon after.
@lru_cache(maxsize=32)
def _draw(seed: int, size: int) -> Image:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(25, 70))
    colours = _colours(rng, count + 2)
    canvas = _background(rng, size, colours[0], colours[1])
    _draw_leaves(rng, canvas, colours[2:])
    shade = cv2.resize(rng.uniform(0.8, 1.15, (3, 3)).astype(np.float32), (size, size))
    grain = rng.normal(0, rng.uniform(0.005, 0.03), (size, size, 1)).astype(np.float32)
    image = cv2.GaussianBlur(canvas * shade[..., None], (0, 0), rng.uniform(0.4, 0.9)) + grain
    drawn = np.asarray(np.clip(image, 0, 1) * 255 + 0.5, dtype=np.uint8)
    drawn.flags.writeable = False
    return drawn


def _colours(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Greys of any tone, pulled towards random hues, mostly weakly: (count, 3) in 0..1."""
    tone = rng.beta(1.3, 1.5, (count, 1))
    hue = rng.normal(0, 1, (count, 3))
    hue -= hue.mean(axis=1, keepdims=True)
    strength = rng.exponential(0.09, (count, 1)) * (0.3 + tone)
    return np.clip(tone + strength * hue, 0, 1)


def _background(
    rng: np.random.Generator, size: int, upper: NDArray[np.float64], lower: NDArray[np.float64]
) -> NDArray[np.float32]:
    """A gradient between two colours, or a sky over a ground."""
    rise = np.linspace(0, 1, size)[:, None, None]
    if rng.random() < 0.4:
        rise = (rise > rng.uniform(0.3, 0.7)).astype(np.float64)
    canvas = upper * (1 - rise) + lower * rise
    return np.ascontiguousarray(np.broadcast_to(canvas, (size, size, 3)), dtype=np.float32)


def _draw_leaves(rng: np.random.Generator, canvas: NDArray[np.float32], colours: NDArray[np.float64]) -> None:
    count, size = len(colours), canvas.shape[0]
    radii = size * _SMALLEST / (1 - rng.random(count) * (1 - _SMALLEST / _LARGEST))
    places = rng.integers(0, size, (count, 2))
    flatness, angles = rng.uniform(0.35, 1, count), rng.uniform(0, 180, count)
    corners = np.rint(rng.uniform(-1.3, 1.3, (count, 5, 2)) * radii[:, None, None] + places[:, None]).astype(np.int32)
    shapes = rng.integers(3, size=count)
    across = np.maximum(np.rint(radii), 1).astype(int)
    along = np.maximum(np.rint(radii * flatness), 1).astype(int)
    for leaf, shape in enumerate(shapes.tolist()):
        (x, y), a, b = places[leaf].tolist(), int(across[leaf]), int(along[leaf])
        colour = tuple(colours[leaf].tolist())
        if shape == 0:
            cv2.ellipse(canvas, (x, y), (a, b), float(angles[leaf]), 0, 360, colour, -1)
        elif shape == 1:
            cv2.rectangle(canvas, (x - a, y - b), (x + a, y + b), colour, -1)
        else:
            cv2.fillConvexPoly(canvas, cv2.convexHull(corners[leaf]), colour)
