"""Files of 16 bits per channel, which Pillow neither reads nor writes in colour."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from retouch_gym.errors import ImageError
from retouch_gym.images.arrays import DeepImage

DEEP_SUFFIXES = frozenset({".png", ".tif", ".tiff"})
"""File name endings (lower case) that hold 16 bits."""

_STRIP = 1 << 20
_SHORT, _LONG, _RATIONAL, _BYTES = 3, 4, 5, 7


def is_deep(opened: PIL.Image.Image) -> bool:
    """Whether an opened file, not yet loaded, has 16 bits per channel that Pillow would cut to 8."""
    tiles = getattr(opened, "tile", None)
    if not tiles or opened.format not in ("PNG", "TIFF") or "transparency" in opened.info:
        return False
    arguments = tiles[0][3]
    layout = arguments if isinstance(arguments, str) else str(arguments[0])
    return layout.startswith(("RGB;16", "RGBA;16", "LA;16"))


def decode_deep(path: Path) -> NDArray[np.uint16]:
    """Decode a PNG or TIFF of 16 bits. TIFF comes upright, PNG as it is stored.

    Returns:
        (H, W, 3) or (H, W, 4): R, G, B and opacity.

    Raises:
        ImageError: If OpenCV cannot decode it.
    """
    try:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"{str(path)!r} cannot be read as a photo of 16 bits ({error}).") from error
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise ImageError(f"{str(path)!r} cannot be read as a photo of 16 bits. Save it as 16-bit RGB PNG or TIFF.")
    order = (2, 1, 0, 3)[: pixels.shape[2]]
    return np.ascontiguousarray(pixels[:, :, order], dtype=np.uint16)


def over_white(pixels: NDArray[np.uint16], opacity: NDArray[np.uint16]) -> DeepImage:
    """Colours (H, W, 3) laid over white as far as `opacity` (H, W) leaves it uncovered."""
    share = opacity[:, :, None].astype(np.float32) / np.float32(65535)
    return (65535.5 - (65535 - pixels.astype(np.float32)) * share).astype(np.uint16)


def write_deep(pixels: DeepImage, path: Path, icc: bytes) -> None:
    """Write (H, W, 3) with its profile; the ending chooses PNG or TIFF (uncompressed).

    Raises:
        ImageError: If the photo is too large for the format, or the ending is neither.
        OSError: If the disk refuses.
    """
    if path.suffix.lower() == ".png":
        path.write_bytes(_png(pixels, icc))
    elif path.suffix.lower() in DEEP_SUFFIXES:
        _write_tiff(pixels, path, icc)
    else:
        raise ImageError(f"{path.suffix!r} holds no 16 bits; use one of {', '.join(sorted(DEEP_SUFFIXES))}.")


def _png(pixels: DeepImage, icc: bytes) -> bytes:
    done, encoded = cv2.imencode(".png", pixels[:, :, ::-1])
    if not done:
        raise ImageError(f"A photo of {pixels.shape} cannot be written as PNG; use TIFF.")
    data = encoded.tobytes()
    chunk = b"iCCP" + b"sRGB\0\0" + zlib.compress(icc)
    # After the header: 8 bytes of signature and a chunk of 25.
    return b"".join(
        (data[:33], struct.pack(">I", len(chunk) - 4), chunk, struct.pack(">I", zlib.crc32(chunk)), data[33:])
    )


def _write_tiff(pixels: DeepImage, path: Path, icc: bytes) -> None:
    """Baseline RGB of TIFF 6.0, little-endian, in strips of about a megabyte, with the profile in tag 34675."""
    height, width = pixels.shape[:2]
    rows = max(1, _STRIP // (6 * width))
    sizes = [6 * width * min(rows, height - top) for top in range(0, height, rows)]
    if sum(sizes) >= 1 << 31:
        raise ImageError(f"A photo of {width} × {height} pixels is too large for TIFF; use PNG.")
    # Strips come first, so that their places do not depend on the length of the directory.
    offsets = [8 + sum(sizes[:index]) for index in range(len(sizes))]
    tags: list[tuple[int, int, Sequence[int] | bytes]] = [
        (256, _LONG, [width]),
        (257, _LONG, [height]),
        (258, _SHORT, [16, 16, 16]),
        (259, _SHORT, [1]),  # not compressed
        (262, _SHORT, [2]),  # RGB
        (273, _LONG, offsets),
        (277, _SHORT, [3]),
        (278, _LONG, [rows]),
        (279, _LONG, sizes),
        (282, _RATIONAL, [72, 1]),
        (283, _RATIONAL, [72, 1]),
        (284, _SHORT, [1]),  # channels side by side
        (296, _SHORT, [2]),  # resolution per inch
        (34675, _BYTES, icc),
    ]
    start = 8 + sum(sizes)
    with path.open("wb") as file:
        file.write(struct.pack("<2sHI", b"II", 42, start))
        for top in range(0, height, rows):
            file.write(pixels[top : top + rows].astype("<u2").tobytes())
        file.write(_directory(tags, start))


def _directory(tags: list[tuple[int, int, Sequence[int] | bytes]], start: int) -> bytes:
    """A TIFF directory that begins at `start`, and behind it the values that do not fit into its entries."""
    entries, values = b"", b""
    beyond = start + 2 + 12 * len(tags) + 4
    for tag, kind, value in tags:
        if isinstance(value, bytes):
            packed, count = value, len(value)
        else:
            packed = struct.pack(f"<{len(value)}{'H' if kind == _SHORT else 'I'}", *value)
            count = len(value) // (2 if kind == _RATIONAL else 1)
        field = packed.ljust(4, b"\0")
        if len(packed) > 4:
            field = struct.pack("<I", beyond + len(values))
            values += packed + b"\0" * (len(packed) % 2)
        entries += struct.pack("<HHI", tag, kind, count) + field
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0) + values
