"""Reading, checking, resizing and writing photos without loss."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps

from retouch_gym.errors import ImageError
from retouch_gym.types import Image, Photo

PHOTO_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})
"""File name endings (lower case) that `load_image` is offered by folder datasets."""


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


def load_image(path: str | os.PathLike[str]) -> Image:
    """Read a photo file as uint8 (H, W, 3) sRGB, upright (EXIF orientation applied).

    Grey, palette and CMYK files are converted; transparency is laid over white; 16-bit grey is
    scaled to 8 bits.

    Raises:
        ImageError: If the file is missing, truncated or not an image.
    """
    try:
        with PIL.Image.open(path) as opened:
            opened.load()
            upright = PIL.ImageOps.exif_transpose(opened)
    except FileNotFoundError as error:
        raise ImageError(f"No photo at {str(path)!r}. Check the path.") from error
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ImageError(
            f"{str(path)!r} cannot be read as a photo ({error}). Is it truncated or not an image?"
        ) from error
    return _to_rgb(upright)


def _to_rgb(picture: PIL.Image.Image) -> Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture, dtype=np.float64)
        scale = 65535.0 if values.max(initial=0.0) > 255 else 255.0
        grey = np.clip(values / scale * 255.0 + 0.5, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        white = PIL.Image.new("RGBA", layered.size, (255, 255, 255, 255))
        picture = PIL.Image.alpha_composite(white, layered)
    return np.array(picture.convert("RGB"), dtype=np.uint8)


def save_image(image: Image, path: str | os.PathLike[str]) -> None:
    """Write a photo; the ending chooses the format (use ``.png`` to stay lossless). Replaces the file at once.

    Raises:
        ImageError: If the array is not a photo, the format is unknown, or the disk refuses.
    """
    target = Path(path)
    array = check_image(image)
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(suffix=target.suffix, prefix=".tmp-", dir=target.parent)
        os.close(handle)
        PIL.Image.fromarray(array).save(temporary)
        Path(temporary).replace(target)
    except (OSError, ValueError) as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise ImageError(f"Cannot write {str(path)!r}: {error}") from error


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


@dataclass(frozen=True)
class PhotoFile:
    """A photo on disk, read when needed. Implements `retouch_gym.types.Photo`.

    Args:
        path: The file.
        longest: Shrink so that the longer side is at most this many pixels; None keeps the size.
    """

    path: str
    longest: int | None = None

    def load(self) -> Image:
        """Read the file. See `load_image`."""
        image = load_image(self.path)
        return image if self.longest is None else fit(image, self.longest)


@dataclass(frozen=True, eq=False)
class Pixels:
    """A photo that is already in memory. Implements `retouch_gym.types.Photo`."""

    array: Image

    def __post_init__(self) -> None:
        object.__setattr__(self, "array", check_image(self.array))

    def load(self) -> Image:
        """Return a copy of the array."""
        return self.array.copy()


class Remembered:
    """A photo that is loaded once and kept. Implements `retouch_gym.types.Photo`.

    Args:
        photo: The photo to load.
    """

    def __init__(self, photo: Photo) -> None:
        self.photo = photo
        self._array: Image | None = None

    def __getstate__(self) -> dict[str, Any]:
        # The pixels do not travel: a copy elsewhere loads them again.
        return {"photo": self.photo, "_array": None}

    def load(self) -> Image:
        """Return the pixels, read-only and shared."""
        if self._array is None:
            self._array = self.photo.load().view()
            self._array.flags.writeable = False
        return self._array
