"""Photos as arrays: checking, resizing, and fewer bits."""

from __future__ import annotations

from typing import TypeAlias, TypeGuard

import cv2
import numpy as np
from numpy.typing import NDArray

from retouch_gym.errors import ImageError
from retouch_gym.types import Image

DeepImage: TypeAlias = NDArray[np.uint16]
"""A photo of 16 bits: uint16, shape (H, W, 3), channels R, G, B, sRGB-encoded, C-contiguous."""


def is_image(value: object) -> TypeGuard[Image]:
    """Whether `value` is a uint8 array of shape (H, W, 3) with at least one pixel."""
    return (
        isinstance(value, np.ndarray)
        and value.dtype == np.uint8
        and value.ndim == 3
        and value.shape[2] == 3
        and value.size > 0
    )


def check_image(value: object, name: str = "image") -> Image:
    """Return `value` as a C-contiguous photo, or say what is wrong with it.

    Raises:
        ImageError: If it is not a uint8 (H, W, 3) array with at least one pixel.
    """
    if is_image(value):
        return np.ascontiguousarray(value)
    got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
    raise ImageError(
        f"{name} is {got}; expected a uint8 array of shape (height, width, 3), sRGB. "
        "Convert floats in 0..1 with (x * 255).round().astype('uint8'), or read files with load_image()."
    )


def resize(image: Image, width: int, height: int) -> Image:
    """Resize to exactly (height, width): area averaging when shrinking, bicubic otherwise."""
    if image.shape[:2] == (height, width):
        return image
    shrinking = width <= image.shape[1] and height <= image.shape[0]
    return np.asarray(
        cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC),
        dtype=np.uint8,
    )


def fit(image: Image, longest: int) -> Image:
    """Shrink so that the longer side is at most `longest` pixels; smaller photos are returned as they are."""
    height, width = image.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return image
    return resize(image, max(1, round(width * scale)), max(1, round(height * scale)))


def to_8_bits(pixels: Image | DeepImage) -> Image:
    """Levels 0..65535 as the nearest of 0..255, an array of any shape; uint8 comes back as it is."""
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, dtype=np.uint8)
    return _NEAREST[pixels]


_NEAREST = ((np.arange(65536) + 128) // 257).astype(np.uint8)
