"""Distances of two photos level by level.

All work on uint8 (H, W, 3) sRGB photos; the second is resized to the first (bicubic) where sizes differ. The
sums run over the 8-bit levels in integers, so results are exact up to the last division.
"""

from __future__ import annotations

import math

import cv2

from retouch_gym.metrics.pairs import as_pair
from retouch_gym.types import Image


def mean_differences(a: Image, b: Image) -> tuple[float, float]:
    """Mean |a − b| and mean (a − b)², on levels 0..255.

    Raises:
        ImageError: If either is no photo.
    """
    a, b = as_pair(a, b)
    # OpenCV takes the root of the sum of squares and squares it again, which costs the last bit of a whole number.
    return cv2.norm(a, b, cv2.NORM_L1) / a.size, round(cv2.norm(a, b, cv2.NORM_L2SQR)) / a.size


def l1(a: Image, b: Image) -> float:
    """Mean |a − b| on the scale 0..1, that is, of levels divided by 255.

    Papers that print an L1 of, say, 35 mean levels 0..255: 255 times this.

    Raises:
        ImageError: If either is no photo.
    """
    return mean_differences(a, b)[0] / 255


def rmse(a: Image, b: Image) -> float:
    """√mean (a − b)² on the scale 0..1, that is, of levels divided by 255; 255 times as much on levels.

    This is what L2 stands for here. scikit-image's ``mean_squared_error`` of the uint8 arrays is (255 · rmse)².

    Raises:
        ImageError: If either is no photo.
    """
    return math.sqrt(mean_differences(a, b)[1]) / 255


def psnr(a: Image, b: Image) -> float:
    """Peak signal-to-noise ratio, 10 log₁₀(255² / mean (a − b)²), in decibels.

    Equals scikit-image's ``peak_signal_noise_ratio`` of uint8 arrays: one mean over pixels and channels.

    Returns:
        0 (black against white) and up; infinite for equal photos.

    Raises:
        ImageError: If either is no photo.
    """
    error = rmse(a, b)
    return -20 * math.log10(error) if error > 0 else math.inf
