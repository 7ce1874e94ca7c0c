"""Pixel distance of two photos, the measure under every rule-based reward (arXiv 2606.08016)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from retouch_gym.metrics import mean_differences
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
    mean_absolute, mean_square = mean_differences(a, b)
    return (mean_absolute + math.sqrt(mean_square)) / 510.0


def pixel_distances(images: Sequence[Image], references: Sequence[Image]) -> list[float]:
    """`pixel_distance` of each pair, in order. Sizes may differ from pair to pair.

    Raises:
        ValueError: If the lengths differ.
        ImageError: If any is no photo.
    """
    return [pixel_distance(image, reference) for image, reference in zip(images, references, strict=True)]
