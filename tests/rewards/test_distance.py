"""The pixel distance against its formula in float64."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from retouch_gym.errors import ImageError
from retouch_gym.rewards import pixel_distance, pixel_distances
from retouch_gym.types import Image


def by_the_formula(a: Image, b: Image) -> float:
    d = a.astype(np.float64) / 255 - b.astype(np.float64) / 255
    return float((np.abs(d).mean() + np.sqrt((d**2).mean())) / 2)


def noise(seed: int, height: int, width: int) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 31), (64, 128), (511, 513)])
def test_it_is_the_published_formula(size: tuple[int, int]) -> None:
    a, b = noise(0, *size), noise(1, *size)
    assert pixel_distance(a, b) == pytest.approx(by_the_formula(a, b), abs=1e-12)


def test_it_stays_exact_on_a_large_photo() -> None:
    white = np.full((4000, 6000, 3), 255, np.uint8)
    black = np.zeros_like(white)
    assert pixel_distance(white, black) == 1.0
    black[0, 0, 0] = 255
    n = white.size
    assert pixel_distance(white, black) == pytest.approx(((n - 1) / n + np.sqrt((n - 1) / n)) / 2, abs=1e-14)


def test_bounds_symmetry_and_views() -> None:
    a, b = noise(0, 30, 40), noise(1, 30, 40)
    assert pixel_distance(a, a) == 0.0
    assert pixel_distance(a, b) == pixel_distance(b, a)
    assert pixel_distance(a[::2, ::2], b[::2, ::2]) == pytest.approx(
        by_the_formula(a[::2, ::2], b[::2, ::2]), abs=1e-12
    )
    frozen = a.copy()
    frozen.flags.writeable = False
    assert pixel_distance(frozen, b) == pixel_distance(a, b)


def test_another_size_is_resized_to_the_first() -> None:
    a, b = noise(0, 30, 40), noise(1, 60, 50)
    resized = np.asarray(cv2.resize(b, (40, 30), interpolation=cv2.INTER_CUBIC))
    assert pixel_distance(a, b) == pytest.approx(by_the_formula(a, resized), abs=1e-12)
    flat = np.full((11, 13, 3), 77, np.uint8)
    assert pixel_distance(np.full((50, 20, 3), 77, np.uint8), flat) == 0.0


def test_a_batch_is_its_pairs_in_order() -> None:
    images, references = [noise(i, 8 + i, 9) for i in range(4)], [noise(9 + i, 8 + i, 9) for i in range(4)]
    expected = [pixel_distance(a, b) for a, b in zip(images, references, strict=True)]
    assert pixel_distances(images, references) == expected
    with pytest.raises(ValueError, match="zip"):
        pixel_distances(images, references[:3])


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), "photo"])
def test_what_is_no_photo_is_refused(bad: Image) -> None:
    with pytest.raises(ImageError, match="b is"):
        pixel_distance(np.zeros((4, 4, 3), np.uint8), bad)
