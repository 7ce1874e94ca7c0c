"""What every metric keeps: ends of its scale, symmetry, sizes, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from retouch_gym.errors import ImageError
from retouch_gym.metrics import delta_e, histogram_distance, l1, photo_statistics, psnr, rmse, ssim
from retouch_gym.types import Image

Metric = Callable[[Image, Image], float]

BLACK, WHITE = np.zeros((9, 11, 3), np.uint8), np.full((9, 11, 3), 255, np.uint8)


def noise(seed: int, height: int = 30, width: int = 41) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("metric", "same", "opposite"),
    [
        (l1, 0.0, 1.0),
        (rmse, 0.0, 1.0),
        (psnr, math.inf, 0.0),
        (ssim, 1.0, 0.01**2 / (1 + 0.01**2)),
        (delta_e, 0.0, 100.0),
        (histogram_distance, 0.0, 1.0),
    ],
)
def test_ends_of_the_scales(metric: Metric, same: float, opposite: float) -> None:
    assert metric(noise(1), noise(1)) == pytest.approx(same, abs=1e-7)
    assert metric(BLACK, WHITE) == pytest.approx(opposite, rel=1e-6, abs=1e-9)


def test_scales_are_of_levels_over_255() -> None:
    a = np.full((8, 8, 3), 100, np.uint8)
    b = a.copy()
    b[:4] += 10
    assert 255 * l1(a, b) == pytest.approx(5.0)
    assert 255 * rmse(a, b) == pytest.approx(math.sqrt(50))
    assert histogram_distance(a, b) == pytest.approx(5 / 255)


@pytest.mark.parametrize("metric", [l1, rmse, psnr, ssim, delta_e, histogram_distance])
class TestEveryComparison:
    def test_is_symmetric_and_takes_views(self, metric: Metric) -> None:
        a, b = noise(1), noise(2)
        assert metric(a, b) == pytest.approx(metric(b, a), rel=1e-6)
        assert metric(a[::2, ::2], b[::2, ::2]) == metric(a[::2, ::2].copy(), b[::2, ::2].copy())
        frozen = a.copy()
        frozen.flags.writeable = False
        assert metric(frozen, b) == metric(a, b)

    def test_does_not_change_what_it_is_given(self, metric: Metric) -> None:
        a, b = noise(1), noise(2)
        metric(a, b)
        assert (a == noise(1)).all()
        assert (b == noise(2)).all()

    @pytest.mark.parametrize("bad", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32), None])
    def test_what_is_no_photo_is_refused(self, metric: Metric, bad: Image) -> None:
        with pytest.raises(ImageError, match="expected a uint8 array"):
            metric(noise(1), bad)
        with pytest.raises(ImageError, match="expected a uint8 array"):
            metric(bad, noise(1))


@pytest.mark.parametrize("metric", [l1, rmse, psnr, ssim, delta_e])
def test_another_size_is_resized_to_the_first(metric: Metric) -> None:
    a, b = noise(1), noise(2, 60, 50)
    resized = np.asarray(cv2.resize(b, (41, 30), interpolation=cv2.INTER_CUBIC))
    assert metric(a, b) == metric(a, resized)


@pytest.mark.parametrize("size", [(6, 50), (50, 6), (1, 1)])
def test_ssim_of_less_than_a_window_is_refused(size: tuple[int, int]) -> None:
    photo = noise(1, *size)
    with pytest.raises(ImageError, match="at least 7 × 7"):
        ssim(photo, photo)


@pytest.mark.parametrize("pixels", [1, 511, 512, 513, 1025])
def test_sizes_around_the_chunk(pixels: int) -> None:
    """A mean over pixels is the mean of the pixels, wherever the kernel cuts."""
    a, b = noise(1, 1, pixels), noise(2, 1, pixels)
    alone = np.mean([delta_e(a[:, i : i + 1], b[:, i : i + 1]) for i in range(pixels)])
    assert delta_e(a, b) == pytest.approx(alone, rel=1e-9)


def test_statistics_by_hand() -> None:
    half = np.concatenate([BLACK, WHITE])
    found = photo_statistics(half)
    assert (found.clipped_low, found.clipped_high) == (0.5, 0.5)
    assert found.lightness == pytest.approx(50, abs=1e-6)
    assert found.contrast == pytest.approx(50, abs=1e-6)
    assert found.cast < 0.01
    assert photo_statistics(np.full((5, 5, 3), 119, np.uint8)).contrast == pytest.approx(0, abs=1e-5)
    red = np.full((5, 5, 3), (255, 0, 0), np.uint8)
    assert photo_statistics(red).cast == pytest.approx(104.55, abs=0.01)
    assert photo_statistics(red).clipped_high == pytest.approx(1 / 3)
