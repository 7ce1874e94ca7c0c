"""Mask images as a recipe holds them: a grey PNG in base64."""

from __future__ import annotations

import base64
import binascii
import io
import struct
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from retouch_gym.errors import ImageError

MAX_MASK_PIXELS = 1 << 26
"""Most pixels of a mask image (64 megapixels), so that a small file cannot fill the memory."""

GREY_MODES = ("1", "L", "I;16")
"""Pillow's names of the pixel formats of a mask: 1, 8 and 16 bits of grey."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def decode_mask(png: str) -> NDArray[Any]:
    """The pixels of a mask image.

    Args:
        png: A grey PNG file in base64.

    Returns:
        (H, W), uint8 or uint16; the largest value is where an adjustment acts in full.

    Raises:
        ImageError: If the text is no base64, no PNG, not grey, larger than `MAX_MASK_PIXELS`, or damaged.
    """
    try:
        data = base64.b64decode(png, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("expected a grey PNG file in base64, but this is no base64") from None
    if len(data) < 24 or not data.startswith(_SIGNATURE):
        raise ImageError("expected a grey PNG file in base64, but the data does not begin as a PNG file does")
    # Read here, because Pillow warns of large pictures before it says how large they are.
    width, height = struct.unpack(">II", data[16:24])
    if not 0 < width * height <= MAX_MASK_PIXELS:
        raise ImageError(f"the PNG has {width} × {height} pixels; expected 1..{MAX_MASK_PIXELS}")
    try:
        with PIL.Image.open(io.BytesIO(data), formats=["PNG"]) as opened:
            if opened.mode not in GREY_MODES:
                raise ImageError(f"the PNG has the mode {opened.mode}; expected grey, save it as mode L")
            return np.asarray(opened.convert("L") if opened.mode == "1" else opened)
    except ImageError:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"the PNG is damaged: {error}") from None
