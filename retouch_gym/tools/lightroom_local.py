"""Local adjustments of the toolset ``lightroom``: six tools that mask, one that sets controls, one that removes.

A local adjustment has a name, a mask built from shapes, controls that act where the mask is, and an amount. How
calls come together:

- A shape tool begins the adjustment of its name, or changes it. One call is a whole local edit:
  ``linear_gradient(name="sky", x0=0.5, y0=0.2, x1=0.5, y1=0.5, exposure=-0.8)``.
- `op` says what becomes of the mask there is: ``replace`` (the default) begins it anew, so that a call that is
  repeated changes nothing and a shape is moved by giving it again; ``add``, ``subtract`` and ``intersect`` join the
  shape to it.
- Controls and amount that are left out stay as they are, in every tool; a new adjustment begins with amount 1.
- An adjustment needs at least one control that is not at 0: one that is new and sets nothing is refused, one whose
  last control goes back to 0 is taken away with its mask. Within one plan, masks may come before controls.
- ``adjust_local`` changes controls and amount, ``remove_local`` takes the adjustment away; both refuse unknown names.
- An edit holds at most 32 adjustments of at most 16 shapes each.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import PIL.Image
import pydantic

from retouch_gym.adjustments.local import (
    MAX_MASK_BYTES,
    Brush,
    ColorRange,
    Data,
    LinearGradient,
    LuminanceRange,
    MaskImage,
    MaskPart,
    RadialGradient,
)
from retouch_gym.adjustments.mask_image import decode_mask
from retouch_gym.errors import ImageError
from retouch_gym.tools.base import Arguments, Effect, LocalChange, Tool, argument, plain
from retouch_gym.tools.groups import AtLeastOne, draw_some
from retouch_gym.tools.lightroom_controls import LOCAL
from retouch_gym.types import JSON

Op: TypeAlias = Literal["replace", "add", "subtract", "intersect"]
Across: TypeAlias = Annotated[
    float, pydantic.Field(ge=-1, le=2, description="Share of the width, 0 = left, 1 = right.")
]
Down: TypeAlias = Annotated[float, pydantic.Field(ge=-1, le=2, description="Share of the height, 0 = top, 1 = bottom.")]
Radius: TypeAlias = Annotated[float, pydantic.Field(ge=0.01, le=2)]
Coordinate: TypeAlias = Annotated[float, pydantic.Field(ge=-1, le=2)]
Point: TypeAlias = Annotated[list[Coordinate], pydantic.Field(min_length=2, max_length=2)]

NAMES = ("sky", "subject", "face", "foreground", "background")
"""Names that sampled calls use."""


class NameArguments(Arguments):
    """Which local adjustment."""

    name: str = pydantic.Field(
        pattern=r"^[A-Za-z0-9_ -]{1,40}$", description="Name of the local adjustment, your choice, such as sky."
    )


class LinearArguments(NameArguments):
    """Shape of a linear gradient."""

    x0: Across
    y0: Down
    x1: Across
    y1: Down

    @pydantic.model_validator(mode="after")
    def _has_direction(self) -> LinearArguments:
        if (self.x0, self.y0) == (self.x1, self.y1):
            raise ValueError(f"(x0, y0) and (x1, y1) are both ({self.x0:g}, {self.y0:g}), they should differ")
        return self


class RadialArguments(NameArguments):
    """Shape of a radial gradient."""

    x: Across
    y: Down
    radius_x: Radius = pydantic.Field(description="Half width of the ellipse, as a share of the photo's width.")
    radius_y: Radius = pydantic.Field(description="Half height of the ellipse, as a share of the photo's height.")
    angle: float = pydantic.Field(0.0, ge=-180, le=180, description="Degrees by which the ellipse is turned clockwise.")
    feather: float = pydantic.Field(0.5, ge=0, le=1, description="Share of the radius over which it fades out.")


class LuminanceArguments(NameArguments):
    """Which tones."""

    low: float = pydantic.Field(0.0, ge=0, le=1, description="Darkest tone, 0 = black.")
    high: float = pydantic.Field(1.0, ge=0, le=1, description="Brightest tone, 1 = white.")
    feather: float = pydantic.Field(0.1, ge=0, le=1, description="Width of the tones beyond over which it fades out.")

    @pydantic.model_validator(mode="after")
    def _is_range(self) -> LuminanceArguments:
        if self.low > self.high:
            raise ValueError(f"low = {self.low:g} should not be above high = {self.high:g}")
        return self


class ColorArguments(NameArguments):
    """Which colours."""

    red: float = pydantic.Field(ge=0, le=1, description="Red of the colour, 0..1.")
    green: float = pydantic.Field(ge=0, le=1, description="Green of the colour, 0..1.")
    blue: float = pydantic.Field(ge=0, le=1, description="Blue of the colour, 0..1.")
    tolerance: float = pydantic.Field(0.15, ge=0, le=1, description="How far from it a colour still counts in full.")
    feather: float = pydantic.Field(0.1, ge=0, le=1, description="Distance beyond over which it fades out.")


class BrushArguments(NameArguments):
    """A stroke."""

    points: list[Point] = pydantic.Field(
        min_length=1, max_length=256, description="Points [x, y] of the stroke, shares of width and height."
    )
    radius: float = pydantic.Field(ge=0.001, le=1, description="Of the brush, as a share of the longer side.")
    feather: float = pydantic.Field(0.5, ge=0, le=1, description="Share of the radius over which it fades out.")


class ImageArguments(NameArguments):
    """A mask from outside."""

    png: str = pydantic.Field(
        min_length=1, max_length=MAX_MASK_BYTES, description="A grey PNG file in base64, white where it acts."
    )

    @pydantic.field_validator("png")
    @classmethod
    def _is_png(cls, png: str) -> str:
        try:
            decode_mask(png)
        except ImageError as error:
            raise ValueError(str(error)) from None
        return png


class JoinArguments(Arguments):
    """How a shape joins the mask there is."""

    op: Op = pydantic.Field(
        "replace", description="replace begins the mask anew with this shape; the others join it to the mask there is."
    )
    invert: bool = pydantic.Field(False, description="Whether the shape acts outside instead of inside.")


_AMOUNT: dict[str, Any] = {
    "amount": (float, pydantic.Field(None, ge=0, le=1, description="Strength of the whole adjustment, 1 = full."))
}
_TEXTS: Mapping[str, str] = {
    "exposure": "Stops brighter (positive) or darker, in the mask.",
    "temperature": "Warmer (positive) or cooler, in the mask.",
    "tint": "Towards magenta (positive) or green, in the mask.",
    "contrast": "Spreads (positive) or compresses the tones, in the mask.",
    "highlights": "Bright tones brighter (positive) or darker, in the mask.",
    "shadows": "Dark tones brighter (positive) or darker, in the mask.",
    "whites": "White end brighter (positive) or darker, in the mask.",
    "blacks": "Black end brighter (positive) or darker, in the mask.",
    "noise_luminance": "Smooths brightness noise, in the mask.",
    "noise_color": "Smooths colour noise, in the mask.",
    "sharpening_amount": "Sharpens edges, in the mask.",
}
_CONTROLS: dict[str, Any] = {
    control.name: argument(
        control,
        _TEXTS.get(control.name, f"More (positive) or less {control.name}, in the mask."),
        optional=True,
    )
    for control in LOCAL
}
_BY_NAME = {control.name: control for control in LOCAL}


class MaskTool(Tool):
    """Gives a local adjustment a shape, and optionally controls.

    Args:
        name: Name to call it by.
        description: What it does, for the model.
        shape: Its arguments besides the common ones: the fields of `data`, and the name of the adjustment.
        data: The shape that it makes.
    """

    def __init__(self, name: str, description: str, shape: type[NameArguments], data: type[Data]) -> None:
        self.name, self.description, self.shape, self.data = name, description, shape, data
        self.arguments = pydantic.create_model(
            f"{data.__name__}Arguments", __base__=(JoinArguments, shape), **_AMOUNT, **_CONTROLS
        )

    def __reduce__(self) -> tuple[type[MaskTool], tuple[Any, ...]]:
        # As in SliderTool: the arguments model is made at run time.
        return (MaskTool, (self.name, self.description, self.shape, self.data))

    def effect(self, arguments: Any) -> Effect:
        """Join the shape to the mask of the adjustment, or begin it anew, and set what else was given."""
        fields = {key: getattr(arguments, key) for key in self.shape.model_fields if key != "name"}
        anew = arguments.op == "replace"
        part = MaskPart.model_validate(
            {"shape": self.data(**fields), "op": "add" if anew else arguments.op, "invert": arguments.invert}
        )
        return Effect(change=LocalChange(arguments.name, part, anew, _given(arguments), arguments.amount))

    def sample(self, rng: np.random.Generator) -> dict[str, JSON]:
        """Draw a name, a shape and some controls."""
        shape = _SAMPLES[self.data](rng)
        return {
            "name": _name(rng),
            **shape,
            "op": ("replace", "replace", "add", "subtract", "intersect")[int(rng.integers(5))],
            "invert": bool(rng.integers(2)),
            **draw_some(_BY_NAME, rng),
        }

    def express(self, effect: Effect) -> list[dict[str, JSON]]:
        """A call with the shape, where it is of this tool's kind, and what else changes. See `Tool.express`."""
        change = effect.change
        if change is None or change.part is None or not isinstance(change.part.shape, self.data):
            return []
        shape = change.part.shape.model_dump(mode="json", exclude={"kind"})
        joined = {"op": "replace" if change.anew else change.part.op, "invert": change.part.invert}
        fields = self.arguments.model_fields
        told = {name: value for name, value in {**shape, **joined}.items() if value != fields[name].default}
        return [{"name": change.name, **told, **_written(change)}]


