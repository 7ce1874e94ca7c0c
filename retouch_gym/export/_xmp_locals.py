"""Local adjustments as Lightroom writes them: linear and radial gradients, added, subtracted, intersected.

Lightroom has two ways to join a shape: it adds (``MaskBlendMode`` 0), or it takes away (1, with ``MaskValue`` 0). An
intersection takes the inverted shape away, so "intersect" and "subtract the inverted" are one thing in a file, and
read as "intersect"; likewise "intersect the inverted" reads as "subtract". The first shape always reads as added.

An ellipse is told by the left-top and right-bottom corners of the box about it, which turn with it, in pixels: hence
a turned one takes the photo's size.
"""

from __future__ import annotations

import hashlib
import re
from xml.sax.saxutils import quoteattr

from retouch_gym.adjustments.local import LinearGradient, LocalAdjustment, MaskPart, RadialGradient, read_local
from retouch_gym.errors import RecipeError
from retouch_gym.export._rdf import Properties, number, structures, truth
from retouch_gym.export._xmp_crop import Size, show, turn
from retouch_gym.export._xmp_names import LOCAL_NAMES
from retouch_gym.tools.base import Control
from retouch_gym.tools.lightroom_controls import LOCAL

_CONTROLS: dict[str, Control] = {control.name: control for control in LOCAL}
_CORRECTION = frozenset({"What", "CorrectionAmount", "CorrectionActive", "CorrectionName", "CorrectionSyncID"})
_IGNORED = frozenset({"CorrectionMasks", "LocalInputDigest", "LocalInputDigestVersion"})


def write_locals(adjustments: tuple[LocalAdjustment, ...], size: Size | None, left_out: list[str]) -> str:
    """The element ``crs:MaskGroupBasedCorrections``, or nothing if there is nothing to write."""
    items = [item for adjustment in adjustments if (item := _write_local(adjustment, size, left_out))]
    if not items:
        return ""
    return (
        "   <crs:MaskGroupBasedCorrections>\n    <rdf:Seq>\n"
        + "".join(items)
        + "    </rdf:Seq>\n   </crs:MaskGroupBasedCorrections>\n"
    )


def _write_local(adjustment: LocalAdjustment, size: Size | None, left_out: list[str]) -> str:
    name = f"local:{adjustment.name}"
    problems = [problem for part in adjustment.parts if (problem := _problem(part, size))]
    if problems:
        left_out.append(f"{name}: {problems[0]}")
        return ""
    values = {}
    for control, value in adjustment.controls.items():
        crs, unit = LOCAL_NAMES.get(control, ("", 0.0))
        if abs(value) > unit:
            limit = f"beyond ±{unit:g} it" if crs else "it"
            left_out.append(f"{name}: {control} = {value:g} ({limit} has no place in the file)")
        else:
            values[crs] = show(value / unit)
    if not values:
        return ""
    attributes = {
        "What": "Correction",
        "CorrectionAmount": show(adjustment.amount),
        "CorrectionActive": "true",
        "CorrectionName": adjustment.name,
        "CorrectionSyncID": _id(adjustment.name),
        **values,
    }
    parts = (_begin(adjustment.parts[0]), *adjustment.parts[1:])
    masks = "".join(_write_part(part, size, f"{adjustment.name}/{index}") for index, part in enumerate(parts))
    return (
        f"     <rdf:li>\n      <rdf:Description{_attributes(attributes, 7)}>\n"
        f"       <crs:CorrectionMasks>\n        <rdf:Seq>\n{masks}        </rdf:Seq>\n"
        "       </crs:CorrectionMasks>\n      </rdf:Description>\n     </rdf:li>\n"
    )


def _problem(part: MaskPart, size: Size | None) -> str:
    """Why a part cannot be written, or nothing."""
    shape = part.shape
    if not isinstance(shape, LinearGradient | RadialGradient):
        return f"a mask of kind {shape.kind!r} has no place in the file"
    if isinstance(shape, RadialGradient) and shape.angle and size is None:
        return f"a radial gradient turned by {shape.angle:g}° needs the photo's width and height"
    return ""


def _begin(part: MaskPart) -> MaskPart:
    """The first part as one that adds: no mask of Lightroom's begins with the whole photo, to take a shape from it."""
    return part.model_copy(update={"op": "add", "invert": part.invert != (part.op == "subtract")})


def _write_part(part: MaskPart, size: Size | None, seed: str) -> str:
    inverted = part.invert != (part.op == "intersect")
    attributes = {
        "What": "Mask/Gradient" if isinstance(part.shape, LinearGradient) else "Mask/CircularGradient",
        "MaskActive": "true",
        "MaskBlendMode": "0" if part.op == "add" else "1",
        "MaskInverted": str(inverted).lower(),
        "MaskSyncID": _id(seed),
        "MaskValue": "1" if part.op == "add" else "0",
    }
    shape = part.shape
    if isinstance(shape, LinearGradient):
        places = {"ZeroX": shape.x1, "ZeroY": shape.y1, "FullX": shape.x0, "FullY": shape.y0}
    elif isinstance(shape, RadialGradient):
        across, down = turn((shape.radius_x, shape.radius_y), shape.angle, size)
        places = {
            "Top": shape.y - down,
            "Left": shape.x - across,
            "Bottom": shape.y + down,
            "Right": shape.x + across,
            "Angle": shape.angle,
            "Midpoint": 50.0,
            "Roundness": 0.0,
            "Feather": 100 * shape.feather,
            "Version": 2.0,
        }
        attributes["Flipped"] = str(not inverted).lower()
    attributes |= {key: show(value) for key, value in places.items()}
    return f"         <rdf:li{_attributes(attributes, 10)}/>\n"


