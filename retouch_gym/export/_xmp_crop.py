"""Crops as Lightroom writes them: two corners in the photo as it was, and the angle of the frame."""

from __future__ import annotations

import math

from retouch_gym.adjustments.local import Crop, read_crop
from retouch_gym.errors import RecipeError
from retouch_gym.export._rdf import Properties, number, truth

Size = tuple[int, int]
"""Width and height in pixels."""

_KEYS = ("CropTop", "CropLeft", "CropBottom", "CropRight", "CropAngle")


def write_crop(crop: Crop | None, size: Size | None, left_out: list[str]) -> dict[str, str]:
    """The crop as properties.

    Lightroom's left-top and right-bottom corners are places in the photo before it is turned, and its angle turns
    the photo the other way round. Where a turned photo does not fill the recipe's rectangle, Lightroom would refuse
    it, so the rectangle is shrunk about its centre until it does.

    Args:
        crop: The crop.
        size: Width and height of the photo; without it, a turned crop cannot be written.
        left_out: Takes what cannot be written.
    """
    if crop is None:
        return {"HasCrop": "False"}
    if crop.angle and size is None:
        left_out.append(f"crop: turning by {crop.angle:g}° needs the photo's width and height")
        return {"HasCrop": "False"}
    corners = ((crop.left, crop.top), (crop.right, crop.bottom), (crop.left, crop.bottom), (crop.right, crop.top))
    places = [_about_middle(corner, -crop.angle, size) for corner in corners]
    scale, centre = _fit(places)
    if scale <= 0:
        left_out.append("crop: its centre is outside of the turned photo")
        return {"HasCrop": "False"}
    if scale < 1:
        left_out.append(f"crop: shrunk to {scale:.3f} of its size, to lie inside of the turned photo")
        middle_x, middle_y = centre
        places = [(middle_x + scale * (x - middle_x), middle_y + scale * (y - middle_y)) for x, y in places]
    (left, top), (right, bottom) = places[0], places[1]
    values = (top, left, bottom, right, -crop.angle)
    return {"HasCrop": "True", **{key: show(value) for key, value in zip(_KEYS, values, strict=True)}}


def read_crop_from(found: Properties, size: Size | None, left_out: list[str]) -> Crop | None:
    """Inverse of `write_crop`.

    Raises:
        RecipeError: If a corner is missing, is no number, or lies outside of the photo.
    """
    if not truth(found, "HasCrop", False):
        return None
    top, left, bottom, right, angle = (number(found, key, 0.0 if key == "CropAngle" else None) for key in _KEYS)
    for key, value in zip(_KEYS, (top, left, bottom, right), strict=False):
        if not -1e-6 <= value <= 1 + 1e-6:
            raise RecipeError(f"{key} = {value:g} is outside 0..1.")
    if angle and size is None:
        left_out.append(f"crop: turning by {-angle:g}° needs the photo's width and height")
        return None
    start, end = _about_middle((left, top), -angle, size), _about_middle((right, bottom), -angle, size)
    bounds = [min(max(round(value, 6), 0.0), 1.0) for value in (*start, *end)]
    if max(abs(bound - value) for bound, value in zip(bounds, (*start, *end), strict=True)) > 1e-4:
        left_out.append("crop: the part that lies beyond the frame of the photo before it was turned")
    return read_crop(
        {"left": bounds[0], "top": bounds[1], "right": bounds[2], "bottom": bounds[3], "angle": -angle + 0.0}
    )


def show(value: float) -> str:
    """A number with six decimals at most."""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def turn(offset: tuple[float, float], angle: float, size: Size | None) -> tuple[float, float]:
    """An offset (shares of width and height) turned clockwise, in pixels."""
    if not angle or size is None:
        return offset
    width, height = size
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    x, y = offset[0] * width, offset[1] * height
    return (x * cosine - y * sine) / width, (x * sine + y * cosine) / height


def _about_middle(place: tuple[float, float], angle: float, size: Size | None) -> tuple[float, float]:
    """A place (shares of width and height) turned clockwise about the photo's centre."""
    x, y = turn((place[0] - 0.5, place[1] - 0.5), angle, size)
    return x + 0.5, y + 0.5


def _fit(places: list[tuple[float, float]]) -> tuple[float, tuple[float, float]]:
    """How much of a rectangle's size fits into the unit square, and its centre."""
    centre = (sum(place[0] for place in places) / 4, sum(place[1] for place in places) / 4)
    scale = 1.0
    for place in places:
        for value, middle in zip(place, centre, strict=True):
            room = 1.0 - middle if value > middle else middle
            if abs(value - middle) > room + 1e-9:
                scale = min(scale, room / abs(value - middle))
    return scale, centre