class AdjustLocalTool(Tool):
    """Changes the controls or the amount of a local adjustment; its mask stays."""

    name = "adjust_local"
    description = (
        "Changes the controls or the amount (0 = off, 1 = full) of a local adjustment that has a mask; what is left "
        "out stays as it is."
    )

    def __init__(self) -> None:
        # Made here, so that a pickled tool makes it anew.
        self.arguments = pydantic.create_model(
            "AdjustLocalArguments", __base__=(AtLeastOne, NameArguments), **_AMOUNT, **_CONTROLS
        )

    def __reduce__(self) -> tuple[type[AdjustLocalTool], tuple[()]]:
        return (AdjustLocalTool, ())

    def effect(self, arguments: Any) -> Effect:
        """Set what was given."""
        return Effect(change=LocalChange(arguments.name, None, False, _given(arguments), arguments.amount))

    def sample(self, rng: np.random.Generator) -> dict[str, JSON]:
        """Draw a name, an amount and some controls."""
        return {"name": _name(rng), "amount": _share(rng), **draw_some(_BY_NAME, rng)}


class RemoveLocalTool(Tool):
    """Takes a local adjustment away."""

    name = "remove_local"
    description = "Takes a local adjustment away, with its mask."
    arguments = NameArguments

    def effect(self, arguments: Any) -> Effect:
        """Take it away."""
        return Effect(change=LocalChange(arguments.name, remove=True))

    def sample(self, rng: np.random.Generator) -> dict[str, JSON]:
        """Draw a name."""
        return {"name": _name(rng)}


