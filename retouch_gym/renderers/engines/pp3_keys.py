"""Which key of a RawTherapee edit file (``.pp3``) holds which control.

Measured with RawTherapee 5.9 (file version 349).

Facts from the program itself: its neutral file (``rawtherapee-cli -O``), and renderings of grey wedges and photographs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from retouch_gym.renderers.engines.support import SupportTable, approximate, exact, support_table
from retouch_gym.tools.lightroom_controls import COLORS


@dataclass(frozen=True)
class Key:
    """A key that holds a control as ``neutral + scale · value``.

    Args:
        control: Name of the control.
        section: Section of the file.
        key: Key in it.
        scale: Units of the key per unit of the control.
        neutral: The key's value where the control is 0.
        whole: Whether the program reads only whole numbers here.
    """

    control: str
    section: str
    key: str
    scale: float = 1.0
    neutral: float = 0.0
    whole: bool = True

    def write(self, value: float) -> str:
        """The key's text for a value of the control."""
        number = self.neutral + self.scale * value
        return str(round(number)) if self.whole else format_number(number)

    def read(self, number: float) -> float:
        """The control's value for the key's number."""
        return tidy((number - self.neutral) / self.scale)


def format_number(number: float) -> str:
    """A number as the program writes it, without noise in the last digits."""
    return f"{round(number, 9):.9g}"


def tidy(value: float) -> float:
    """A value without the noise of a scale, whole where it is meant to be."""
    rounded = round(value, 6)
    return int(rounded) if rounded == int(rounded) else rounded


KEYS = (
    Key("exposure", "Exposure", "Compensation", whole=False),
    Key("contrast", "Exposure", "Contrast", scale=0.4),
    Key("blacks", "Exposure", "Black", scale=-10),
    Key("highlights", "Shadows & Highlights", "Highlights", scale=-1),
    Key("shadows", "Shadows & Highlights", "Shadows"),
    Key("vibrance", "Vibrance", "Pastels", scale=0.5),
    Key("saturation", "Luminance Curve", "Chromaticity"),
    Key("texture", "Directional Pyramid Equalizer", "Mult0", scale=0.008, neutral=1, whole=False),
    Key("clarity", "Local Contrast", "Amount", scale=0.0025, whole=False),
    Key("dehaze", "Dehaze", "Strength", scale=0.5),
    Key("sharpening_amount", "Sharpening", "Amount"),
    Key("sharpening_radius", "Sharpening", "Radius", whole=False),
    Key("sharpening_masking", "Sharpening", "Contrast"),
    Key("noise_luminance", "Directional Pyramid Denoising", "Luma", scale=0.2, whole=False),
    Key("noise_color", "Directional Pyramid Denoising", "Chroma", scale=0.1, whole=False),
    Key("vignette_amount", "PCVignette", "Strength", scale=-0.028, whole=False),
    Key("vignette_roundness", "PCVignette", "Roundness", scale=0.5, neutral=50),
    Key("vignette_feather", "PCVignette", "Feather"),
    Key("bw_red", "Black & White", "MixerRed", neutral=33),
    Key("bw_orange", "Black & White", "MixerOrange", neutral=33),
    Key("bw_yellow", "Black & White", "MixerYellow", neutral=33),
    Key("bw_green", "Black & White", "MixerGreen", neutral=33),
    Key("bw_aqua", "Black & White", "MixerCyan", neutral=33),
    Key("bw_blue", "Black & White", "MixerBlue", neutral=33),
    Key("bw_purple", "Black & White", "MixerPurple", neutral=33),
    Key("bw_magenta", "Black & White", "MixerMagenta", neutral=33),
)
"""Controls that one number holds."""

ALWAYS: Mapping[str, Mapping[str, str]] = {
    "Version": {"AppVersion": "5.9", "Version": "349"},
    # Channels clip one by one at the primaries of sRGB, as in the other renderers.
    "Exposure": {"ClampOOG": "false", "CurveMode": "Standard", "CurveMode2": "Standard"},
    "Color Management": {"WorkingProfile": "sRGB", "OutputProfile": "RTv4_sRGB"},
}
"""What every file says."""

FIXED: Mapping[str, Mapping[str, str]] = {
    "Shadows & Highlights": {"HighlightTonalWidth": "100", "ShadowTonalWidth": "20", "Radius": "40", "Lab": "false"},
    "Vibrance": {"PastSatTog": "true", "PSThreshold": "0;75;", "ProtectSkins": "false", "AvoidColorShift": "false"},
    "Luminance Curve": {"AvoidColorShift": "false", "RedAndSkinTonesProtection": "0"},
    "Directional Pyramid Equalizer": {
        "Mult2": "1", "Mult3": "1", "Mult4": "1", "Mult5": "1", "Threshold": "0.2", "cbdlMethod": "bef",
    },
    "Local Contrast": {"Darkness": "1", "Lightness": "1"},
    "Dehaze": {"Depth": "25", "Saturation": "50"},
    "Sharpening": {"Method": "usm", "BlurRadius": "0.2", "Threshold": "20;80;2000;1200;", "OnlyEdges": "false"},
    "Directional Pyramid Denoising": {
        "Method": "Lab", "CMethod": "MAN", "C2Method": "MANU", "Ldetail": "0", "Gamma": "1.7", "Passes": "1",
    },
    "Black & White": {"Method": "ChannelMixer", "Setting": "ROYGCBPM-Rel", "Filter": "None", "Auto": "false"},
    "RGB Curves": {"LumaMode": "false"},
    "PCVignette": {},
    "HSV Equalizer": {},
    "Rotation": {},
    "Crop": {},
    "White Balance": {"Setting": "Custom", "Equal": "1", "TemperatureBias": "0"},
}  # fmt: skip
"""What a section says besides its controls, where it is used."""

