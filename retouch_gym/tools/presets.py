"""Presets: named partial recipes that one call applies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pydantic

from retouch_gym.adjustments.curves import Curve
from retouch_gym.errors import ConfigurationError
from retouch_gym.tools.base import Arguments, Control, Effect, Tool
from retouch_gym.types import JSON


@dataclass(frozen=True)
class Preset:
    """A look: the values of some controls and curves. What it does not name stays as it is.

    Args:
        description: The look, in a few words.
        controls: Control name to value.
        curves: Curve name to points.
    """

    description: str
    controls: Mapping[str, float]
    curves: Mapping[str, Curve] = field(default_factory=dict)


PRESETS: Mapping[str, Preset] = {
    "natural": Preset(
        "a gentle lift for a flat photo",
        {"contrast": 8, "highlights": -20, "shadows": 20, "vibrance": 12, "clarity": 6},
    ),
    "punchy": Preset(
        "strong contrast and colour",
        {"contrast": 25, "whites": 12, "blacks": -15, "clarity": 18, "dehaze": 8, "vibrance": 28},
    ),
    "soft_portrait": Preset(
        "warm, soft skin",
        {"exposure": 0.2, "highlights": -25, "shadows": 18, "texture": -18, "clarity": -8, "temperature": 6}
        | {"hsl_orange_saturation": -6, "hsl_orange_luminance": 8},
    ),
    "golden_hour": Preset(
        "warm evening light",
        {"temperature": 22, "tint": 4, "highlights": -20, "shadows": 15, "vibrance": 15}
        | {"grading_highlights_hue": 45, "grading_highlights_saturation": 18},
    ),
    "teal_and_orange": Preset(
        "cinema colours: cool shadows, warm highlights",
        {"contrast": 12, "grading_shadows_hue": 195, "grading_shadows_saturation": 22}
        | {"grading_highlights_hue": 38, "grading_highlights_saturation": 18, "hsl_blue_hue": -15},
    ),
    "faded_film": Preset(
        "lifted blacks, muted colour, grain",
        {"contrast": -8, "saturation": -15, "grain_amount": 25, "grain_size": 30}
        | {"grading_shadows_hue": 160, "grading_shadows_saturation": 8},
        {"curve": ((0.0, 0.08), (0.25, 0.27), (0.75, 0.77), (1.0, 0.95))},
    ),
    "landscape": Preset(
        "clear distance, deep sky, rich greens",
        {"highlights": -35, "shadows": 25, "clarity": 15, "dehaze": 18, "vibrance": 20}
        | {"hsl_blue_saturation": 12, "hsl_blue_luminance": -14, "hsl_green_saturation": 8, "sharpening_amount": 40},
    ),
    "low_key": Preset(
        "dark and quiet, corners in shade",
        {"exposure": -0.5, "highlights": -30, "blacks": -20, "contrast": 15, "vignette_amount": -25},
    ),
    "high_key": Preset(
        "bright and airy",
        {"exposure": 0.5, "highlights": -15, "shadows": 35, "contrast": -10, "whites": 15, "clarity": -6},
    ),
    "classic_bw": Preset(
        "black and white with dark skies and light skin",
        {"black_and_white": 1, "contrast": 20, "clarity": 12, "bw_blue": -35, "bw_aqua": -20}
        | {"bw_orange": 18, "bw_red": 8, "bw_yellow": 12},
    ),
}
"""Presets of our own."""


class PresetTool(Tool):
    """Applies a preset by name.

    Args:
        presets: Name to preset.
        controls: The controls of the toolset; those that no preset sets are left out.

    Raises:
        ConfigurationError: If a preset sets a control that is not there, or a value out of its range.
    """

    name = "preset"

    def __init__(self, presets: Mapping[str, Preset], controls: tuple[Control, ...]) -> None:
        known = {control.name: control for control in controls}
        for name, preset in presets.items():
            for control, value in preset.controls.items():
                if control not in known or not known[control].low <= value <= known[control].high:
                    raise ConfigurationError(f"Preset {name!r} sets {control} = {value}, which the toolset cannot.")
        self.presets = dict(presets)
        used = {control for preset in presets.values() for control in preset.controls}
        self.controls = tuple(control for control in controls if control.name in used)
        looks = "; ".join(f"{name}: {preset.description}" for name, preset in presets.items())
        self.description = (
            f"Applies a look, a set of controls to go on from; it replaces the values that it names and keeps the "
            f"rest. {looks}."
        )
        fields: dict[str, Any] = {"name": (Literal[tuple(presets)], pydantic.Field(description="The look."))}
        self.arguments = pydantic.create_model("PresetArguments", __base__=Arguments, **fields)

    def __reduce__(self) -> tuple[type[PresetTool], tuple[Any, ...]]:
        # The arguments model is made at run time, so it cannot be pickled by reference.
        return (PresetTool, (self.presets, self.controls))

    def effect(self, arguments: Any) -> Effect:
        """Set what the preset names."""
        preset = self.presets[arguments.name]
        return Effect(dict(preset.controls), curves=dict(preset.curves))

    def sample(self, rng: np.random.Generator) -> dict[str, JSON]:
        """Draw a preset."""
        return {"name": list(self.presets)[int(rng.integers(len(self.presets)))]}
