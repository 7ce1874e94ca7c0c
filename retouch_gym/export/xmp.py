"""Recipes of the toolset ``lightroom`` as Lightroom Classic's files: sidecars and presets (``.xmp``).

Names, units and ranges are Lightroom's own; numbers are rounded as Lightroom rounds them (whole sliders, two decimals
of exposure, one of the sharpening radius, 256 levels of a curve, six decimals of a place).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from xml.sax.saxutils import escape, quoteattr

from retouch_gym.adjustments.curves import IDENTITY, Curve, check_curve
from retouch_gym.adjustments.local import Crop, LocalAdjustment
from retouch_gym.errors import RecipeError
from retouch_gym.export._rdf import CRS, RDF, TIFF, Properties, number, parse, truth
from retouch_gym.export._xmp_crop import Size, read_crop_from, write_crop
from retouch_gym.export._xmp_locals import read_locals, write_locals
from retouch_gym.export._xmp_names import BOOKKEEPING, BY_CRS, CURVE_NAMES, NEUTRAL, PLAIN
from retouch_gym.export.report import Exported, Imported
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.tools.base import Control
from retouch_gym.tools.lightroom_controls import CONTROLS, LOCAL

TOOLSET = "lightroom"
"""The toolset whose recipes can be written."""

PROCESS_VERSION = "11.0"
"""Written: process version 5, of Lightroom Classic 8 and later."""

OLDEST, NEWEST = 6.7, 15.4
"""Process versions that are read: 3 (of 2012, with which these controls came) to 6."""

_DECIMALS = {"exposure": 2, "sharpening_radius": 1}


def export_xmp(recipe: Recipe, *, preset: str | None = None, size: Size | None = None) -> Exported:
    """A recipe as Lightroom's XMP, with a list of what Lightroom cannot hold.

    Every control is written, at its default too, so that Lightroom's own defaults (it sharpens raw photos) do not
    join in. Lightroom reads sidecars beside raw files only; for other photos export a preset.

    Args:
        recipe: A recipe of the toolset ``lightroom``.
        preset: Name of the preset; None writes a sidecar.
        size: Width and height of the photo, which straightened crops and turned radial gradients need.

    Raises:
        RecipeError: If the recipe is of another toolset, or has an unknown control or a value out of range.
    """
    _check(recipe)
    left_out: list[str] = []
    values = {crs: _write(control, recipe) for crs, control in BY_CRS.items()}
    relative = recipe["temperature"] or recipe["tint"]
    head = {"Version": "15.4", "ProcessVersion": PROCESS_VERSION, "WhiteBalance": "Custom" if relative else "As Shot"}
    fixed = {key: str(value) for key, value in PLAIN.items()}
    crop = write_crop(recipe.crop, size, left_out)
    curves = "".join(_write_curve(recipe.curves.get(name, IDENTITY), crs) for name, crs in CURVE_NAMES.items())
    body = curves + write_locals(recipe.locals, size, left_out)
    if recipe.seed and recipe["grain_amount"]:
        left_out.append(f"seed = {recipe.seed}: Lightroom draws its own grain")
    attributes = {**head, **values, **fixed, **crop, "HasSettings": "True"}
    if preset is not None:
        attributes = {**_preset(preset, attributes, body), **attributes}
        body = _title(preset) + body
    written = [f"crs:{key}={quoteattr(value)}" for key, value in attributes.items()]
    if size is not None:
        written += [f'tiff:ImageWidth="{size[0]}"', f'tiff:ImageLength="{size[1]}"']
    return Exported(_packet(written, body), tuple(left_out))


def to_xmp(recipe: Recipe, *, preset: str | None = None, size: Size | None = None, partial: bool = False) -> str:
    """A recipe as Lightroom's XMP. See `export_xmp`.

    Raises:
        RecipeError: As `export_xmp`; and, unless `partial`, if Lightroom cannot hold all of the recipe.
    """
    exported = export_xmp(recipe, preset=preset, size=size)
    return exported.text if partial else exported.whole()


def import_xmp(text: str, *, size: Size | None = None) -> Imported:
    """A recipe from Lightroom's XMP (sidecar, preset, or packet of a photo), with a list of what is not held.

    Settings may be written as attributes or as elements. Settings that change nothing are passed over.

    Args:
        text: The file's text.
        size: Width and height of the photo, for straightened crops and turned radial gradients, where the file
            does not tell them.

    Raises:
        RecipeError: If the text is no XMP with develop settings, is of a process version before 2012, or holds a
            value that is no number or outside of its range.
    """
    found = parse(text, CRS)
    if not found:
        raise RecipeError("The XMP holds no develop settings (nothing of the namespace crs).")
    left_out: list[str] = []
    _check_version(found, left_out)
    controls = {}
    for crs, control in BY_CRS.items():
        value = _read(control, crs, found)
        if value != control.default:
            controls[control.name] = value
    curves = {name: _read_curve(found[crs], crs) for name, crs in CURVE_NAMES.items() if crs in found}
    places = _places(found, parse(text, TIFF), size, left_out)
    left_out += _unknown(found)
    return Imported(Recipe(TOOLSET, controls, 0, curves, *places), tuple(left_out))


def from_xmp(text: str, *, size: Size | None = None, partial: bool = False) -> Recipe:
    """A recipe from Lightroom's XMP. See `import_xmp`.

    Raises:
        RecipeError: As `import_xmp`; and, unless `partial`, if a recipe cannot hold all of the file.
    """
    imported = import_xmp(text, size=size)
    return imported.recipe if partial else imported.whole()


def _places(
    found: Properties, tiff: Properties, size: Size | None, left_out: list[str]
) -> tuple[Crop | None, tuple[LocalAdjustment, ...]]:
    """Crop and local adjustments, whose places are told of the photo as it is stored."""
    orientation = str(tiff.get("Orientation", "1"))
    if orientation == "1":
        size = size or _size(tiff)
        return read_crop_from(found, size, left_out), read_locals(found, size, left_out)
    if found.get("MaskGroupBasedCorrections") or truth(found, "HasCrop", False):
        left_out.append(f"crop and local adjustments: the photo is stored turned (Orientation {orientation[:20]})")
    return None, ()


def _check(recipe: Recipe) -> None:
    if recipe.toolset != TOOLSET:
        raise RecipeError(
            f"Only recipes of the toolset {TOOLSET!r} have an XMP; this is one of {recipe.toolset!r}, whose sliders "
            "mean other things than Lightroom's. Export it as .cube or .json."
        )
    _check_ranges(recipe.controls, CONTROLS)
    for adjustment in recipe.locals:
        _check_ranges(adjustment.controls, LOCAL)
    for name in recipe.curves:
        if name not in CURVE_NAMES:
            raise RecipeError(f"Unknown curve {name!r}; {TOOLSET!r} has {', '.join(CURVE_NAMES)}.")


def _check_ranges(values: Mapping[str, float], controls: tuple[Control, ...]) -> None:
    known = {control.name: control for control in controls}
    for name, value in values.items():
        if name not in known:
            raise RecipeError(f"Unknown control {name!r}; {TOOLSET!r} has {', '.join(known)} here.")
        if not known[name].low <= value <= known[name].high:
            raise RecipeError(f"{name} = {value} is outside {known[name].low:g}..{known[name].high:g}.")


def _write(control: Control, recipe: Recipe) -> str:
    value = recipe.controls.get(control.name, control.default)
    if control.unit == "switch":
        return "True" if value else "False"
    decimals = _DECIMALS.get(control.name, 0)
    rounded = round(value, decimals) + 0.0
    sign = "+" if rounded and (control.low < 0 or decimals) else ""
    return f"{rounded:{sign}.{decimals}f}"


def _read(control: Control, crs: str, found: Properties) -> float:
    if control.unit == "switch":
        return int(truth(found, crs, bool(control.default)))
    value = number(found, crs, control.default)
    if not control.low <= value <= control.high:
        raise RecipeError(f"{crs} = {value:g} is outside {control.low:g}..{control.high:g}.")
    return int(value) if value.is_integer() else value


def _write_curve(curve: Curve, crs: str) -> str:
    points = {round(255 * x): round(255 * y) for x, y in curve}
    if len(points) < 2:
        raise RecipeError(f"{crs}: the curve's inputs {[x for x, _ in curve]} are less than a level apart.")
    listed = "".join(f"     <rdf:li>{x}, {y}</rdf:li>\n" for x, y in points.items())
    return f"   <crs:{crs}>\n    <rdf:Seq>\n{listed}    </rdf:Seq>\n   </crs:{crs}>\n"


def _read_curve(value: object, crs: str) -> Curve:
    points = []
    for item in value if isinstance(value, list) else [value]:
        pair = str(item).split(",")
        try:
            x, y = (float(part) for part in pair)
        except ValueError:
            raise RecipeError(f"{crs}: point {str(item)[:60]!r} should be 'input, output', both 0..255.") from None
        if not (0 <= x <= 255 and 0 <= y <= 255):
            raise RecipeError(f"{crs}: point {str(item)[:60]!r} is outside 0..255.")
        points.append((x / 255, y / 255))
    return check_curve(points, crs)


def _check_version(found: Properties, left_out: list[str]) -> None:
    if "ProcessVersion" not in found:
        left_out.append(f"ProcessVersion is missing; read as {PROCESS_VERSION}")
        return
    version = number(found, "ProcessVersion")
    if version < OLDEST:
        raise RecipeError(
            f"ProcessVersion = {version:g} is outside {OLDEST:g}..{NEWEST:g}: its controls are others. "
            "Update the photo's process version in Lightroom (Settings > Process) and save the metadata again."
        )
    if version > NEWEST:
        left_out.append(f"ProcessVersion = {version:g} is newer than {NEWEST:g}; read as that")


def _unknown(found: Properties) -> list[str]:
    """Settings that a recipe does not have and that change something."""
    left_out = []
    for key, value in found.items():
        if key in BY_CRS or key in CURVE_NAMES.values() or key in BOOKKEEPING or not _acts(key, value):
            continue
        left_out.append(f"{key} = {str(value)[:60]}")
    return left_out


def _acts(key: str, value: object) -> bool:
    """Whether a setting changes something: it is no zero, no False, no neutral value, and not switched off."""
    if isinstance(value, list):
        return any(_acts(key, item) for item in value)
    if isinstance(value, dict):
        off = str(value.get("Active", "true")).lower() == "false"
        return not off and (key != "Look" or value.get("Name") not in NEUTRAL["CameraProfile"])
    text = str(value)
    if text in NEUTRAL.get(key, ()) or text.lower() in ("", "false", "none"):
        return False
    try:
        return float(text) not in NEUTRAL.get(key, (0.0,))
    except ValueError:
        return True


def _size(tiff: Properties) -> Size | None:
    if "ImageWidth" not in tiff or "ImageLength" not in tiff:
        return None
    width, height = number(tiff, "ImageWidth"), number(tiff, "ImageLength")
    if not (width >= 1 and height >= 1):
        raise RecipeError(f"ImageWidth × ImageLength = {width:g} × {height:g}; expected at least 1 × 1.")
    return int(width), int(height)


def _preset(name: str, attributes: dict[str, str], body: str) -> dict[str, str]:
    """What makes settings a preset: its kind, and an id that follows from its name and settings."""
    content = "\n".join((name, *(f"{key}={value}" for key, value in attributes.items()), body))
    supports = ("Amount", "Color", "Monochrome", "HighDynamicRange", "NormalDynamicRange", "SceneReferred")
    return {
        "PresetType": "Normal",
        "Cluster": "",
        "UUID": hashlib.sha256(content.encode()).hexdigest()[:32].upper(),
        **{f"Supports{what}": "True" for what in (*supports, "OutputReferred")},
        "CameraModelRestriction": "",
    }


def _title(name: str) -> str:
    listed = f'<rdf:li xml:lang="x-default">{escape(name)}</rdf:li>'
    return f"   <crs:Name>\n    <rdf:Alt>\n     {listed}\n    </rdf:Alt>\n   </crs:Name>\n"


def _packet(attributes: list[str], body: str) -> str:
    listed = "".join(f"\n    {attribute}" for attribute in attributes)
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="retouch-gym">\n'
        f' <rdf:RDF xmlns:rdf="{RDF}">\n'
        f'  <rdf:Description rdf:about=""\n    xmlns:crs="{CRS}"\n    xmlns:tiff="{TIFF}"{listed}>\n'
        f"{body}  </rdf:Description>\n </rdf:RDF>\n</x:xmpmeta>\n"
        '<?xpacket end="w"?>\n'
    )
