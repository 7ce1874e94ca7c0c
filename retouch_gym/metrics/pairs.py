"""What every comparison of two photos begins with."""

from __future__ import annotations

import cv2
import numpy as np

from retouch_gym.images import check_image
from retouch_gym.types import Image


def as_pair(a: Image, b: Image) -> tuple[Image, Image]:
    """Two photos of one size, C-contiguous.

    Args:
        a: Photo, uint8 (H, W, 3) sRGB.
        b: Photo, uint8; resized to the size of `a` (bicubic) when it differs.

    Raises:
        ImageError: If either is no photo.
    """
    a, b = check_image(a, "a"), check_image(b, "b")
    if a.shape != b.shape:
        size = (a.shape[1], a.shape[0])
        b = np.asarray(cv2.resize(b, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    return a, b
