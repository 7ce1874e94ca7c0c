"""Parts of a recipe that are more than a number: tone curves, crops, masks and local adjustments."""

from retouch_gym.adjustments.curves import IDENTITY, Curve, check_curve, evaluate_curve
from retouch_gym.adjustments.local import (
    MAX_LOCALS,
    Brush,
    ColorRange,
    Crop,
    LinearGradient,
    LocalAdjustment,
    LuminanceRange,
    MaskImage,
    MaskPart,
    RadialGradient,
    Shape,
    read_crop,
    read_local,
)

__all__ = [
    "IDENTITY",
    "MAX_LOCALS",
    "Brush",
    "ColorRange",
    "Crop",
    "Curve",
    "LinearGradient",
    "LocalAdjustment",
    "LuminanceRange",
    "MaskImage",
    "MaskPart",
    "RadialGradient",
    "Shape",
    "check_curve",
    "evaluate_curve",
    "read_crop",
    "read_local",
]
