"""Recipes of the toolset ``lightroom`` as RawTherapee's edit files (``.pp3``), and back."""

from __future__ import annotations

from collections.abc import Mapping

from retouch_gym.adjustments.local import Crop
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.engines.pp3_keys import (
    ALWAYS,
    CATMULL_ROM,
    CLARITY_RADIUS,
    FIXED,
    HSV_CURVES,
    KEYS,
    LONGEST,
    PARAMETRIC,
    PARAMETRIC_KIND,
    RAWTHERAPEE,
    TWINS,
    UNSWITCHED,
    format_number,
)
from retouch_gym.renderers.engines.pp3_white_balance import to_kelvin
from retouch_gym.renderers.engines.support import leave_out, refused, without_idle
from retouch_gym.renderers.lightroom.color import BAND_CENTERS
from retouch_gym.renderers.lightroom.geometry import crop_box
from retouch_gym.renderers.lightroom.settings import DEFAULTS, settings_of
from retouch_gym.tools.lightroom_controls import COLORS

Sections = dict[str, dict[str, str]]
"""Section name to key to text."""

CURVE_KEYS: Mapping[str, tuple[str, str]] = {
    "curve": ("Exposure", "Curve"),
    "curve_red": ("RGB Curves", "rCurve"),
    "curve_green": ("RGB Curves", "gCurve"),
    "curve_blue": ("RGB Curves", "bCurve"),
}
"""Where the file holds each point curve."""


def write_pp3(recipe: Recipe, size: tuple[int, int] | None = None) -> tuple[str, tuple[str, ...]]:
    """The edit file for a recipe.

    Args:
        recipe: Of the toolset ``lightroom``.
        size: Width and height of the photo in pixels, which a crop and the radius of clarity are measured in.

    Returns:
        The text, and what of the recipe is not in it, with reasons. Controls that change nothing without another
        (a radius without an amount) are not written.

    Raises:
        RendererError: If the recipe is of another toolset, or a control or value is unknown.
    """
    settings_of(recipe)
    recipe = without_idle(recipe)
    left_out = refused(recipe, RAWTHERAPEE)
    recipe = leave_out(recipe, left_out)
    if recipe.crop and size is None:
        left_out["crop"] = "crop (measured in pixels: give the size of the photo)"
        recipe = recipe.without("crop")
    sections: Sections = {name: dict(keys) for name, keys in ALWAYS.items()}
    _write_numbers(recipe, sections)
    if recipe["clarity"]:
        _use(sections, "Local Contrast")["Radius"] = str(max(1, round(CLARITY_RADIUS * max(size or (LONGEST,)))))
    _write_curves(recipe, sections)
    _write_bands(recipe, sections)
    if recipe["temperature"] or recipe["tint"]:
        kelvin, green = to_kelvin(recipe["temperature"], recipe["tint"])
        _use(sections, "White Balance").update({"Temperature": str(kelvin), "Green": format_number(green)})
    if recipe.crop and size is not None:
        _write_crop(recipe.crop, size, sections)
    return _format(sections), tuple(left_out.values())


def _use(sections: Sections, name: str) -> dict[str, str]:
    """The keys of a section that is switched on."""
    if name not in sections:
        switch = {} if name in UNSWITCHED else {"Enabled": "true"}
        sections[name] = {**switch, **FIXED.get(name, {})}
    return sections[name]


def _write_numbers(recipe: Recipe, sections: Sections) -> None:
    if recipe["black_and_white"]:
        _use(sections, "Black & White")
    used = {key.section for key in KEYS if key.control in recipe.controls}
    for key in KEYS:
        if key.section in used or key.section in sections:
            text = key.write(recipe.controls.get(key.control, DEFAULTS[key.control]))
            keys = _use(sections, key.section)
            keys[key.key] = text
            if key.key in TWINS:
                keys[TWINS[key.key]] = text


def _write_curves(recipe: Recipe, sections: Sections) -> None:
    for name, curve in recipe.curves.items():
        section, key = CURVE_KEYS[name]
        points = "".join(f"{format_number(value)};" for point in curve for value in point)
        _use(sections, section)[key] = f"{CATMULL_ROM};{points}"
    if any(name in recipe.controls for name in PARAMETRIC):
        zones = "".join(f"{format_number(scale * recipe[name])};" for name, scale in PARAMETRIC.items())
        _use(sections, "Exposure")["Curve2"] = f"{PARAMETRIC_KIND};0.25;0.5;0.75;{zones}"


def _write_bands(recipe: Recipe, sections: Sections) -> None:
    for what, (key, reach) in HSV_CURVES.items():
        values = [recipe[f"hsl_{color}_{what}"] for color in COLORS]
        if any(values):
            points = "".join(
                f"{format_number(center / 360)};{format_number(0.5 + reach * value / 100)};0.35;0.35;"
                for center, value in zip(BAND_CENTERS, values, strict=True)
            )
            _use(sections, "HSV Equalizer")[key] = f"1;{points}"


def _write_crop(crop: Crop, size: tuple[int, int], sections: Sections) -> None:
    left, top, width, height = crop_box(crop, *size)
    if (left, top, width, height) != (0, 0, *size):
        _use(sections, "Crop").update({"X": str(left), "Y": str(top), "W": str(width), "H": str(height)})
    if crop.angle:
        # The program turns the other way round; the crop is ours to choose, so nothing is enlarged to fill corners.
        _use(sections, "Rotation")["Degree"] = format_number(-crop.angle)
        _use(sections, "Common Properties for Transformations")["AutoFill"] = "false"


def _format(sections: Sections) -> str:
    blocks = (
        "\n".join((f"[{name}]", *(f"{key}={text}" for key, text in keys.items()))) for name, keys in sections.items()
    )
    return "\n\n".join(blocks) + "\n"
