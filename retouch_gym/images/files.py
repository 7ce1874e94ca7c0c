"""Photo files: read in sRGB, upright, with their depth; written at once or not at all."""

from __future__ import annotations

import os
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray

from retouch_gym.errors import ImageError
from retouch_gym.images.arrays import DeepImage, check_image, to_8_bits
from retouch_gym.images.deep import DEEP_SUFFIXES, decode_deep, is_deep, over_white, write_deep
from retouch_gym.images.profiles import ProfileError, srgb_profile, to_srgb, to_srgb_deep
from retouch_gym.images.raw import RAW_SUFFIXES, read_raw
from retouch_gym.types import Image

PHOTO_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})
"""File name endings (lower case) that `load_image` is offered by folder datasets."""

_ORIENTATION = 0x0112


@dataclass(frozen=True, eq=False)
class PhotoData:
    """What a photo file holds.

    Args:
        pixels: uint8 or uint16 (H, W, 3), sRGB-encoded, upright.
        icc: The file's colour profile, from which the pixels were already converted; None without one.
        exif: The file's EXIF data as bytes, with the orientation taken out; None without any.
    """

    pixels: Image | DeepImage
    icc: bytes | None = None
    exif: bytes | None = None


def load_image(path: str | os.PathLike[str]) -> Image:
    """Read a photo file as uint8 (H, W, 3) sRGB, upright. See `read_photo`; 16 bits are rounded to 8.

    Raises:
        ImageError: If the file is missing, truncated or not an image.
    """
    return to_8_bits(read_photo(path).pixels)


def read_photo(path: str | os.PathLike[str]) -> PhotoData:
    """Read a photo file in sRGB, upright (EXIF orientation applied), with the bits it has.

    Files with a colour profile are converted by it; without one they are taken as sRGB. A profile that cannot be
    used is passed over with a `UserWarning`, as browsers do silently: the photo is there, only its tint is in doubt.
    Grey, palette and CMYK files become RGB; transparency is laid over white. PNG and TIFF of 16 bits, grey or RGB, and
    raw files (`RAW_SUFFIXES`, with the extra ``raw``) come with 16 bits.

    Raises:
        ImageError: If the file is missing, truncated, not an image, or of a kind that cannot become RGB.
    """
    if Path(path).suffix.lower() in RAW_SUFFIXES:
        return PhotoData(read_raw(path))
    try:
        with PIL.Image.open(path) as opened:
            icc, deep = opened.info.get("icc_profile"), is_deep(opened)
            # Loaded even where OpenCV decodes: Pillow notices truncated files.
            opened.load()
            turned = int(opened.getexif().get(_ORIENTATION, 1))
            upright = PIL.ImageOps.exif_transpose(opened)
        exif = upright.info.get("exif")
        if deep:
            # OpenCV turns what a TIFF says itself, which Pillow has forgotten by then.
            return PhotoData(_deep_rgb(_upright(decode_deep(Path(path)), turned), icc, path), icc, exif)
        return PhotoData(_rgb(upright, icc, path), icc, exif)
    except FileNotFoundError as error:
        raise ImageError(f"No photo at {str(path)!r}. Check the path.") from error
    except ImageError:
        raise
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ImageError(
            f"{str(path)!r} cannot be read as a photo ({error}). Is it truncated or not an image?"
        ) from error


def _upright(pixels: NDArray[np.uint16], orientation: int) -> NDArray[np.uint16]:
    """Pixels as EXIF's orientation says that they are meant (EXIF 2.32, table 6)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _deep_rgb(pixels: NDArray[np.uint16], icc: bytes | None, path: str | os.PathLike[str]) -> Image | DeepImage:
    """(H, W), (H, W, 3) or (H, W, 4) of 16 bits as RGB in sRGB over white."""
    colors = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[:, :, :3])
    opacity = pixels[:, :, 3] if pixels.ndim == 3 and pixels.shape[2] == 4 else None
    if icc:
        try:
            colors = to_srgb_deep(colors, icc)
        except ProfileError as error:
            _warn(path, error)
    if colors.ndim == 2:
        colors = np.repeat(colors[:, :, None], 3, axis=2)
    return colors if opacity is None else over_white(colors, opacity)


def _rgb(picture: PIL.Image.Image, icc: bytes | None, path: str | os.PathLike[str]) -> Image | DeepImage:
    if picture.mode.startswith("I;16"):
        return _deep_rgb(np.asarray(picture).astype(np.uint16), icc, path)
    if picture.mode in ("I", "F"):
        values = np.asarray(picture, dtype=np.float64)
        scale = 65535.0 if values.max(initial=0.0) > 255 else 255.0
        grey = np.clip(values / scale * 255.0 + 0.5, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        if icc:
            opacity = layered.getchannel("A")
            layered = _converted(picture.convert("L" if picture.mode == "LA" else "RGB"), icc, path)
            layered.putalpha(opacity)
        white = PIL.Image.new("RGBA", layered.size, (255, 255, 255, 255))
        picture = PIL.Image.alpha_composite(white, layered)
    elif icc and picture.mode != "LAB":
        plain = {"1": "L", "L": "L", "CMYK": "CMYK"}.get(picture.mode, "RGB")
        picture = _converted(picture.convert(plain), icc, path)
    return np.array(picture.convert("RGB"), dtype=np.uint8)


def _converted(picture: PIL.Image.Image, icc: bytes, path: str | os.PathLike[str]) -> PIL.Image.Image:
    """A picture of mode L, RGB or CMYK as sRGB, if its profile can be used."""
    try:
        return to_srgb(picture, icc)
    except ProfileError as error:
        _warn(path, error)
        return picture.convert("RGB")


def _warn(path: str | os.PathLike[str], error: ProfileError) -> None:
    warnings.warn(f"{str(path)!r}: its colour profile cannot be used ({error}); taken as sRGB.", stacklevel=2)


def save_image(image: Image | DeepImage, path: str | os.PathLike[str]) -> None:
    """Write a photo with the sRGB profile. Replaces the file at once.

    Args:
        image: uint8 (H, W, 3), or uint16 where the format holds 16 bits (.png, .tif, .tiff).
        path: The ending chooses the format; use ``.png`` or ``.tif`` to stay lossless.

    Raises:
        ImageError: If the array is not a photo, the format is unknown or holds no 16 bits, or the disk refuses.
    """
    target = Path(path)
    deep = isinstance(image, np.ndarray) and image.dtype == np.uint16
    if deep:
        _check_deep(image, target)
    array = np.ascontiguousarray(image) if deep else check_image(image)
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(suffix=target.suffix, prefix=".tmp-", dir=target.parent)
        os.close(handle)
        if deep:
            write_deep(array.astype(np.uint16, copy=False), Path(temporary), srgb_profile())
        else:
            PIL.Image.fromarray(array).save(temporary, icc_profile=srgb_profile())
        Path(temporary).replace(target)
    except (OSError, ValueError) as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise ImageError(f"Cannot write {str(path)!r}: {error}") from error


def _check_deep(image: Image | DeepImage, target: Path) -> None:
    """Refuse what is no photo of 16 bits for such a file.

    Raises:
        ImageError: Naming what was expected.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ImageError(f"image is uint16 {image.shape}; expected (height, width, 3), sRGB.")
    if target.suffix.lower() not in DEEP_SUFFIXES:
        raise ImageError(
            f"Cannot write {str(target)!r}: {target.suffix or 'no ending'} holds no 16 bits. "
            f"Use {', '.join(sorted(DEEP_SUFFIXES))}, or to_8_bits(image)."
        )
