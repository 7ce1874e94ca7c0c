"""Crop and straighten.

Turning resamples with the Catmull–Rom cubic (Keys 1981, a = −1/2), which keeps even ramps even; OpenCV's bicubic
(a = −3/4) does not, and bends smooth skies.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from retouch_gym.adjustments.local import Crop
from retouch_gym.compiling import inline, kernel

Sample = TypeVar("Sample", np.uint8, np.uint16, np.float32)

f32 = np.float32


def crop_box(crop: Crop, width: int, height: int) -> tuple[int, int, int, int]:
    """What is kept of the turned frame, in pixels.

    Returns:
        left, top, width, height: at least 1 × 1, within 0..width and 0..height.
    """
    kept_width = max(1, round((crop.right - crop.left) * width))
    kept_height = max(1, round((crop.bottom - crop.top) * height))
    left = min(round(crop.left * width), width - kept_width)
    top = min(round(crop.top * height), height - kept_height)
    return left, top, kept_width, kept_height


def largest_crop(width: int, height: int, angle: float) -> Crop:
    """The largest crop of the photo's proportions, about its centre, that a turn by `angle` leaves without corners."""
    cos, sin = math.cos(math.radians(angle)), abs(math.sin(math.radians(angle)))
    share = min(width / (width * cos + height * sin), height / (width * sin + height * cos))
    margin = (1 - share) / 2
    return Crop(left=margin, top=margin, right=1 - margin, bottom=1 - margin, angle=angle)


def crop_and_straighten(image: NDArray[Sample], crop: Crop) -> NDArray[Sample]:
    """Turn the photo about its centre and cut the rectangle out of the turned frame.

    Without an angle this is an exact slice. With one, samples lie on the Catmull–Rom cubic through the photo, kept
    within its darkest and brightest value; corners that the turned photo leaves open show it mirrored at its edges
    (`largest_crop` leaves none).

    Args:
        image: uint8, uint16 or float32, of shape (H, W) or (H, W, channels).
        crop: What is kept; see `Crop` for the size of the result.

    Returns:
        A new array of the image's dtype and channels.
    """
    height, width = image.shape[:2]
    left, top, kept_width, kept_height = crop_box(crop, width, height)
    if crop.angle == 0:
        return image[top : top + kept_height, left : left + kept_width].copy()
    source = np.ascontiguousarray(image).reshape(height, width, -1)
    source.flags.writeable = False
    out = np.empty((kept_height, kept_width, source.shape[2]), image.dtype)
    turn = math.radians(crop.angle)
    cos, sin = math.cos(turn), math.sin(turn)
    # From the centre of the result's first pixel, relative to the photo's centre, back into the photo.
    x, y = left + 0.5 - width / 2, top + 0.5 - height / 2
    start_x = cos * x + sin * y + width / 2 - 0.5
    start_y = cos * y - sin * x + height / 2 - 0.5
    half = 0.5 if np.issubdtype(image.dtype, np.integer) else 0.0
    _turn(source, out, start_x, start_y, cos, sin, float(image.min()), float(image.max()), half)
    return out.reshape(kept_height, kept_width, *image.shape[2:])


@inline
def _mirror(i: int, n: int) -> int:
    """Index i of a line of n samples that is mirrored at its end samples."""
    if n == 1:
        return 0
    period = 2 * (n - 1)
    i = abs(i) % period
    return i if i < n else period - i


@inline
def _weights(t: Any) -> tuple[Any, Any, Any, Any]:
    """Weights of the samples at −1, 0, 1 and 2 for a place t in 0..1."""
    one, half = f32(1), f32(0.5)
    u = one - t
    first, last = -half * t * u * u, -half * u * t * t
    before = one + t * t * (f32(1.5) * t - f32(2.5))
    return first, before, one - first - before - last, last


@kernel
def _turn(
    source: NDArray[Any],
    out: NDArray[Any],
    start_x: float,
    start_y: float,
    cos: float,
    sin: float,
    low: float,
    high: float,
    half: float,
) -> None:
    """Sample `source` at start + (cos · x + sin · y, cos · y − sin · x) for each pixel x, y of `out`.

    Args:
        source: (H, W, channels).
        out: (h, w, channels) of the same dtype, written.
        start_x: Column of the first sample.
        start_y: Row of the first sample.
        cos: Cosine of the turn, clockwise.
        sin: Its sine.
        low: Least value written.
        high: Largest value written.
        half: Added before a float becomes an integer.
    """
    height, width, channels = source.shape
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            at_x, at_y = start_x + cos * x + sin * y, start_y + cos * y - sin * x
            floor_x, floor_y = math.floor(at_x), math.floor(at_y)
            column, row = int(floor_x), int(floor_y)
            across, down = _weights(f32(at_x - floor_x)), _weights(f32(at_y - floor_y))
            columns = (column - 1, column, column + 1, column + 2)
            rows = (row - 1, row, row + 1, row + 2)
            if column < 1 or column + 2 >= width:
                columns = (
                    _mirror(column - 1, width),
                    _mirror(column, width),
                    _mirror(column + 1, width),
                    _mirror(column + 2, width),
                )
            if row < 1 or row + 2 >= height:
                rows = (
                    _mirror(row - 1, height),
                    _mirror(row, height),
                    _mirror(row + 1, height),
                    _mirror(row + 2, height),
                )
            for c in range(channels):
                value = f32(0)
                for k in range(4):
                    line = across[0] * f32(source[rows[k], columns[0], c])
                    line += across[1] * f32(source[rows[k], columns[1], c])
                    line += across[2] * f32(source[rows[k], columns[2], c])
                    line += across[3] * f32(source[rows[k], columns[3], c])
                    value += down[k] * line
                out[y, x, c] = min(max(value, f32(low)), f32(high)) + f32(half)
