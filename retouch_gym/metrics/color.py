"""Colour difference as people see it, in CIELAB under D65."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from retouch_gym.images import check_image
from retouch_gym.metrics._lab import delta_e_sum, lab_sums
from retouch_gym.metrics.pairs import as_pair
from retouch_gym.types import Image

_LEVELS = np.arange(256) / 255
_LINEAR: NDArray[np.float64] = np.where(_LEVELS > 0.04045, ((_LEVELS + 0.055) / 1.055) ** 2.4, _LEVELS / 12.92)
_TO_XYZ = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
_WHITE = [0.95047, 1.0, 1.08883]
_WEIGHTS: NDArray[np.float64] = (np.array(_TO_XYZ) / np.array(_WHITE)[:, None]).reshape(-1)


def delta_e(a: Image, b: Image) -> float:
    """Mean CIEDE2000 of the pixels, kL = kC = kH = 1.

    sRGB (IEC 61966-2-1) to XYZ to CIELAB under D65 for the 2° observer, with the decimals of scikit-image's
    ``rgb2lab``, of which ``deltaE_ciede2000`` this is the mean. Where hues lie exactly opposite the formula itself
    jumps. A difference of about 1 is just seen; black against white is 100, and a few saturated pairs exceed it.

    Args:
        a: Photo, uint8 (H, W, 3) sRGB.
        b: Photo, uint8; resized to the size of `a` (bicubic) when it differs.

    Raises:
        ImageError: If either is no photo.
    """
    a, b = as_pair(a, b)
    return 3 * delta_e_sum(a.reshape(-1), b.reshape(-1), _LINEAR, _WEIGHTS) / a.size


def lab_moments(image: Image) -> tuple[float, float, float, float]:
    """Mean L*, a* and b* of a photo, and the standard deviation of L*. L* runs from 0 to 100.

    Raises:
        ImageError: If it is no photo.
    """
    image = check_image(image)
    lightness, a, b, square = (3 * total / image.size for total in lab_sums(image.reshape(-1), _LINEAR, _WEIGHTS))
    return lightness, a, b, math.sqrt(max(square - (lightness - 50) ** 2, 0.0))
