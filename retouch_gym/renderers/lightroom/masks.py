"""Masks of local adjustments as pixels: shapes evaluated band by band, so that temporaries stay small.

Every geometric shape is measured in pixels from exact pixel centres, and its edge is at least one pixel wide: the mask
of a thumbnail is, up to sampling, the thumbnail of the mask. Falls are smoothsteps, 3t² − 2t³, whose slope is
0 at both ends, so that no band shows where a fall begins.
"""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, assert_never

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from retouch_gym.adjustments.local import (
    MAX_MASK_BYTES,
    Brush,
    ColorRange,
    LinearGradient,
    LocalAdjustment,
    LuminanceRange,
    MaskImage,
    RadialGradient,
    Shape,
)
from retouch_gym.adjustments.mask_image import GREY_MODES, decode_mask
from retouch_gym.errors import ImageError, RecipeError

Mask: TypeAlias = NDArray[np.float32]
"""float32 (H, W), 0 (untouched) to 1 (in full)."""

LUMA = (0.2126, 0.7152, 0.0722)
"""Weights of encoded R, G, B in luma (ITU-R BT.709, whose primaries are those of sRGB)."""

# Pixels evaluated at once: three temporaries of this size stay in a core's second-level cache.
_BAND = 1 << 16
# Ranges of tones and colours fall over one 8-bit level at least, which absorbs rounding.
_LEVEL = 1 / 255
# Strokes are cut into pieces of at least this many pixels, each measured in its own small rectangle.
_PIECE = 32.0


@dataclass(frozen=True)
class _Band:
    """Rows top..bottom of a photo: pixel centres x (1, W) and y (rows, 1) in pixels, encoded values (rows, W, 3)."""

    x: Mask
    y: Mask
    top: int
    bottom: int
    source: NDArray[Any]

    def colors(self) -> Mask:
        """Encoded R, G, B in 0..1, a new array."""
        values = self.source.astype(np.float32)
        if np.issubdtype(self.source.dtype, np.integer):
            values *= np.float32(1 / np.iinfo(self.source.dtype).max)
        return values


_Evaluator: TypeAlias = Callable[[_Band], Mask]


def mask_of(adjustment: LocalAdjustment, source: NDArray[Any]) -> Mask:
    """Where and how strongly a local adjustment acts, its `amount` included.

    Parts join in order. Before the first there is nothing if it adds, and the whole photo if it subtracts or
    intersects; so a lone "subtract" is everything but its shape.

    Args:
        adjustment: Its parts and amount; the controls are not looked at.
        source: The whole photo before any crop, sRGB-encoded R, G, B of shape (H, W, 3): uint8, uint16, or floats
            in 0..1. Only ranges of luminance and colour look at its values.

    Returns:
        float32 (H, W), 0..amount, a new array.

    Raises:
        RecipeError: If a mask image is no grey PNG, naming the adjustment and what to do.
    """
    height, width = source.shape[:2]
    parts = [(part, _evaluator(part.shape, width, height, adjustment.name)) for part in adjustment.parts]
    start = 0.0 if adjustment.parts[0].op == "add" else 1.0
    mask = np.full((height, width), start, np.float32)
    x = np.arange(width, dtype=np.float32)[None] + np.float32(0.5)
    y = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        band, joined = _Band(x, y[top:bottom], top, bottom, source[top:bottom]), mask[top:bottom]
        for part, evaluate in parts:
            values = evaluate(band)
            if part.invert != (part.op == "subtract"):
                values = np.subtract(np.float32(1), values)
            if part.op == "add":
                np.maximum(joined, values, out=joined)
            else:
                joined *= values
        joined *= np.float32(adjustment.amount)
    return mask


def _evaluator(shape: Shape, width: int, height: int, name: str) -> _Evaluator:
    """The function that gives a shape's mask in a band of a photo of this size."""
    match shape:
        case LinearGradient():
            return partial(_linear, shape, width, height)
        case RadialGradient():
            return partial(_radial, shape, width, height)
        case LuminanceRange():
            return partial(_luminance, shape)
        case ColorRange():
            return partial(_color, shape)
        case Brush():
            return partial(_brush, shape, width, height)
        case MaskImage():
            return partial(_rows, _stretched(shape, width, height, name))
        case _:
            assert_never(shape)


def _fall(values: Mask, inner: float, outer: float) -> Mask:
    """1 up to `inner`, 0 from `outer` > `inner`, a smoothstep between; overwrites `values`."""
    values -= np.float32(outer)
    values *= np.float32(1 / (inner - outer))
    np.clip(values, 0, 1, out=values)
    smooth = np.multiply(values, np.float32(-2))
    smooth += np.float32(3)
    values *= values
    values *= smooth
    return values