_HOW = (
    " A new name needs at least one control; a known one keeps those that are left out. op: replace begins the mask of "
    "that name anew, the others join the shape to it."
)

LOCAL_TOOLS: tuple[Tool, ...] = (
    MaskTool(
        "linear_gradient",
        "Local edit along a line: full strength before the line through (x0, y0), fading to none at (x1, y1). For "
        f"skies and foregrounds.{_HOW}",
        LinearArguments,
        LinearGradient,
    ),
    MaskTool(
        "radial_gradient",
        "Local edit in an ellipse around (x, y), fading to none at its edge; with invert, outside of it. For faces and "
        f"subjects.{_HOW}",
        RadialArguments,
        RadialGradient,
    ),
    MaskTool(
        "luminance_range",
        f"Local edit of the tones between low and high of the original photo, 0 = black, 1 = white.{_HOW}",
        LuminanceArguments,
        LuminanceRange,
    ),
    MaskTool(
        "color_range",
        "Local edit of the colours near (red, green, blue) of the original photo, each 0..1; tolerance says how near."
        f"{_HOW}",
        ColorArguments,
        ColorRange,
    ),
    MaskTool(
        "brush",
        f"Local edit along a stroke through points [x, y], fading to none at radius from it.{_HOW}",
        BrushArguments,
        Brush,
    ),
    MaskTool(
        "mask_image",
        f"Local edit where a mask image is white, stretched over the photo, for instance from a segmenter.{_HOW}",
        ImageArguments,
        MaskImage,
    ),
    AdjustLocalTool(),
    RemoveLocalTool(),
)
"""The tools of local adjustments."""


