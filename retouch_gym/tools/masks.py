"""Mask images as text: a grey PNG in base64, as `MaskImage` holds it."""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from retouch_gym.errors import ImageError

MAX_MASK_PIXELS = 1 << 26
"""Most pixels of a mask image (64 megapixels), so that a small file cannot fill the memory."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode_mask(mask: NDArray[Any]) -> str:
    """A mask as a `MaskImage` holds it, for instance from a segmenter.

    Args:
        mask: (H, W), bool, uint8 0..255, or floating 0..1; 1 (or 255, or True) is where the adjustment acts.

    Raises:
        ImageError: If it is none of these.
    """
    array = np.asarray(mask)
    if array.ndim != 2 or array.size == 0:
        raise ImageError(f"The mask has the shape {array.shape}; expected (height, width).")
    if array.dtype == np.bool_:
        grey = array.astype(np.uint8) * np.uint8(255)
    elif np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise ImageError("A floating mask should be finite and in 0..1; clip it first.")
        grey = np.rint(array * 255).astype(np.uint8)
    elif array.dtype == np.uint8:
        grey = array
    else:
        raise ImageError(f"The mask is {array.dtype}; expected bool, uint8 or floating.")
    return base64.b64encode(cv2.imencode(".png", grey)[1].tobytes()).decode("ascii")


def decode_mask(png: str) -> NDArray[np.uint8]:
    """The inverse of `encode_mask`: uint8 (H, W); colours become grey.

    Raises:
        ImageError: If the text is not base64, not a PNG, larger than `MAX_MASK_PIXELS`, or damaged.
    """
    try:
        data = base64.b64decode(png, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"expected a PNG file in base64, but this is not base64 ({error})") from None
    if len(data) < 24 or not data.startswith(_SIGNATURE):
        raise ImageError("expected a PNG file in base64, but the data does not begin like a PNG file")
    width, height = struct.unpack(">II", data[16:24])
    if not 0 < width * height <= MAX_MASK_PIXELS:
        raise ImageError(f"the mask has {width} × {height} pixels; at most {MAX_MASK_PIXELS} are read")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error as error:
        raise ImageError(f"the PNG file cannot be read: {error}") from None
    if image is None:
        raise ImageError("the PNG file is damaged")
    return np.asarray(image, np.uint8)
