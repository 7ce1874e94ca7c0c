"""Raw files of cameras, developed by LibRaw through the optional package rawpy."""

from __future__ import annotations

import importlib
import os

import numpy as np

from retouch_gym.errors import ImageError
from retouch_gym.images.arrays import DeepImage

RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"}
)
"""File name endings (lower case) that are read as raw files."""

_SRGB_CURVE = (2.4, 12.92)
"""Power and slope at black of the sRGB encoding, as LibRaw takes them."""


def read_raw(path: str | os.PathLike[str]) -> DeepImage:
    """Develop a raw file: the camera's white balance, no automatic brightening, upright, sRGB of 16 bits.

    Raises:
        ImageError: If rawpy is missing, or the file is missing or no raw file that LibRaw reads.
    """
    try:
        rawpy = importlib.import_module("rawpy")
    except ImportError as error:
        raise ImageError(
            f"{str(path)!r} is a raw file, which needs rawpy ({error}). pip install 'retouch-gym[raw]'"
        ) from error
    try:
        with rawpy.imread(os.fspath(path)) as opened:
            pixels = opened.postprocess(
                use_camera_wb=True,
                no_auto_bright=True,
                gamma=_SRGB_CURVE,
                output_color=rawpy.ColorSpace.sRGB,
                output_bps=16,
            )
    except rawpy.LibRawError as error:
        raise ImageError(
            f"{str(path)!r} cannot be read as a raw file ({error}). Check the path; is it truncated or another format?"
        ) from error
    return np.ascontiguousarray(pixels, dtype=np.uint16)
