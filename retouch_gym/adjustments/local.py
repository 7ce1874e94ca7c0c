"""Crops, masks and local adjustments as plain data.

Places are shares of the photo's width and height, 0..1 from the left and from the top, before any crop, so that a
recipe fits a thumbnail and the full photo alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias, TypeVar

import pydantic

from retouch_gym.errors import RecipeError

Share: TypeAlias = Annotated[float, pydantic.Field(ge=0, le=1)]
Place: TypeAlias = Annotated[float, pydantic.Field(ge=-1, le=2)]
"""A place that may lie outside the photo."""

MAX_LOCALS = 32
"""Most local adjustments of a recipe."""

MAX_PARTS = 16
"""Most shapes of a mask."""

MAX_MASK_BYTES = 1 << 22
"""Most characters of a mask image in a recipe (base64)."""


class Data(pydantic.BaseModel):
    """Immutable, hashable, strict data without extras, NaN or infinity."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


AnyData = TypeVar("AnyData", bound=Data)


class Crop(Data):
    """What is kept of the photo, after it was straightened.

    The photo is turned about its centre by `angle` and the rectangle is cut out of the turned frame. The result has
    round((right − left) · width) × round((bottom − top) · height) pixels, at least 1 × 1.
    """

    left: Share = 0.0
    top: Share = 0.0
    right: Share = 1.0
    bottom: Share = 1.0
    angle: Annotated[float, pydantic.Field(ge=-45, le=45, description="Degrees, positive turns clockwise.")] = 0.0

    @pydantic.model_validator(mode="after")
    def _is_rectangle(self) -> Crop:
        if not (self.left < self.right and self.top < self.bottom):
            raise ValueError(
                f"left {self.left} should be below right {self.right}, and top {self.top} below bottom {self.bottom}"
            )
        return self


class LinearGradient(Data):
    """1 before the line through (x0, y0), falling smoothly to 0 at the line through (x1, y1)."""

    kind: Literal["linear"] = "linear"
    x0: Place
    y0: Place
    x1: Place
    y1: Place


class RadialGradient(Data):
    """1 inside an ellipse, falling to 0 at its edge over `feather` (a share of the radius)."""

    kind: Literal["radial"] = "radial"
    x: Place
    y: Place
    radius_x: Annotated[float, pydantic.Field(gt=0, le=2, description="Share of the width.")]
    radius_y: Annotated[float, pydantic.Field(gt=0, le=2, description="Share of the height.")]
    angle: Annotated[float, pydantic.Field(ge=-180, le=180)] = 0.0
    feather: Share = 0.5


class LuminanceRange(Data):
    """1 where the source's encoded luma is in low..high, falling to 0 over `feather` beyond."""

    kind: Literal["luminance"] = "luminance"
    low: Share = 0.0
    high: Share = 1.0
    feather: Share = 0.1


class ColorRange(Data):
    """1 near a colour of the source (encoded R, G, B), falling to 0 at `tolerance` + `feather` from it."""

    kind: Literal["color"] = "color"
    red: Share
    green: Share
    blue: Share
    tolerance: Share = 0.15
    feather: Share = 0.1


class Brush(Data):
    """1 near a stroke through points, falling to 0 at `radius`; the inner 1 − `feather` of it is whole."""

    kind: Literal["brush"] = "brush"
    points: Annotated[tuple[tuple[Place, Place], ...], pydantic.Field(min_length=1, max_length=256)]
    radius: Annotated[float, pydantic.Field(gt=0, le=1, description="Share of the longer side.")]
    feather: Share = 0.5


class MaskImage(Data):
    """A mask from outside, for instance of a segmenter: a grey PNG as base64, stretched over the photo."""

    kind: Literal["image"] = "image"
    png: Annotated[str, pydantic.Field(min_length=1, max_length=MAX_MASK_BYTES)]


Shape: TypeAlias = Annotated[
    LinearGradient | RadialGradient | LuminanceRange | ColorRange | Brush | MaskImage,
    pydantic.Field(discriminator="kind"),
]


class MaskPart(Data):
    """One shape of a mask and how it joins those before it: max (add), a·(1 − b) (subtract) or a·b (intersect)."""

    shape: Shape
    op: Literal["add", "subtract", "intersect"] = "add"
    invert: bool = False


class LocalAdjustment(Data):
    """Controls that act where a mask is, in proportion to the mask.

    Args:
        name: Unique in its recipe.
        parts: The mask, built up from the first part on.
        controls: Control name to value, as in a recipe; they add to nothing global, but act on its result.
        amount: Strength of the whole, 0..1.
    """

    name: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_ -]{1,40}$")]
    parts: Annotated[tuple[MaskPart, ...], pydantic.Field(min_length=1, max_length=MAX_PARTS)]
    controls: Mapping[str, float] = pydantic.Field(default_factory=dict)
    amount: Share = 1.0

    def __hash__(self) -> int:
        return hash((self.name, self.parts, tuple(sorted(self.controls.items())), self.amount))


def read_local(data: object) -> LocalAdjustment:
    """A local adjustment from JSON-able data.

    Raises:
        RecipeError: Naming what is wrong.
    """
    return _read(LocalAdjustment, data, "local adjustment")


def read_crop(data: object) -> Crop:
    """A crop from JSON-able data.

    Raises:
        RecipeError: Naming what is wrong.
    """
    return _read(Crop, data, "crop")


def _read(model: type[AnyData], data: object, what: str) -> AnyData:
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or what
        raise RecipeError(f"{what}: {where} = {str(first['input'])[:60]}: {first['msg']}") from None
