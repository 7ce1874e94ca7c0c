"""The toolset ``lightroom``: the develop controls of Lightroom Classic by their names, units and ranges.

A slider for each control of the basic panel, a tool for each other panel, presets, and local adjustments (see
`retouch_gym.tools.lightroom_local`). An argument that is left out leaves its control as it is.

White balance is relative to the photo as it was shot, −100..100, as Lightroom has it for photos that are not raw.
In kelvin it would mean something for raw files only, which are developed before they come here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import pydantic

from retouch_gym.adjustments.curves import MAX_POINTS, check_curve
from retouch_gym.adjustments.local import Crop
from retouch_gym.errors import RecipeError
from retouch_gym.tools.base import Arguments, Control, Effect, FinishTool, SliderTool, Tool, UndoTool
from retouch_gym.tools.groups import AtLeastOne, BandTool, GroupTool
from retouch_gym.tools.lightroom_controls import BASIC, COLORS, CONTROLS, CURVES, LOCAL, ZONES
from retouch_gym.tools.lightroom_local import LOCAL_TOOLS
from retouch_gym.tools.presets import PRESETS, PresetTool
from retouch_gym.tools.toolset import Toolset
from retouch_gym.types import JSON

_BY_NAME = {control.name: control for control in CONTROLS}

SLIDERS: Mapping[str, str] = {
    "exposure": "Overall brightness in stops: 1 doubles the light, -1 halves it; fractions such as 0.35 are fine.",
    "contrast": "Spreads (positive) or compresses (negative) the tones around the middle.",
    "highlights": "Bright tones: negative brings back detail in them, positive brightens them.",
    "shadows": "Dark tones: positive opens them, negative deepens them.",
    "whites": "The white end: positive brighter, negative darker.",
    "blacks": "The black end: positive lifts it, negative deepens it.",
    "temperature": "White balance: negative cooler (blue), positive warmer (yellow).",
    "tint": "White balance: negative towards green, positive towards magenta.",
    "vibrance": "Strength of muted colours, sparing strong ones and skin.",
    "saturation": "Strength of all colours, -100 = grey, 100 = double.",
    "texture": "Detail of middle size: positive brings it out, negative smooths it, as for skin.",
    "clarity": "Local contrast: positive crisper, negative softer.",
    "dehaze": "Positive takes haze away, negative adds it.",
}
"""Name of each slider of the basic panel and what it does."""

Share: TypeAlias = Annotated[float, pydantic.Field(ge=0, le=1)]
_LEFT_OUT: Any = None
Point: TypeAlias = Annotated[list[Share], pydantic.Field(min_length=2, max_length=2)]


class ToneCurveArguments(Arguments):
    """A point curve."""

    channel: Literal["rgb", "red", "green", "blue"] = pydantic.Field(description="rgb is all three together.")
    points: list[Point] = pydantic.Field(
        min_length=2,
        max_length=MAX_POINTS,
        description="Points [input, output], 0 = black, 1 = white, inputs rising. [[0, 0], [1, 1]] = untouched.",
    )

    @pydantic.field_validator("points")
    @classmethod
    def _is_curve(cls, points: list[list[float]]) -> list[list[float]]:
        try:
            check_curve(points, "points")
        except RecipeError as error:
            raise ValueError(str(error).removeprefix("points: ")) from None
        return points


class ToneCurveTool(Tool):
    """Sets the point curve of a channel; a later one replaces the earlier."""

    name = "tone_curve"
    description = (
        "Point curve through [input, output] points, 0 = black, 1 = white, of all channels (rgb) or one; above the "
        "diagonal is brighter. [[0, 0], [0.25, 0.2], [0.75, 0.8], [1, 1]] adds contrast."
    )
    arguments = ToneCurveArguments

    def effect(self, arguments: Any) -> Effect:
        """Set the curve."""
        name = "curve" if arguments.channel == "rgb" else f"curve_{arguments.channel}"
        return Effect(curves={name: check_curve(arguments.points, name)})

    def sample(self, rng: np.random.Generator) -> dict[str, JSON]:
        """Draw a channel and 2..5 points."""
        inputs = np.sort(rng.choice(101, int(rng.integers(2, 6)), replace=False)) / 100
        points: list[JSON] = [[float(x), round(float(rng.uniform(0, 1)), 2)] for x in inputs]
        return {"channel": ("rgb", "red", "green", "blue")[int(rng.integers(4))], "points": points}

    def express(self, effect: Effect) -> list[dict[str, JSON]]:
        """A call for each curve. See `Tool.express`."""
        return [
            {"channel": "rgb" if name == "curve" else name.removeprefix("curve_"), "points": [list(p) for p in points]}
            for name, points in effect.curves.items()
        ]


class CropArguments(AtLeastOne):
    """Sides and angle."""

    left: Share = pydantic.Field(_LEFT_OUT, description="Left side, share of the width. 0 = untouched.")
    top: Share = pydantic.Field(_LEFT_OUT, description="Top side, share of the height. 0 = untouched.")
    right: Share = pydantic.Field(_LEFT_OUT, description="Right side, share of the width. 1 = untouched.")
    bottom: Share = pydantic.Field(_LEFT_OUT, description="Bottom side, share of the height. 1 = untouched.")
    angle: float = pydantic.Field(
        _LEFT_OUT, ge=-45, le=45, description="Degrees by which the photo is turned, positive clockwise. 0 = untouched."
    )

    @pydantic.model_validator(mode="after")
    def _is_rectangle(self) -> CropArguments:
        given = self.model_fields_set
        for low, high in (("left", "right"), ("top", "bottom")):
            if {low, high} <= given and getattr(self, low) >= getattr(self, high):
                raise ValueError(f"{low} = {getattr(self, low):g} should be below {high} = {getattr(self, high):g}")
        return self


class CropTool(Tool):
    """Crops and straightens; sides that are left out stay where they are."""

    name = "crop"
    description = (
        "Straightens by angle (degrees, positive clockwise), then keeps the rectangle left..right, top..bottom, in "
        "shares of width and height from the top left. What is left out stays as it is; 0, 0, 1, 1 and angle 0 is "
        "the whole photo."
    )
    arguments = CropArguments

    def effect(self, arguments: Any) -> Effect:
        """Set the sides and the angle that were given."""
        # In the order of the fields, as a set's own order differs from process to process.
        given = [name for name in CropArguments.model_fields if name in arguments.model_fields_set]
        return Effect(crop_parts={name: getattr(arguments, name) for name in given})

    def sample(self, rng: np.random.Generator) -> dict[str, JSON]:
        """Draw some sides that fit together whatever was set before, and an angle."""
        drawn: dict[str, JSON] = {
            name: round(float(rng.uniform(*span)), 2)
            for name, span in (("left", (0, 0.4)), ("top", (0, 0.4)), ("right", (0.6, 1)), ("bottom", (0.6, 1)))
            if rng.integers(2)
        }
        return {**drawn, "angle": round(float(rng.uniform(-10, 10)), 1)}

    def express(self, effect: Effect) -> list[dict[str, JSON]]:
        """One call with the sides that are not those of the whole photo. See `Tool.express`."""
        if effect.crop is None or effect.crop == Crop():
            return []
        return [effect.crop.model_dump(mode="json", exclude_defaults=True)]


def _described(prefix: str, texts: Mapping[str, str]) -> dict[str, tuple[Control, str]]:
    return {name: (_BY_NAME[prefix + name], text) for name, text in texts.items()}


def _bands(prefix: str, bands: tuple[str, ...], names: Mapping[str, str]) -> dict[str, dict[str, Control]]:
    return {band: {name: _BY_NAME[f"{prefix}_{band}_{name}"] for name in names} for band in bands}


_HSL = {
    "hue": "Turns the hue of the band: red to orange, orange to yellow and so on when positive, back when negative.",
    "saturation": "Strength of the band, -100 = grey.",
    "luminance": "Brightness of the band, positive brighter.",
}
_GRADING = {
    "hue": "Hue of the tint in degrees: 0 red, 60 yellow, 120 green, 180 cyan, 240 blue, 300 magenta.",
    "saturation": "Strength of the tint.",
    "luminance": "Brightness of the zone, positive brighter.",
}

GROUPS: tuple[Tool, ...] = (
    GroupTool(
        "parametric_curve",
        "Tone curve by four zones of brightness, positive brighter, negative darker; smooth in between.",
        _described(
            "curve_",
            {
                "highlights": "The brightest quarter of the tones.",
                "lights": "The tones above the middle.",
                "darks": "The tones below the middle.",
                "shadows": "The darkest quarter of the tones.",
            },
        ),
    ),
    ToneCurveTool(),
    BandTool(
        "hsl",
        "Hue, saturation and luminance of one band of colours, for instance blue for skies, green for leaves, orange "
        "for skin.",
        ("color", "Which colours of the photo."),
        _bands("hsl", COLORS, _HSL),
        _HSL,
    ),
    BandTool(
        "color_grading",
        "Tints a zone of brightness: hue in degrees on the colour wheel, and saturation, its strength, without which "
        "hue shows nothing; luminance brightens or darkens the zone.",
        ("zone", "Which tones; global is all."),
        _bands("grading", ZONES, _GRADING),
        _GRADING,
    ),
    GroupTool(
        "grading_mix",
        "How the zones of color_grading share the tones.",
        _described(
            "grading_",
            {
                "balance": "Positive gives more of the tones to the highlights' tint, negative to the shadows'.",
                "blending": "How far the zones overlap, 0 = apart, 100 = wide.",
            },
        ),
    ),
    GroupTool(
        "sharpening",
        "Sharpens edges; the other arguments say how and show nothing without amount.",
        _described(
            "sharpening_",
            {
                "amount": "Strength.",
                "radius": "Width of the edges, in pixels.",
                "detail": "How much fine detail is sharpened along with edges.",
                "masking": "Positive keeps even areas as they are and sharpens edges alone.",
            },
        ),
    ),
    GroupTool(
        "noise_reduction",
        "Smooths noise.",
        _described("noise_", {"luminance": "Grain-like noise of brightness.", "color": "Specks of colour."}),
    ),
    GroupTool(
        "vignette",
        "Darkens (negative amount) or brightens (positive amount) the corners; the other arguments give its shape and "
        "show nothing without amount.",
        _described(
            "vignette_",
            {
                "amount": "Negative darkens the corners, positive brightens them.",
                "midpoint": "How far from the middle it begins, smaller = nearer.",
                "roundness": "Negative towards a rectangle, positive towards a circle.",
                "feather": "How softly it begins, 0 = hard edge.",
            },
        ),
    ),
    GroupTool(
        "grain",
        "Adds film grain; size and roughness show nothing without amount.",
        _described(
            "grain_",
            {"amount": "Strength.", "size": "Size of the grains.", "roughness": "How uneven the grains are."},
        ),
    ),
    # Not "black_and_white": a tool that has a control's name takes that control's value.
    GroupTool(
        "black_and_white_mix",
        "Turns the photo grey (enabled) or back to colour; each colour becomes brighter (positive) or darker "
        "(negative) in the grey.",
        {
            "enabled": (_BY_NAME["black_and_white"], "Whether the photo is grey."),
            **_described("bw_", {color: f"Brightness that {color} gets in the grey." for color in COLORS}),
        },
        required=("enabled",),
    ),
    GroupTool(
        "calibration",
        "Turns and strengthens the primaries that all colours are mixed of.",
        _described(
            "calibration_",
            {
                "shadow_tint": "Dark tones: negative towards green, positive towards magenta.",
                "red_hue": "Red: negative towards magenta, positive towards yellow.",
                "red_saturation": "Strength of red.",
                "green_hue": "Green: negative towards yellow, positive towards cyan.",
                "green_saturation": "Strength of green.",
                "blue_hue": "Blue: negative towards cyan, positive towards magenta.",
                "blue_saturation": "Strength of blue.",
            },
        ),
    ),
    CropTool(),
    PresetTool(PRESETS, CONTROLS),
)
"""The tools of the other panels."""

LIGHTROOM = Toolset(
    "lightroom",
    (
        *(SliderTool(control, SLIDERS[control.name]) for control in BASIC),
        *GROUPS,
        *LOCAL_TOOLS,
        FinishTool(),
        UndoTool(),
    ),
    curves=CURVES,
    local_controls=LOCAL,
    can_crop=True,
)
"""The professional toolset."""
