"""Photos as text, without loss: PNG in base64."""

from __future__ import annotations

import base64
import binascii

import cv2
import numpy as np

from retouch_gym.errors import ImageError
from retouch_gym.images import check_image
from retouch_gym.types import Image


def to_base64_png(image: Image) -> str:
    """A photo, uint8 (H, W, 3) sRGB, as a PNG in base64. `from_base64_png` gives the same pixels back.

    Raises:
        ImageError: If the array is not a photo.
    """
    # OpenCV counts the channels B, G, R.
    written, data = cv2.imencode(".png", check_image(image)[:, :, ::-1])
    if not written:
        raise ImageError(f"A photo of shape {image.shape} cannot be written as PNG.")
    return base64.b64encode(data.tobytes()).decode("ascii")


def from_base64_png(text: str) -> Image:
    """Inverse of `to_base64_png`.

    Returns:
        uint8 (H, W, 3) sRGB, writable, C-contiguous.

    Raises:
        ImageError: If the text is no base64 or holds no image.
    """
    try:
        data = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    except (binascii.Error, ValueError, cv2.error) as error:
        raise ImageError(f"The text of {len(text)} characters is no photo in base64 ({error}).") from error
    if decoded is None:
        raise ImageError(f"The {data.size} bytes hold no image; expected a PNG.")
    return np.ascontiguousarray(decoded, dtype=np.uint8)


def data_url(image: Image) -> str:
    """A photo as a PNG data URL, as chat APIs take it.

    Raises:
        ImageError: If the array is not a photo.
    """
    return f"data:image/png;base64,{to_base64_png(image)}"
