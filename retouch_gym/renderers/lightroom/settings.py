"""The values that a recipe gives to the controls, checked, with the defaults of those it leaves alone."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

from retouch_gym.errors import RendererError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.tools.base import Control
from retouch_gym.tools.lightroom_controls import COLORS, CONTROLS, CURVES, LOCAL, ZONES

TOOLSET = "lightroom"
"""Name of the toolset."""

Settings: TypeAlias = Mapping[str, float]
"""Every global control by name, in the control's own unit."""

DEFAULTS: Settings = MappingProxyType({control.name: float(control.default) for control in CONTROLS})
"""What changes nothing."""

_GLOBAL = {control.name: control for control in CONTROLS}
_LOCAL = {control.name: control for control in LOCAL}

WHITE_BALANCE = ("temperature", "tint")
BASIC_TONE = ("highlights", "shadows", "whites", "blacks", "contrast")
PARAMETRIC = ("curve_highlights", "curve_lights", "curve_darks", "curve_shadows")
TONE = (*WHITE_BALANCE, "exposure", *BASIC_TONE, *PARAMETRIC)
"""Controls that look at one channel of one pixel."""

CALIBRATION = tuple(f"calibration_{p}_{what}" for p in ("red", "green", "blue") for what in ("hue", "saturation"))
LUMA_DETAIL = ("noise_luminance", "texture", "clarity", "sharpening_amount")
"""Controls that look at the neighbours' luma."""

HSL = tuple(f"hsl_{color}_{what}" for color in COLORS for what in ("hue", "saturation", "luminance"))
GRADING = (
    "calibration_shadow_tint",
    *(f"grading_{zone}_{what}" for zone in ZONES for what in ("saturation", "luminance")),
)
RECOLOR = ("vibrance", "saturation", "black_and_white", *HSL)
"""Controls of `color.recolor`; GRADING are those of `color.grading_offsets`."""


def settings_of(recipe: Recipe) -> Settings:
    """All global controls of a recipe.

    Raises:
        RendererError: If the toolset is another one, a control or curve is unknown, or a value is out of range.
    """
    if recipe.toolset != TOOLSET:
        raise RendererError(f"Expected a recipe of toolset {TOOLSET!r}, got one of {recipe.toolset!r}.")
    for name in recipe.curves:
        if name not in CURVES:
            raise RendererError(f"Unknown curve {name!r}; toolset {TOOLSET!r} has {', '.join(CURVES)}.")
    for local in recipe.locals:
        _check(local.controls, _LOCAL, f"local adjustment {local.name!r}")
    return with_defaults(_check(recipe.controls, _GLOBAL, f"toolset {TOOLSET!r}"))


def with_defaults(controls: Mapping[str, float]) -> Settings:
    """All controls: those given, and the defaults of the others."""
    return {**DEFAULTS, **controls}


def is_neutral(settings: Settings, names: tuple[str, ...]) -> bool:
    """Whether all the named controls are at their default."""
    return all(settings[name] == DEFAULTS[name] for name in names)


def _check(controls: Mapping[str, float], known: Mapping[str, Control], where: str) -> Mapping[str, float]:
    for name, value in controls.items():
        control = known.get(name)
        if control is None:
            raise RendererError(f"Unknown control {name!r}; {where} has {', '.join(known)}.")
        if not control.low <= value <= control.high:
            raise RendererError(f"{name} = {value} is outside {control.low:g}..{control.high:g}; check the recipe.")
    return controls
