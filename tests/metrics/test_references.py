"""Every metric against the library that defines it, on fifty photo pairs, within 1e-6 relative."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from retouch_gym.metrics import (
    delta_e,
    histogram_distance,
    l1,
    lab_moments,
    photo_statistics,
    psnr,
    rmse,
    ssim,
)
from retouch_gym.types import Image

Pairs = list[tuple[Image, Image]]

color = pytest.importorskip("skimage.color", reason="pip install scikit-image")
measure = pytest.importorskip("skimage.metrics", reason="pip install scikit-image")
stats = pytest.importorskip("scipy.stats", reason="pip install scipy")

CLOSE: dict[str, Any] = {"rel": 1e-6, "abs": 1e-12}


def test_the_pairs_are_fifty_and_differ(photo_pairs: Pairs) -> None:
    assert len(photo_pairs) == 50
    assert all(a.shape == b.shape and min(a.shape[:2]) >= 7 for a, b in photo_pairs)
    assert sum(bool((a != b).any()) for a, b in photo_pairs) == 50
    assert len({a.shape for a, _ in photo_pairs}) > 40


def test_l1_and_rmse(photo_pairs: Pairs) -> None:
    for a, b in photo_pairs:
        assert rmse(a, b) == pytest.approx(np.sqrt(measure.mean_squared_error(a, b)) / 255, **CLOSE)
        assert l1(a, b) == pytest.approx(np.abs(a.astype(float) - b).mean() / 255, **CLOSE)


def test_psnr(photo_pairs: Pairs) -> None:
    for a, b in photo_pairs:
        assert psnr(a, b) == pytest.approx(measure.peak_signal_noise_ratio(a, b), **CLOSE)


def test_ssim(photo_pairs: Pairs) -> None:
    for a, b in photo_pairs:
        assert ssim(a, b) == pytest.approx(measure.structural_similarity(a, b, channel_axis=2), **CLOSE)


def test_ssim_of_another_definition_is_another_number(photo_pairs: Pairs) -> None:
    """As the docstring says: a Gaussian window gives values that must not be compared with these."""
    a, b = max(photo_pairs, key=lambda pair: min(pair[0].shape[:2]))
    published = measure.structural_similarity(
        a, b, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert abs(ssim(a, b) - published) > 1e-4


def test_delta_e(photo_pairs: Pairs) -> None:
    for a, b in photo_pairs:
        expected = color.deltaE_ciede2000(color.rgb2lab(a), color.rgb2lab(b)).mean()
        assert delta_e(a, b) == pytest.approx(expected, **CLOSE)


def test_delta_e_pixel_by_pixel_over_all_of_srgb() -> None:
    """The mean of many pixels would hide a wrong branch: one pair of colours at a time, far and near."""
    rng = np.random.default_rng(5)
    first = rng.integers(0, 256, (1000, 1, 1, 3), dtype=np.uint8)
    near = np.clip(first.astype(int) + rng.integers(-3, 4, first.shape), 0, 255).astype(np.uint8)
    far = rng.integers(0, 256, first.shape, dtype=np.uint8)
    far[::5] = 255 - first[::5]  # about opposite hues
    far[1::50], first[2::50] = 0, 0  # no chroma at all
    far[3::50], first[3::50] = 200, 90
    for second in (near, far):
        expected = color.deltaE_ciede2000(color.rgb2lab(first), color.rgb2lab(second)).reshape(-1)
        found = [delta_e(a, b) for a, b in zip(first, second, strict=True)]
        assert np.allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_histogram_distance(photo_pairs: Pairs) -> None:
    for a, b in photo_pairs:
        channels = [stats.wasserstein_distance(a[..., c].ravel() / 255, b[..., c].ravel() / 255) for c in range(3)]
        assert histogram_distance(a, b) == pytest.approx(np.mean(channels), **CLOSE)


def test_histograms_of_two_sizes_are_compared_as_they_are(photo_pairs: Pairs) -> None:
    (a, _), (b, _) = photo_pairs[3], photo_pairs[4]
    assert a.shape != b.shape
    channels = [stats.wasserstein_distance(a[..., c].ravel() / 255, b[..., c].ravel() / 255) for c in range(3)]
    assert histogram_distance(a, b) == pytest.approx(np.mean(channels), **CLOSE)


def test_statistics(photo_pairs: Pairs) -> None:
    for _, photo in photo_pairs:
        lab = color.rgb2lab(photo).reshape(-1, 3)
        assert lab_moments(photo)[:3] == pytest.approx(lab.mean(axis=0), rel=1e-6, abs=1e-7)
        found = photo_statistics(photo)
        assert found.lightness == pytest.approx(lab[:, 0].mean(), **CLOSE)
        assert found.contrast == pytest.approx(lab[:, 0].std(), **CLOSE)
        assert found.cast == pytest.approx(np.hypot(*lab[:, 1:].mean(axis=0)), rel=1e-6, abs=1e-7)
        assert found.clipped_low == pytest.approx((photo == 0).mean(), **CLOSE)
        assert found.clipped_high == pytest.approx((photo == 255).mean(), **CLOSE)


def test_torchmetrics_says_the_same_where_it_defines_the_same(photo_pairs: Pairs) -> None:
    torch = pytest.importorskip("torch")
    image = pytest.importorskip("torchmetrics.functional.image", reason="pip install torchmetrics")
    regression = pytest.importorskip("torchmetrics.functional.regression", reason="pip install torchmetrics")
    for a, b in photo_pairs:
        x, y = (torch.from_numpy(photo).double() for photo in (a, b))
        assert psnr(a, b) == pytest.approx(float(image.peak_signal_noise_ratio(x, y, data_range=255.0)), **CLOSE)
        assert 255 * l1(a, b) == pytest.approx(float(regression.mean_absolute_error(x, y)), **CLOSE)
        assert 255 * rmse(a, b) == pytest.approx(float(regression.mean_squared_error(x, y, squared=False)), **CLOSE)
