"""How Lightroom Classic calls the controls in its files (namespace ``crs``)."""

from __future__ import annotations

from collections.abc import Mapping

from retouch_gym.tools.base import Control
from retouch_gym.tools.lightroom_controls import COLORS, CONTROLS, LOCAL


def _names() -> dict[str, str]:
    names = {name: f"{name.title()}2012" for name in ("exposure", "contrast", "highlights", "shadows", "whites")}
    names |= {"blacks": "Blacks2012", "clarity": "Clarity2012"}
    names |= {name: name.title() for name in ("vibrance", "saturation", "texture", "dehaze")}
    names |= {name: f"Incremental{name.title()}" for name in ("temperature", "tint")}
    names |= {f"curve_{zone}": f"Parametric{zone.title()}" for zone in ("highlights", "lights", "darks", "shadows")}
    for color in COLORS:
        for what in ("hue", "saturation", "luminance"):
            names[f"hsl_{color}_{what}"] = f"{what.title()}Adjustment{color.title()}"
        names[f"bw_{color}"] = f"GrayMixer{color.title()}"
    for zone, crs in (
        ("shadows", "Shadow"),
        ("midtones", "Midtone"),
        ("highlights", "Highlight"),
        ("global", "Global"),
    ):
        # Shadows and highlights kept the names that they had as split toning.
        split = zone in ("shadows", "highlights")
        names[f"grading_{zone}_hue"] = f"SplitToning{crs}Hue" if split else f"ColorGrade{crs}Hue"
        names[f"grading_{zone}_saturation"] = f"SplitToning{crs}Saturation" if split else f"ColorGrade{crs}Sat"
        names[f"grading_{zone}_luminance"] = f"ColorGrade{crs}Lum"
    names |= {"grading_balance": "SplitToningBalance", "grading_blending": "ColorGradeBlending"}
    names |= {"sharpening_amount": "Sharpness", "sharpening_radius": "SharpenRadius"}
    names |= {"sharpening_detail": "SharpenDetail", "sharpening_masking": "SharpenEdgeMasking"}
    names |= {"noise_luminance": "LuminanceSmoothing", "noise_color": "ColorNoiseReduction"}
    for what in ("amount", "midpoint", "roundness", "feather"):
        names[f"vignette_{what}"] = f"PostCropVignette{what.title()}"
    names |= {"grain_amount": "GrainAmount", "grain_size": "GrainSize", "grain_roughness": "GrainFrequency"}
    names |= {"black_and_white": "ConvertToGrayscale", "calibration_shadow_tint": "ShadowTint"}
    for primary in ("red", "green", "blue"):
        for what in ("hue", "saturation"):
            names[f"calibration_{primary}_{what}"] = f"{primary.title()}{what.title()}"
    return names


NAMES: Mapping[str, str] = _names()
"""Control to name, for every global control."""

BY_CRS: Mapping[str, Control] = {NAMES[control.name]: control for control in CONTROLS}
"""Name to control."""

CURVE_NAMES: Mapping[str, str] = {
    "curve": "ToneCurvePV2012",
    "curve_red": "ToneCurvePV2012Red",
    "curve_green": "ToneCurvePV2012Green",
    "curve_blue": "ToneCurvePV2012Blue",
}
"""Curve to name."""

_LOCAL_NAMES = {
    **{name: f"Local{name.title()}2012" for name in ("exposure", "contrast", "highlights", "shadows", "whites")},
    **{name: f"Local{name.title()}" for name in ("temperature", "tint", "saturation", "texture", "dehaze")},
    "blacks": "LocalBlacks2012",
    "clarity": "LocalClarity2012",
    "sharpening_amount": "LocalSharpness",
    "noise_luminance": "LocalLuminanceNoise",
}

LOCAL_NAMES: Mapping[str, tuple[str, float]] = {
    control.name: (_LOCAL_NAMES[control.name], 4.0 if control.name == "exposure" else 100.0)
    for control in LOCAL
    if control.name in _LOCAL_NAMES
}
"""Local control to name and to the value that the file calls 1, which is also the most that it can say."""

BOOKKEEPING = frozenset(
    {
        *("Version", "ProcessVersion", "CompatibleVersion", "HasSettings", "AlreadyApplied", "RawFileName", "UUID"),
        *("PresetType", "Cluster", "CameraModelRestriction", "Copyright", "ContactInfo", "Name", "ShortName"),
        *("SortName", "Group", "Description", "SupportsAmount", "SupportsAmount2", "SupportsColor"),
        *("SupportsMonochrome", "SupportsHighDynamicRange", "SupportsNormalDynamicRange", "SupportsSceneReferred"),
        *("SupportsOutputReferred", "CameraProfileDigest", "ToneCurveName", "ToneCurveName2012", "WhiteBalance"),
        *("HasCrop", "CropTop", "CropLeft", "CropBottom", "CropRight", "CropAngle", "CropConstrainToWarp"),
        *("CropConstrainToUnitSquare", "CropUnit", "CropWidth", "CropHeight", "MaskGroupBasedCorrections"),
        *("AsShotTemperature", "AsShotTint", "UprightVersion", "UprightCenterMode", "UprightCenterNormX"),
        *("UprightCenterNormY", "UprightFocalMode", "UprightFocalLength35mm", "UprightPreview"),
        *("UprightTransformCount", "UprightFourSegmentsCount", "LensProfileSetup", "GrainSeed", "PreviewConverter"),
        *("DefringePurpleHueLo", "DefringePurpleHueHi", "DefringeGreenHueLo", "DefringeGreenHueHi"),
        *("OverrideLookVignette", "AutoGrayscaleMix", "HDRMaxValue", "RequiresRenditionBehavior"),
        # Of process versions before 2012; newer ones keep writing them and heed them no more.
        *("ToneCurve", "ToneCurveRed", "ToneCurveGreen", "ToneCurveBlue"),
    }
)
"""Names that are no edit by themselves, or are read together with another."""

PLAIN: Mapping[str, int] = {
    "ParametricShadowSplit": 25,
    "ParametricMidtoneSplit": 50,
    "ParametricHighlightSplit": 75,
    "CurveRefineSaturation": 100,
    "PostCropVignetteStyle": 1,
    "ColorNoiseReductionDetail": 50,
    "ColorNoiseReductionSmoothness": 50,
    "LuminanceNoiseReductionDetail": 50,
}
"""Settings that a recipe does not have, at the values that its own settings take for granted."""

NEUTRAL: Mapping[str, tuple[str | float, ...]] = {
    **{name: (value,) for name, value in PLAIN.items()},
    "Amount": (1,),
    "PerspectiveScale": (100,),
    "Treatment": ("Color",),
    "CameraProfile": ("", "Adobe Standard", "Adobe Color", "Embedded"),
}
"""Values that change nothing, of settings that a recipe does not have; of any other setting, 0 and False do."""