def _edge(inner: float, outer: float, pixel: float) -> tuple[float, float]:
    """A fall from `inner` to `outer`, widened about its middle to the size of a pixel."""
    spare = max(0.0, pixel - (outer - inner)) / 2
    return inner - spare, outer + spare


def _linear(shape: LinearGradient, width: int, height: int, band: _Band) -> Mask:
    """Falls along the line between the two places, at right angles to it in pixels; 1 if they coincide."""
    dx, dy = (shape.x1 - shape.x0) * width, (shape.y1 - shape.y0) * height
    length = math.hypot(dx, dy)
    if length == 0:
        return np.ones((len(band.y), band.x.shape[1]), np.float32)
    along_x = (band.x - np.float32(shape.x0 * width)) * np.float32(dx / length)
    along_y = (band.y - np.float32(shape.y0 * height)) * np.float32(dy / length)
    return _fall(along_x + along_y, *_edge(0.0, length, 1.0))


def _radial(shape: RadialGradient, width: int, height: int, band: _Band) -> Mask:
    """Falls with the distance to the centre in radii; a positive angle turns the ellipse clockwise in pixels."""
    radius_x, radius_y = max(shape.radius_x * width, 0.5), max(shape.radius_y * height, 0.5)
    turn = math.radians(shape.angle)
    cos, sin = math.cos(turn), math.sin(turn)
    x, y = band.x - np.float32(shape.x * width), band.y - np.float32(shape.y * height)
    across = x * np.float32(cos / radius_x) + y * np.float32(sin / radius_x)
    down = x * np.float32(-sin / radius_y) + y * np.float32(cos / radius_y)
    across *= across
    down *= down
    across += down
    np.sqrt(across, out=across)
    return _fall(across, *_edge(1.0 - shape.feather, 1.0, 1 / math.sqrt(radius_x * radius_y)))


def _luminance(shape: LuminanceRange, band: _Band) -> Mask:
    """Falls with the distance of the encoded luma to the range."""
    luma = cv2.transform(band.colors(), np.array([LUMA], np.float32))
    beyond = np.maximum(np.float32(shape.low) - luma, luma - np.float32(shape.high))
    return _fall(beyond.reshape(luma.shape[:2]), 0.0, max(shape.feather, _LEVEL))


def _color(shape: ColorRange, band: _Band) -> Mask:
    """Falls with the Euclidean distance to the colour in encoded R, G, B, each 0..1."""
    # An affine map, because NumPy is slow where the last axis has three elements.
    minus = np.array([[1, 0, 0, -shape.red], [0, 1, 0, -shape.green], [0, 0, 1, -shape.blue]], np.float32)
    apart = np.asarray(cv2.transform(band.colors(), minus), np.float32)
    apart *= apart
    square = cv2.transform(apart, np.ones((1, 3), np.float32)).reshape(apart.shape[:2])
    return _fall(np.sqrt(square), shape.tolerance, shape.tolerance + max(shape.feather, _LEVEL))


def _brush(shape: Brush, width: int, height: int, band: _Band) -> Mask:
    """Falls with the distance to the nearest place of the stroke."""
    radius = max(shape.radius * max(width, height), 0.5)
    inner, outer = _edge((1 - shape.feather) * radius, radius, 1.0)
    square = np.full((len(band.y), band.x.shape[1]), np.float32(outer * outer), np.float32)
    places = [(x * width, y * height) for x, y in shape.points]
    for start, end in zip(places, places[1:] or places, strict=False):
        pieces = max(1, math.ceil(math.dist(start, end) / max(4 * outer, _PIECE)))
        dx, dy = (end[0] - start[0]) / pieces, (end[1] - start[1]) / pieces
        for piece in range(pieces):
            _draw(square, band, (start[0] + piece * dx, start[1] + piece * dy), (dx, dy), outer)
    return _fall(np.sqrt(square, out=square), inner, outer)


