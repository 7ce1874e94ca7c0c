"""The global scalar controls of the toolset ``lightroom``: Lightroom Classic's names, units and ranges.

Names are snake case; the tool that sets a control is in `retouch_gym.tools.lightroom`.
"""

from __future__ import annotations

from retouch_gym.tools.base import Control

COLORS = ("red", "orange", "yellow", "green", "aqua", "blue", "purple", "magenta")
"""The eight colour bands of HSL and of the black-and-white mix."""

ZONES = ("shadows", "midtones", "highlights", "global")
"""The wheels of colour grading."""


def _slider(name: str, low: float = -100, high: float = 100, default: float = 0, unit: str = "slider") -> Control:
    return Control(name, low, high, default, unit)


BASIC = (
    Control("exposure", -5, 5, 0, "EV", integer=False),
    *(_slider(name) for name in ("contrast", "highlights", "shadows", "whites", "blacks")),
    _slider("temperature"),
    _slider("tint"),
    *(_slider(name) for name in ("vibrance", "saturation", "texture", "clarity", "dehaze")),
)
"""The basic panel. Temperature and tint are relative: negative is cooler and greener."""

PARAMETRIC = tuple(_slider(f"curve_{zone}") for zone in ("highlights", "lights", "darks", "shadows"))
"""The parametric tone curve."""

HSL = tuple(_slider(f"hsl_{color}_{what}") for color in COLORS for what in ("hue", "saturation", "luminance"))
"""Hue, saturation and luminance of each colour band."""

GRADING = (
    *(
        control
        for zone in ZONES
        for control in (
            _slider(f"grading_{zone}_hue", 0, 360, 0, "degrees"),
            _slider(f"grading_{zone}_saturation", 0, 100),
            _slider(f"grading_{zone}_luminance"),
        )
    ),
    _slider("grading_balance"),
    _slider("grading_blending", 0, 100, 50),
)
"""Colour grading. A hue without saturation changes nothing; nor do balance and blending alone."""

DETAIL = (
    _slider("sharpening_amount", 0, 150),
    Control("sharpening_radius", 0.5, 3, 1, "pixels", integer=False),
    _slider("sharpening_detail", 0, 100, 25),
    _slider("sharpening_masking", 0, 100, 0),
    _slider("noise_luminance", 0, 100),
    _slider("noise_color", 0, 100),
)
"""Sharpening and noise reduction. Radius, detail and masking alone change nothing."""

EFFECTS = (
    _slider("vignette_amount"),
    _slider("vignette_midpoint", 0, 100, 50),
    _slider("vignette_roundness"),
    _slider("vignette_feather", 0, 100, 50),
    _slider("grain_amount", 0, 100),
    _slider("grain_size", 0, 100, 25),
    _slider("grain_roughness", 0, 100, 50),
)
"""Vignette (negative darkens the corners) and grain."""

BLACK_AND_WHITE = (
    Control("black_and_white", 0, 1, 0, "switch"),
    *(_slider(f"bw_{color}") for color in COLORS),
)
"""Conversion to grey, and how bright each colour band becomes in it. The mix alone changes nothing."""

CALIBRATION = (
    _slider("calibration_shadow_tint"),
    *(
        _slider(f"calibration_{primary}_{what}")
        for primary in ("red", "green", "blue")
        for what in ("hue", "saturation")
    ),
)
"""Camera calibration: the primaries."""

CONTROLS = (*BASIC, *PARAMETRIC, *HSL, *GRADING, *DETAIL, *EFFECTS, *BLACK_AND_WHITE, *CALIBRATION)
"""Every global scalar control, in the order of the panels."""

CURVES = ("curve", "curve_red", "curve_green", "curve_blue")
"""The point curves: all channels, and each."""

LOCAL = (
    Control("exposure", -4, 4, 0, "EV", integer=False),
    *(
        control
        for control in (*BASIC[1:], *DETAIL)
        if control.name not in ("sharpening_radius", "sharpening_detail", "sharpening_masking")
    ),
)
"""The controls that local adjustments can carry; their exposure has a stop less than the global one."""
