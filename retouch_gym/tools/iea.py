"""The 16 global sliders of IEA (arXiv 2606.08016), integers with 0 = untouched.

Two toolsets. `IEA` is the default: every slider does what its name says, and a value that cannot mean
anything (a negative fade or grain) is refused. `IEA_COMPAT` accepts −100..100 everywhere, as the
published editor does, and its recipes render with that editor's quirks.
"""

from __future__ import annotations

from retouch_gym.tools.base import Control, FinishTool, SliderTool, UndoTool
from retouch_gym.tools.toolset import Toolset

SLIDERS: dict[str, str] = {
    "exposure": "Multiplies all tones, -100 = one stop darker, 100 = one stop brighter.",
    "brightness": "Adds to all tones, negative darker, positive brighter.",
    "contrast": "Spreads (positive) or compresses (negative) the tones around the middle.",
    "natural_contrast": "S-curve: positive steepens the midtones and keeps the ends, negative flattens.",
    "highlights": "Bends the upper midtones, negative darker, positive brighter; black and white stay.",
    "shadows": "Lifts (positive) or deepens (negative) the dark tones; white stays.",
    "whites": "Scales towards the white end, negative darker, positive brighter; black stays.",
    "blacks": "Raises (positive) or lowers (negative) the black end; white stays.",
    "saturation": "Strength of all colours, -100 = grey, 100 = double.",
    "vibrance": "Strength of muted colours, sparing those that are strong already.",
    "temperature": "Negative cooler (blue), positive warmer (orange).",
    "tint": "Negative towards magenta, positive towards green.",
    "sharpness": "Positive sharpens edges, negative blurs.",
    "vignette": "Positive darkens the corners, negative brightens them.",
    "fade": "Washes out: lifts the blacks and lowers contrast.",
    "grain": "Adds film grain.",
}
"""Name of each slider and what it does, in the published order."""

ONE_SIDED = frozenset({"fade", "grain"})
"""Sliders whose negative half does nothing in the published editor."""


def _toolset(name: str, one_sided: frozenset[str]) -> Toolset:
    sliders = [
        SliderTool(Control(slider, 0 if slider in one_sided else -100, 100), description)
        for slider, description in SLIDERS.items()
    ]
    return Toolset(name, (*sliders, FinishTool(), UndoTool()))


IEA = _toolset("iea", ONE_SIDED)
"""The 16 sliders with the published editor's quirks mended."""

IEA_COMPAT = _toolset("iea-compat", frozenset())
"""The 16 sliders exactly as published, quirks included."""