def _draw(square: Mask, band: _Band, start: tuple[float, float], along: tuple[float, float], reach: float) -> None:
    """Lower `square` to the squared distance to a piece of a line, in the rectangle that it reaches."""
    (x, y), (dx, dy) = start, along
    left = max(0, math.floor(min(x, x + dx) - reach))
    right = min(square.shape[1], math.ceil(max(x, x + dx) + reach))
    top = max(0, math.floor(min(y, y + dy) - reach) - band.top)
    bottom = min(len(square), math.ceil(max(y, y + dy) + reach) - band.top)
    if left >= right or top >= bottom:
        return
    across, down = band.x[:, left:right] - np.float32(x), band.y[top:bottom] - np.float32(y)
    length = max(dx * dx + dy * dy, 1e-12)
    share = across * np.float32(dx / length) + down * np.float32(dy / length)
    np.clip(share, 0, 1, out=share)
    apart = across - share * np.float32(dx)
    apart *= apart
    share *= np.float32(-dy)
    share += down
    share *= share
    apart += share
    box = square[top:bottom, left:right]
    np.minimum(box, apart, out=box)


def _rows(mask: Mask, band: _Band) -> Mask:
    return mask[band.top : band.bottom]


def _stretched(shape: MaskImage, width: int, height: int, name: str) -> Mask:
    """A mask image at the photo's size: areas averaged when it shrinks, interpolated when it grows."""
    values = _decoded(shape, name)
    grey = values.astype(np.float32)
    grey *= np.float32(1 / np.iinfo(values.dtype).max)
    if grey.shape == (height, width):
        return grey
    shrinks = width <= grey.shape[1] and height <= grey.shape[0]
    sized = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(np.clip(sized, 0, 1, out=sized), dtype=np.float32)


def _decoded(shape: MaskImage, name: str) -> NDArray[Any]:
    """The uint8 or uint16 pixels (h, w) of a mask image.

    Raises:
        RecipeError: Naming the adjustment, what is wrong with its mask image and what to do.
    """
    try:
        return decode_mask(shape.png)
    except ImageError as error:
        raise RecipeError(
            f"Local adjustment {name!r}, mask image: {error}. "
            "Make it with retouch_gym.renderers.lightroom.masks.mask_image_of(array or path)."
        ) from error


def mask_image_of(mask: NDArray[Any] | str | os.PathLike[str], longest: int = 2048) -> MaskImage:
    """An outside mask, for instance a segmenter's, as a part of a recipe.

    Args:
        mask: An array (H, W), bool, uint8, uint16, or floats in 0..1 (kept as 8 bits); or a path of a grey picture.
            Its proportions should be the photo's, its size need not: it is stretched over the photo.
        longest: Shrink so that the longer side is at most this many pixels.

    Raises:
        ImageError: If it is not such an array or file, or the PNG is larger than a recipe may hold.
    """
    grey = _grey(mask if isinstance(mask, np.ndarray) else _read_grey(mask))
    scale = longest / max(grey.shape)
    if scale < 1:
        size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))
    packed = io.BytesIO()
    PIL.Image.fromarray(grey).save(packed, "png")
    text = base64.b64encode(packed.getvalue()).decode("ascii")
    if len(text) > MAX_MASK_BYTES:
        raise ImageError(
            f"The mask takes {len(text)} characters as PNG, a recipe holds {MAX_MASK_BYTES}. Pass a smaller longest."
        )
    return MaskImage(png=text)


def _grey(mask: NDArray[Any]) -> NDArray[Any]:
    """The mask as uint8 or uint16.

    Raises:
        ImageError: See `mask_image_of`.
    """
    if mask.ndim == 2 and mask.size:
        if mask.dtype in (np.uint8, np.uint16):
            return mask
        if mask.dtype == np.bool_:
            return mask.astype(np.uint8) * np.uint8(255)
        if np.issubdtype(mask.dtype, np.floating):
            low, high = float(mask.min()), float(mask.max())
            if low >= 0 and high <= 1:
                return (mask * 255 + 0.5).astype(np.uint8)
            raise ImageError(
                f"The mask holds {low:g}..{high:g}; expected floats in 0..1. Scale it, for instance by /255."
            )
    raise ImageError(
        f"The mask is {mask.dtype} {mask.shape}; expected (height, width) of bool, uint8, uint16 or floats in 0..1. "
        "Pick one channel with mask[..., 0]."
    )


def _read_grey(path: str | os.PathLike[str]) -> NDArray[Any]:
    try:
        with PIL.Image.open(path) as opened:
            if opened.mode not in GREY_MODES:
                raise ImageError(f"Mask {str(path)!r} has mode {opened.mode}; save it as a grey picture (mode L).")
            return np.asarray(opened.convert("L") if opened.mode == "1" else opened)
    except FileNotFoundError as error:
        raise ImageError(f"No mask at {str(path)!r}. Check the path.") from error
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"Mask {str(path)!r} cannot be read ({error}). Is it truncated or not a picture?") from error