def _given(arguments: Any) -> dict[str, float]:
    return {name: getattr(arguments, name) for name in _BY_NAME if name in arguments.model_fields_set}


def _written(change: LocalChange) -> dict[str, JSON]:
    amount: dict[str, JSON] = {} if change.amount is None else {"amount": change.amount}
    return {**amount, **{name: plain(value, _BY_NAME[name]) for name, value in change.controls.items()}}


def _name(rng: np.random.Generator) -> str:
    return NAMES[int(rng.integers(len(NAMES)))]


def _share(rng: np.random.Generator) -> float:
    return round(float(rng.uniform(0, 1)), 2)


def _sample_linear(rng: np.random.Generator) -> dict[str, JSON]:
    x0, y0 = _share(rng), _share(rng)
    return {"x0": x0, "y0": y0, "x1": _share(rng), "y1": round(y0 + 0.01 + _share(rng) * 0.9, 2)}


def _sample_radial(rng: np.random.Generator) -> dict[str, JSON]:
    shape: dict[str, JSON] = {"x": _share(rng), "y": _share(rng)}
    shape |= {"radius_x": 0.01 + _share(rng), "radius_y": 0.01 + _share(rng)}
    return {**shape, "angle": float(rng.integers(-180, 180, endpoint=True)), "feather": _share(rng)}


def _sample_luminance(rng: np.random.Generator) -> dict[str, JSON]:
    low, high = sorted((_share(rng), _share(rng)))
    return {"low": low, "high": high, "feather": _share(rng)}


def _sample_color(rng: np.random.Generator) -> dict[str, JSON]:
    return {name: _share(rng) for name in ("red", "green", "blue", "tolerance", "feather")}


def _sample_brush(rng: np.random.Generator) -> dict[str, JSON]:
    count = int(rng.integers(1, 6))
    points: list[JSON] = [[_share(rng), _share(rng)] for _ in range(count)]
    return {"points": points, "radius": 0.01 + round(_share(rng) / 4, 2), "feather": _share(rng)}


def _sample_image(rng: np.random.Generator) -> dict[str, JSON]:
    packed = io.BytesIO()
    PIL.Image.fromarray(rng.integers(0, 256, (4, 6), dtype=np.uint8)).save(packed, "png")
    return {"png": base64.b64encode(packed.getvalue()).decode("ascii")}


_SAMPLES: Mapping[type[Data], Any] = {
    LinearGradient: _sample_linear,
    RadialGradient: _sample_radial,
    LuminanceRange: _sample_luminance,
    ColorRange: _sample_color,
    Brush: _sample_brush,
    MaskImage: _sample_image,
}
