"""How much the tones of two photos differ, wherever in the photo they are."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from retouch_gym.images import check_image
from retouch_gym.types import Image


def histograms(image: Image) -> NDArray[np.float64]:
    """Share of the pixels at each level, float64 (3, 256); rows R, G, B sum to 1.

    Raises:
        ImageError: If it is no photo.
    """
    image = check_image(image)
    counts = [cv2.calcHist([image], [channel], None, [256], [0, 256]).reshape(256) for channel in range(3)]
    return np.stack(counts).astype(np.float64) * (3 / image.size)


def histogram_distance(a: Image, b: Image) -> float:
    """Mean over the channels of the earth mover's distance between their histograms, on the scale 0..1.

    In one dimension it is the area between the cumulative histograms (Rubner, Tomasi and Guibas 2000, for the
    distance; Vallender 1974, for this form): the mean way that levels have to be moved, divided by 255. Equals
    the mean of scipy's ``wasserstein_distance`` of each channel's levels / 255. Sizes may differ; nothing is
    resized.

    Args:
        a: Photo, uint8 (H, W, 3) sRGB.
        b: Photo, uint8 (H′, W′, 3).

    Returns:
        0 (same tones) to 1 (black against white).

    Raises:
        ImageError: If either is no photo.
    """
    between = np.abs(np.cumsum(histograms(a) - histograms(b), axis=1))
    return float(between.sum()) / (3 * 255)