def read_locals(found: Properties, size: Size | None, left_out: list[str]) -> tuple[LocalAdjustment, ...]:
    """Inverse of `write_locals`: what the file holds beyond the recipe is named in `left_out`.

    Raises:
        RecipeError: If a value is no number or out of range, or a structure is malformed.
    """
    adjustments: list[LocalAdjustment] = []
    for index, correction in enumerate(structures(found.get("MaskGroupBasedCorrections"), "MaskGroupBasedCorrections")):
        name = _unique(str(correction.get("CorrectionName", "")), index, [local.name for local in adjustments])
        if truth(correction, "CorrectionActive", True):
            adjustment = _read_local(correction, name, size, left_out)
            adjustments += [adjustment] if adjustment else []
    return tuple(adjustments)


def _read_local(correction: Properties, name: str, size: Size | None, left_out: list[str]) -> LocalAdjustment | None:
    controls = {}
    by_crs = {crs: (control, unit) for control, (crs, unit) in LOCAL_NAMES.items()}
    for key in sorted(set(correction) - _CORRECTION - _IGNORED):
        if key in by_crs:
            control, unit = by_crs[key]
            value = round(unit * number(correction, key), 4)
            low, high = max(_CONTROLS[control].low, -unit), min(_CONTROLS[control].high, unit)
            if not low <= value <= high:
                raise RecipeError(f"{key} = {correction[key]} is outside {low / unit:g}..{high / unit:g}.")
            if value:
                controls[control] = int(value) if value.is_integer() else value
        elif correction[key] not in ("0", "0.0", "0.000000", "false", "False", "") and not (
            key == "LocalCurveRefineSaturation" and correction[key] == "100"
        ):
            left_out.append(f"local:{name}: {key} = {str(correction[key])[:60]}")
    masks = structures(correction.get("CorrectionMasks"), "CorrectionMasks")
    parts = [_read_part(mask, size) for mask in masks if truth(mask, "MaskActive", True)]
    problems = [part for part in parts if isinstance(part, str)]
    if problems or not parts:
        left_out.append(f"local:{name}: {problems[0] if problems else 'no mask'}")
        return None
    amount = number(correction, "CorrectionAmount", 1.0)
    try:
        return read_local({"name": name, "parts": parts, "controls": controls, "amount": amount}) if controls else None
    except RecipeError as error:
        left_out.append(f"local:{name}: {error}")
        return None


def _read_part(mask: Properties, size: Size | None) -> dict[str, object] | str:
    """A mask's part as data, or why a recipe cannot hold it."""
    what, mode, value = mask.get("What"), mask.get("MaskBlendMode", "0"), number(mask, "MaskValue", 1.0)
    if (mode, value) not in (("0", 1.0), ("1", 0.0)):
        return f"MaskBlendMode = {mode} with MaskValue = {value:g} is not known"
    inverted = truth(mask, "MaskInverted", False)
    join: dict[str, object] = {"op": "add", "invert": inverted}
    if mode == "1":
        join = {"op": "intersect" if inverted else "subtract", "invert": False}
    if what == "Mask/Gradient":
        x0, y0, x1, y1 = (number(mask, key) for key in ("FullX", "FullY", "ZeroX", "ZeroY"))
        return {"shape": {"kind": "linear", "x0": x0, "y0": y0, "x1": x1, "y1": y1}, **join}
    if what != "Mask/CircularGradient":
        return f"{str(what)[:40]} cannot be held"
    for key, plain in (("Midpoint", 50.0), ("Roundness", 0.0)):
        if number(mask, key, plain) != plain:
            return f"{key} = {number(mask, key):g} of a radial gradient cannot be held"
    angle = number(mask, "Angle", 0.0)
    if angle and size is None:
        return f"a radial gradient turned by {angle:g}° needs the photo's width and height"
    top, left, bottom, right = (number(mask, key) for key in ("Top", "Left", "Bottom", "Right"))
    across, down = turn(((right - left) / 2, (bottom - top) / 2), -angle, size)
    shape = {
        "kind": "radial",
        "x": round((left + right) / 2, 7),
        "y": round((top + bottom) / 2, 7),
        "radius_x": round(abs(across), 7),
        "radius_y": round(abs(down), 7),
        "angle": angle,
        "feather": round(number(mask, "Feather", 50.0) / 100, 8),
    }
    return {"shape": shape, **join}


def _unique(name: str, index: int, taken: list[str]) -> str:
    """A name that a recipe can hold: plain letters, at most 40, not taken."""
    plain = re.sub(r"[^A-Za-z0-9_ -]", "_", name.strip())[:32] or f"mask {index + 1}"
    return plain if plain not in taken else f"{plain} {index + 1}"


def _id(seed: str) -> str:
    """32 hexadecimal digits that follow from a text: Lightroom wants one for each part."""
    return hashlib.sha256(seed.encode()).hexdigest()[:32].upper()


def _attributes(values: dict[str, str], indent: int) -> str:
    return "".join(f"\n{' ' * indent}crs:{key}={quoteattr(value)}" for key, value in values.items())
