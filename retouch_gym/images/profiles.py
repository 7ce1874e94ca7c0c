"""Colour profiles (ICC.1:2022): pictures in their own colours turned into sRGB.

The intent is relative colorimetric with black point compensation, as photo editors have it by default. Pictures of
8 bits go through LittleCMS. Pillow offers it no 16-bit RGB, so those are converted here, for profiles made of
three curves and a matrix (every usual working space) or of one grey curve; through other profiles, of tables, each
16-bit colour moves as far as its nearest 8-bit one, which is right to about one 8-bit level.
"""

from __future__ import annotations

import functools
import io
import struct
from typing import TypeAlias

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageCms

from retouch_gym.images.arrays import DeepImage, to_8_bits

_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
_Curve: TypeAlias = NDArray[np.float32]
# Rows converted at once, in values: temporaries in float32 stay small beside the picture.
_BAND = 1 << 21


class ProfileError(ValueError):
    """A profile is damaged, does not fit its picture, or is of a kind that cannot be used."""


@functools.cache
def srgb_profile() -> bytes:
    """The sRGB profile that is written into files: LittleCMS's own, with a fixed date, so that files repeat."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    data[24:36] = struct.pack(">6H", 2000, 6, 1, 0, 0, 0)
    return bytes(data)


def to_srgb(picture: PIL.Image.Image, icc: bytes) -> PIL.Image.Image:
    """A picture of mode L, RGB or CMYK with its profile, as sRGB of mode RGB.

    Profiles that are sRGB within one level leave every pixel as it is.

    Raises:
        ProfileError: If the profile cannot be used for such a picture.
    """
    if icc == srgb_profile():
        return picture.convert("RGB")
    if picture.mode == "L" and _space(icc) == "RGB":
        picture = picture.convert("RGB")
    transform = _transform(icc, picture.mode)
    if transform is None:
        return picture.convert("RGB")
    if picture.mode == "L":
        # A table, because LittleCMS would interpolate its own, of 33 levels.
        ramp = PIL.Image.fromarray(np.arange(256, dtype=np.uint8)[None])
        return PIL.Image.fromarray(np.asarray(ImageCms.applyTransform(ramp, transform))[0][np.asarray(picture)])
    converted = ImageCms.applyTransform(picture, transform)
    return picture if converted is None else converted


def _space(icc: bytes) -> str:
    """Name of the colours that a profile describes, for instance RGB, GRAY or CMYK."""
    return icc[16:20].decode("ascii", "replace").strip()


@functools.lru_cache(maxsize=8)
def _transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The way from a profile to sRGB; None where there is nothing to do.

    Raises:
        ProfileError: See `to_srgb`.
    """
    if _space(icc) != _SPACES[mode]:
        raise ProfileError(f"it describes {_space(icc) or 'nothing'}, the picture is {mode}")
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    if mode == "L":
        flags |= ImageCms.Flags.NOOPTIMIZE
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(icc)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=flags,
        )
    except (ImageCms.PyCMSError, OSError) as error:
        raise ProfileError(str(error)) from error
    if mode == "CMYK":
        return transform
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    colors = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(len(steps), -1, 3)
    probe = PIL.Image.fromarray(colors if mode == "RGB" else colors[:, :, 0])
    converted = ImageCms.applyTransform(probe, transform)
    apart = np.asarray(converted, np.int16) - np.asarray(probe.convert("RGB"), np.int16)
    return None if np.abs(apart).max() <= 1 else transform


