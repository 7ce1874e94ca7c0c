"""Fifty photo pairs: pieces of the sample photos, of odd sizes, and what ten kinds of edit make of them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

import cv2
import numpy as np
import pytest

from retouch_gym.images import load_image
from retouch_gym.types import Image

Floats = np.ndarray
Edit = Callable[[Floats, np.random.Generator], Floats]

EDITS: tuple[Edit, ...] = (
    lambda x, rng: x * rng.uniform(0.3, 2.5),
    lambda x, rng: 255 * (x / 255) ** rng.uniform(0.4, 2.5),
    lambda x, rng: 128 + rng.uniform(0.2, 3) * (x - 128),
    lambda x, rng: x.mean(axis=2, keepdims=True) + rng.uniform(0, 3) * (x - x.mean(axis=2, keepdims=True)),
    lambda x, rng: x + rng.uniform(-60, 60, 3),
    lambda x, rng: x + rng.normal(0, rng.uniform(0.5, 30), x.shape),
    lambda x, rng: cv2.GaussianBlur(x, (0, 0), rng.uniform(0.5, 3)),
    lambda x, rng: np.roll(x, 1, axis=2),
    lambda x, rng: 255 - x,
    lambda x, rng: x + rng.integers(-1, 2, x.shape),
)


@pytest.fixture(scope="session")
def photo_pairs() -> list[tuple[Image, Image]]:
    rng = np.random.default_rng(2026)
    assets = sorted(path for path in (files("retouch_gym.datasets") / "assets").iterdir() if path.name.endswith("png"))
    photos = [load_image(str(path)) for path in assets]
    pairs = []
    for index in range(50):
        photo = photos[index % len(photos)]
        height, width = (7, 7) if index == 0 else rng.integers(8, 190, 2).tolist()
        y, x = (
            int(rng.integers(0, max(end - side, 0) + 1))
            for end, side in zip(photo.shape[:2], (height, width), strict=True)
        )
        piece = photo[y : y + height, x : x + width]
        edited = EDITS[(index + index // 10) % len(EDITS)](piece.astype(np.float64), rng)
        pairs.append((piece.copy(), np.clip(np.rint(edited), 0, 255).astype(np.uint8)))
    return pairs
