"""Procedural scenes: overlapping shapes under a light that falls off, in muted colours.

Not photographs, but like them in what global sliders act on: a spread of tones, mostly weak colours with a
few strong ones, large and small areas (a *dead leaves* image: sizes follow a power law, near things hide
far ones), soft shading and fine grain.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from retouch_gym.types import Image


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
        rng = np.random.default_rng(self.seed)
        canvas = _background(rng, self.size)
        for _ in range(int(rng.integers(25, 70))):
            _draw_leaf(rng, canvas)
        shade = cv2.resize(rng.uniform(0.8, 1.15, (3, 3)).astype(np.float32), (self.size, self.size))
        grain = rng.normal(0, rng.uniform(0.005, 0.03), (self.size, self.size, 1)).astype(np.float32)
        image = cv2.GaussianBlur(canvas * shade[..., None], (0, 0), rng.uniform(0.4, 0.9)) + grain
        return np.asarray(np.clip(image, 0, 1) * 255 + 0.5, dtype=np.uint8)


def _colour(rng: np.random.Generator) -> tuple[float, float, float]:
    """A grey of any tone, pulled towards a random hue: mostly weakly."""
    tone = float(rng.beta(1.3, 1.5))
    hue = rng.normal(0, 1, 3)
    hue -= hue.mean()
    strength = float(rng.exponential(0.09)) * (0.3 + tone)
    red, green, blue = np.clip(tone + strength * hue, 0, 1)
    return float(red), float(green), float(blue)


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """A gradient between two colours, or a sky over a ground."""
    upper, lower = np.array(_colour(rng)), np.array(_colour(rng))
    rise = np.linspace(0, 1, size)[:, None, None]
    if rng.random() < 0.4:
        rise = (rise > rng.uniform(0.3, 0.7)).astype(np.float64)
    canvas = upper * (1 - rise) + lower * rise
    return np.ascontiguousarray(np.broadcast_to(canvas, (size, size, 3)), dtype=np.float32)


def _draw_leaf(rng: np.random.Generator, canvas: np.ndarray) -> None:
    size = canvas.shape[0]
    # Radii fall off like r^-2 between 2% and 40% of the side.
    radius = size * 0.02 / (1 - rng.random() * (1 - 0.02 / 0.4))
    x, y = (int(value) for value in rng.integers(0, size, 2))
    colour = _colour(rng)
    shape = int(rng.integers(3))
    if shape == 0:
        axes = (max(1, round(radius)), max(1, round(radius * rng.uniform(0.4, 1))))
        cv2.ellipse(canvas, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
    elif shape == 1:
        reach = max(1, round(radius))
        cv2.rectangle(canvas, (x - reach, y - round(reach * rng.uniform(0.3, 1))), (x + reach, y + reach), colour, -1)
    else:
        corners = np.array([x, y]) + rng.uniform(-1.3, 1.3, (int(rng.integers(3, 6)), 2)) * radius
        cv2.fillConvexPoly(canvas, cv2.convexHull(corners.astype(np.int32)), colour)