def to_srgb_deep(pixels: NDArray[np.uint16], icc: bytes) -> DeepImage:
    """A picture of 16 bits with its profile, as sRGB.

    Args:
        pixels: (H, W) grey or (H, W, 3).
        icc: Its profile.

    Raises:
        ProfileError: If the profile cannot be used for such a picture.
    """
    grey = pixels.ndim == 2 and _space(icc) != "RGB"
    rgb = np.ascontiguousarray(np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels)
    if _transform(icc, "L" if grey else "RGB") is None:
        return rgb
    tags = _tags(icc)
    if b"A2B0" in tags or b"A2B1" in tags:
        return _moved(pixels if grey else rgb, rgb, icc)
    curves = [_curve(_tag(tags, b"kTRC" if grey else channel + b"TRC")) for channel in (b"r", b"g", b"b")]
    matrix, black = np.eye(3), float(curves[0][0])
    if not grey:
        colorants = _colorants(tags)
        matrix = np.linalg.inv(_colorants(_tags(srgb_profile()))) @ colorants
        black = float(colorants[1] @ [curve[0] for curve in curves])
    # Black point compensation: the luminance of black becomes 0, white stays.
    affine = np.column_stack([matrix, [-black] * 3]) / (1 - min(black, 0.5))
    out = np.empty_like(rgb)
    rows = max(1, _BAND // rgb[0].size)
    for top in range(0, len(rgb), rows):
        band = rgb[top : top + rows]
        linear = np.stack([curve[band[:, :, c]] for c, curve in enumerate(curves)], axis=2)
        out[top : top + rows] = _encode(cv2.transform(linear, affine.astype(np.float32)))
    return out


def _moved(pixels: NDArray[np.uint16], rgb: DeepImage, icc: bytes) -> DeepImage:
    """Colours moved as far as LittleCMS moves them in 8 bits; `rgb` holds `pixels` as three channels."""
    out = np.empty_like(rgb)
    rows = max(1, _BAND // rgb[0].size)
    for top in range(0, len(rgb), rows):
        band = rgb[top : top + rows]
        before = to_8_bits(pixels[top : top + rows])
        after = np.asarray(to_srgb(PIL.Image.fromarray(before), icc), np.int32)
        moved = band + 257 * (after - before.reshape(*band.shape[:2], -1))
        out[top : top + rows] = np.clip(moved, 0, 65535)
    return out


def _encode(linear: NDArray[np.generic]) -> DeepImage:
    """Linear light as sRGB (IEC 61966-2-1) of 16 bits."""
    light = np.clip(np.asarray(linear, np.float32), 0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (encoded * 65535 + 0.5).astype(np.uint16)


def _tags(icc: bytes) -> dict[bytes, bytes]:
    """The parts of a profile by their signatures."""
    try:
        (count,) = struct.unpack_from(">I", icc, 128)
        entries = [struct.unpack_from(">4sII", icc, 132 + 12 * index) for index in range(min(count, 200))]
    except struct.error as error:
        raise ProfileError(f"its table of parts is damaged ({error})") from error
    return {name: icc[offset : offset + size] for name, offset, size in entries}


def _tag(tags: dict[bytes, bytes], name: bytes) -> bytes:
    if name not in tags:
        raise ProfileError(f"it has no {name.decode()}")
    return tags[name]


def _colorants(tags: dict[bytes, bytes]) -> NDArray[np.float64]:
    """XYZ (D50) of linear red, green and blue, as columns."""
    try:
        columns = [struct.unpack_from(">3i", _tag(tags, name), 8) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    except struct.error as error:
        raise ProfileError(f"its primaries are damaged ({error})") from error
    return np.array(columns, np.float64).T / 65536


def _curve(data: bytes) -> _Curve:
    """Linear light, 0..1, of each of 65536 encoded values; sections 10.6 and 10.18 of the standard."""
    x = np.linspace(0, 1, 65536)
    try:
        if data[:4] == b"para":
            return _parametric(data, x).astype(np.float32)
        if data[:4] != b"curv":
            raise ProfileError(f"its curve is of an unknown kind {data[:4]!r}")
        (count,) = struct.unpack_from(">I", data, 8)
        if count == 0:
            return x.astype(np.float32)
        if count == 1:
            return np.asarray(x ** (struct.unpack_from(">H", data, 12)[0] / 256), np.float32)
        table = np.frombuffer(data, ">u2", count, 12) / 65535
    except (struct.error, ValueError) as error:
        raise ProfileError(f"its curve is damaged ({error})") from error
    return np.interp(x, np.linspace(0, 1, count), table).astype(np.float32)


def _parametric(data: bytes, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """(a·x + b)^g + e from d on and c·x + f below it; each kind of curve leaves some at their defaults."""
    (kind,) = struct.unpack_from(">H", data, 8)
    counts = (1, 3, 4, 5, 7)
    if kind >= len(counts):
        raise ProfileError(f"its curve is of an unknown parametric kind {kind}")
    g, *rest = (value / 65536 for value in struct.unpack_from(f">{counts[kind]}i", data, 12))
    a, b, c, d, e, f = (*rest, *(0.0,) * (6 - len(rest))) if kind else (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    if kind in (1, 2):
        # These are 0, or the third parameter, below −b/a.
        e, c, f, d = c, 0.0, c, -b / a if a else 0.0
    with np.errstate(over="ignore", divide="ignore"):  # parameters beyond reason end in the clip below
        power = np.maximum(a * x + b, 0) ** g + e
    return np.asarray(np.clip(np.where(x >= d, power, c * x + f), 0, 1), np.float64)