UNSWITCHED = frozenset(
    {"Version", "Exposure", "Color Management", "Rotation", "Common Properties for Transformations"}
    | {"Coarse Transformation", "Distortion", "LensProfile", "Perspective", "CACorrection", "Vignetting Correction"}
)
"""Sections that have no key ``Enabled``; the others are off unless it is true."""

CLARITY_RADIUS, LONGEST = 0.02, 4000
"""Radius of clarity as a share of the photo's longer side, and that side where it is not known."""

TWINS: Mapping[str, str] = {"Pastels": "Saturated", "Mult0": "Mult1"}
"""Keys that say the same as another."""

HSV_CURVES: Mapping[str, tuple[str, float]] = {
    "hue": ("HCurve", 30 / 720),
    "saturation": ("SCurve", 0.5),
    "luminance": ("VCurve", 0.5),
}
"""What of a colour band is shifted, to the curve of the HSV equaliser and its change from 0.5 for a value of 100."""

PARAMETRIC: Mapping[str, float] = {
    "curve_highlights": 0.9,
    "curve_lights": 0.65,
    "curve_darks": 0.65,
    "curve_shadows": 0.9,
}
"""Controls of a parametric curve, in the file's order, with units of the file per unit of the control."""

CATMULL_ROM, PARAMETRIC_KIND = 4, 2
"""First number of a curve: what kind it is."""

IDLE_SECTIONS = frozenset(
    {"Version", "General", "MetaData", "RAW", "RAW Bayer", "RAW X-Trans", "RAW Preprocess WB"}
    | {"Common Properties for Transformations", "Color Management"}
)
"""Sections that are not about the look of a photo that is no raw file."""

IDLE_KEYS: Mapping[str, frozenset[str]] = {
    "Exposure": frozenset({"Clip", "ShadowCompr", "HighlightComprThreshold", "ClampOOG"}),
    "Crop": frozenset({"FixedRatio", "Ratio", "Orientation", "Guide"}),
    "Rotation": frozenset(),
    "White Balance": frozenset(),
    "LensProfile": frozenset({"UseDistortion", "UseVignette", "UseCA"}),
    "Vignetting Correction": frozenset({"Radius", "Strength"}),
    "Perspective": frozenset({"Method"}),
    "Luminance Curve": frozenset({"LCredsk"}),
    "Local Contrast": frozenset({"Radius"}),
    "Sharpening": frozenset(
        {"EdgedetectionRadius", "EdgeTolerance", "HalocontrolAmount"}
        | {"DeconvRadius", "DeconvAmount", "DeconvDamping", "DeconvIterations"}
    ),
    "Directional Pyramid Denoising": frozenset({"LMethod", "SMethod", "MedMethod", "RGBMethod", "LCurve", "CCCurve"}),
    "Directional Pyramid Equalizer": frozenset({"Skinprotect", "Hueskin"}),
    "Black & White": frozenset({"ComplementaryColors", "Algorithm", "BeforeCurveMode", "AfterCurveMode"}),
}
"""Keys that do nothing by themselves, by section."""

NOTHING = frozenset({"", "0", "0;", "false", "none"})
"""Values that change nothing, whatever the key."""


def _support() -> SupportTable:
    bands = {
        f"hsl_{color}_{what}": approximate(f"HSV Equalizer, {key}")
        for color in COLORS
        for what, (key, _) in HSV_CURVES.items()
    }
    return support_table(
        exposure=exact("Exposure, Compensation"),
        contrast=approximate("Exposure, Contrast: about the photo's mean"),
        highlights=approximate("Shadows & Highlights, Highlights: by region, darkens only", high=0),
        shadows=approximate("Shadows & Highlights, Shadows: by region, lightens only", low=0),
        blacks=approximate("Exposure, Black"),
        temperature=approximate("White Balance, Temperature: multiplies encoded values"),
        tint=approximate("White Balance, Green: multiplies encoded values"),
        vibrance=approximate("Vibrance, Pastels and Saturated"),
        saturation=approximate("Luminance Curve, Chromaticity: chroma of Lab"),
        texture=approximate("Directional Pyramid Equalizer, two finest levels"),
        clarity=approximate("Local Contrast, Amount, with a Radius of 2% of the longer side", low=0),
        dehaze=approximate("Dehaze, Strength", low=0),
        **{name: approximate("Exposure, Curve2: parametric") for name in PARAMETRIC},
        **bands,
        sharpening_amount=approximate("Sharpening, unsharp mask, Amount"),
        sharpening_radius=approximate("Sharpening, unsharp mask, Radius"),
        sharpening_masking=approximate("Sharpening, Contrast"),
        noise_luminance=approximate("Directional Pyramid Denoising, Luma"),
        noise_color=approximate("Directional Pyramid Denoising, Chroma"),
        vignette_amount=approximate("PCVignette, Strength: darkens only", high=0),
        vignette_roundness=approximate("PCVignette, Roundness"),
        vignette_feather=approximate("PCVignette, Feather"),
        black_and_white=approximate("Black & White, ChannelMixer"),
        **{key.control: approximate(f"Black & White, {key.key}") for key in KEYS if key.section == "Black & White"},
        curve=approximate("Exposure, Curve: Catmull–Rom through the same points"),
        curve_red=approximate("RGB Curves, rCurve: Catmull–Rom through the same points"),
        curve_green=approximate("RGB Curves, gCurve: Catmull–Rom through the same points"),
        curve_blue=approximate("RGB Curves, bCurve: Catmull–Rom through the same points"),
        crop=exact("Crop"),
        straighten=approximate("Rotation: corners that the turn opens are black"),
    )


RAWTHERAPEE = _support()
"""How RawTherapee renders each part of a recipe."""
