"""Mask images."""

from __future__ import annotations

import base64
import io

import numpy as np
import PIL.Image
import pytest

from retouch_gym.adjustments.mask_image import decode_mask
from retouch_gym.errors import ImageError


def packed(array: np.ndarray, kind: str = "png") -> str:
    file = io.BytesIO()
    PIL.Image.fromarray(array).save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_values_are_read_as_they_were_written(dtype: type) -> None:
    mask = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (3, 5), dtype=dtype, endpoint=True)
    read = decode_mask(packed(mask))
    assert read.dtype == dtype
    assert np.array_equal(read, mask)


def test_one_bit_is_all_or_nothing() -> None:
    mask = np.array([[True, False], [False, True]])
    assert np.array_equal(decode_mask(packed(mask)), mask * 255)


@pytest.mark.parametrize(
    ("png", "why"),
    [
        ("", "does not begin"),
        ("mask.png", "no base64"),
        ("ä", "no base64"),
        (packed(np.zeros((2, 2), np.uint8), "tiff"), "does not begin"),
        (packed(np.zeros((2, 2, 3), np.uint8)), "mode RGB"),
        (packed(np.zeros((2, 2, 4), np.uint8)), "mode RGBA"),
        (packed(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))[:2000], "damaged"),
    ],
)
def test_anything_else_is_refused(png: str, why: str) -> None:
    with pytest.raises(ImageError, match=why):
        decode_mask(png)
