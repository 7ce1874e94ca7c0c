"""Pixel distance of two photos, the measure under every rule-based reward (arXiv 2606.08016)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from retouch_gym.images import check_image
from retouch_gym.types import Image


def pixel_distance(a: Image, b: Image) -> float:
    """How far two photos are apart: D(a, b) = (mean|a − b| + √mean (a − b)²) / 2 on 0..1 values.

    The sums run over the 8-bit values in integers, so the result is exact up to the last division.

    Args:
        a: Photo, uint8 (H, W, 3) sRGB.
        b: Photo, uint8; resized to the size of `a` (bicubic) when it differs.

    Returns:
        0.0 (equal) to 1.0 (black against white).

    Raises:
        ImageError: If either is no photo.
    """
    a, b = check_image(a, "a"), check_image(b, "b")
    if a.shape != b.shape:
        size = (a.shape[1], a.shape[0])
        b = np.asarray(cv2.resize(b, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    mean_absolute = cv2.norm(a, b, cv2.NORM_L1) / a.size
    mean_square = cv2.norm(a, b, cv2.NORM_L2SQR) / a.size
    return (mean_absolute + math.sqrt(mean_square)) / 510.0


def pixel_distances(images: Sequence[Image], references: Sequence[Image]) -> list[float]:
    """`pixel_distance` of each pair, in order. Sizes may differ from pair to pair.

    Raises:
        ValueError: If the lengths differ.
        ImageError: If any is no photo.
    """
    return [pixel_distance(image, reference) for image, reference in zip(images, references, strict=True)]
