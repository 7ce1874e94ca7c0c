import base64
import io

import numpy as np
import PIL.Image
import pytest

from retouch_gym.adapters.photos import data_url, from_base64_png, to_base64_png
from retouch_gym.errors import ImageError


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 5, 3), (64, 48, 3)])
def test_pixels_come_back_as_they_were(shape):
    photo = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    back = from_base64_png(to_base64_png(photo))
    np.testing.assert_array_equal(back, photo)
    assert back.dtype == np.uint8
    assert back.flags.c_contiguous
    assert back.flags.writeable


def test_others_read_the_same_pixels():
    photo = np.zeros((2, 3, 3), np.uint8)
    photo[..., 0] = 200
    head, _, text = data_url(photo).partition(",")
    assert head == "data:image/png;base64"
    with PIL.Image.open(io.BytesIO(base64.b64decode(text))) as opened:
        assert opened.format == "PNG"
        np.testing.assert_array_equal(np.asarray(opened.convert("RGB")), photo)


@pytest.mark.parametrize("text", ["", "?!", "aGVsbG8=", "ä"])
def test_what_is_no_photo_is_an_image_error(text):
    with pytest.raises(ImageError):
        from_base64_png(text)


@pytest.mark.parametrize("photo", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_photo_is_not_written(photo):
    with pytest.raises(ImageError):
        to_base64_png(photo)
