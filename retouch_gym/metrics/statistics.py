"""What can be said of one photo without another to compare it with."""

from __future__ import annotations

import math
from dataclasses import dataclass

from retouch_gym.metrics.color import lab_moments
from retouch_gym.metrics.histogram import histograms
from retouch_gym.types import Image


@dataclass(frozen=True)
class PhotoStatistics:
    """Numbers of one photo.

    Args:
        clipped_low: Share of all R, G and B values that are 0, 0..1.
        clipped_high: Share of all R, G and B values that are 255, 0..1.
        lightness: Mean L*, 0..100.
        cast: Distance of the mean colour from grey, √(mean a*² + mean b*²): the grey-world view of a colour
            cast (Gasparini and Schettini 2004 take the same mean). A photo of a meadow has one too.
        contrast: Standard deviation of L*, 0..50: root-mean-square contrast (Peli 1990) of lightness.
    """

    clipped_low: float
    clipped_high: float
    lightness: float
    cast: float
    contrast: float


def photo_statistics(image: Image) -> PhotoStatistics:
    """The statistics of a photo, uint8 (H, W, 3) sRGB.

    Raises:
        ImageError: If it is no photo.
    """
    levels = histograms(image)
    lightness, a, b, contrast = lab_moments(image)
    low, high = float(levels[:, 0].mean()), float(levels[:, 255].mean())
    return PhotoStatistics(low, high, lightness, math.hypot(a, b), contrast)
