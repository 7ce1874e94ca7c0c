"""Reading RawTherapee's edit files (``.pp3``), those that the program wrote too."""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from retouch_gym.adjustments.curves import Curve, check_curve
from retouch_gym.adjustments.local import Crop
from retouch_gym.errors import RecipeError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.engines.pp3 import CURVE_KEYS
from retouch_gym.renderers.engines.pp3_keys import (
    ALWAYS,
    CATMULL_ROM,
    FIXED,
    HSV_CURVES,
    IDLE_KEYS,
    IDLE_SECTIONS,
    KEYS,
    NOTHING,
    PARAMETRIC,
    PARAMETRIC_KIND,
    TWINS,
    UNSWITCHED,
    tidy,
)
from retouch_gym.renderers.engines.pp3_white_balance import from_kelvin
from retouch_gym.renderers.lightroom.color import BAND_CENTERS
from retouch_gym.renderers.lightroom.settings import DEFAULTS, TOOLSET
from retouch_gym.tools.lightroom_controls import COLORS, CONTROLS

MAX_CHARACTERS = 1 << 20
"""Longest file that is read; the program's own have 14,000 characters."""

# Kinds of curves through points; the program draws them differently, all of them smoothly.
_SPLINES = frozenset({1, 3, CATMULL_ROM})
_RANGES = {control.name: (control.low, control.high, control.integer) for control in CONTROLS}
_HUE_TOLERANCE = 0.002


def read_pp3(text: str, size: tuple[int, int] | None = None) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe in an edit file.

    Args:
        text: The file's text.
        size: Width and height of the photo in pixels, which a crop is measured in.

    Returns:
        A recipe of the toolset ``lightroom``, and what of the file is not in it, with reasons.

    Raises:
        RecipeError: If the text is no edit file, or a number in it is none.
    """
    return _Reader(_parse(text), size).read()


def _parse(text: str) -> dict[str, dict[str, str]]:
    if len(text) > MAX_CHARACTERS:
        raise RecipeError(f"A pp3 file of {len(text)} characters; at most {MAX_CHARACTERS} are read.")
    parser = configparser.RawConfigParser(
        delimiters=("=",), comment_prefixes=("#",), strict=False, empty_lines_in_values=False, default_section=""
    )
    parser.optionxform = _keep_case  # type: ignore[assignment]  # the documented way, but typed as a method
    try:
        parser.read_string(text.removeprefix("\ufeff"))
    except configparser.Error as error:
        raise RecipeError(f"Not a pp3 file: {str(error)[:200]}") from None
    if not parser.sections():
        raise RecipeError("Not a pp3 file: it has no [Section].")
    return {name: dict(parser.items(name)) for name in parser.sections()}


def _keep_case(key: str) -> str:
    return key


@dataclass
class _Reader:
    """Takes a file apart; what is left over is reported.

    Args:
        sections: What has not been understood yet.
        size: See `read_pp3`.
    """

    sections: dict[str, dict[str, str]]
    size: tuple[int, int] | None
    controls: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def read(self) -> tuple[Recipe, tuple[str, ...]]:
        for name in [name for name, keys in self.sections.items() if not _is_on(name, keys)]:
            del self.sections[name]
        self._read_numbers()
        self._read_curves()
        self._read_bands()
        self._read_white_balance()
        crop = self._read_crop()
        self._report_rest()
        return Recipe(TOOLSET, self.controls, curves=self.curves, crop=crop), tuple(self.left_out)

    def _take(self, section: str, key: str) -> str | None:
        return self.sections.get(section, {}).pop(key, None)

    def _number(self, section: str, key: str, default: float) -> float:
        text = self._take(section, key)
        if text is None:
            return default
        try:
            return _finite(text)
        except ValueError:
            raise RecipeError(f"[{section}] {key} = {text[:40]!r} should be a number.") from None

    def _set(self, control: str, value: float, where: str) -> None:
        """Keep a value, within the control's range and whole where the control is."""
        low, high, whole = _RANGES[control]
        kept = min(max(value, low), high)
        if kept != value:
            self.left_out.append(f"{where}: {control} {value:g} is beyond {low:g}..{high:g}, read as {kept:g}")
        kept = round(kept) if whole else kept
        if kept != DEFAULTS[control]:
            self.controls[control] = kept

    def _read_numbers(self) -> None:
        if "Black & White" in self.sections:
            self.controls["black_and_white"] = 1
        for key in KEYS:
            text = self._take(key.section, key.key)
            if text is None:
                continue
            twin = self._take(key.section, TWINS.get(key.key, ""))
            where = f"[{key.section}] {key.key}"
            try:
                value = key.read(_finite(text))
            except ValueError:
                raise RecipeError(f"{where} = {text[:40]!r} should be a finite number.") from None
            self._set(key.control, value, where)
            if twin is not None and twin != text:
                self.left_out.append(f"[{key.section}] {TWINS[key.key]} = {twin} (read as {key.key})")

    def _read_curves(self) -> None:
        for name, (section, key) in CURVE_KEYS.items():
            self._read_curve(section, key, name)
        self._read_curve("Exposure", "Curve2", "curve")

    def _read_curve(self, section: str, key: str, name: str) -> None:
        text = self._take(section, key)
        if text is None or text in NOTHING:
            return
        kind, *values = _numbers(text, f"[{section}] {key}")
        where = f"[{section}] {key}"
        if kind == PARAMETRIC_KIND and len(values) >= 3 + len(PARAMETRIC) and section == "Exposure":
            if any(zone in self.controls for zone in PARAMETRIC):
                self.left_out.append(f"{where} (a second parametric curve)")
                return
            for (zone, scale), value in zip(PARAMETRIC.items(), values[3:7], strict=True):
                self._set(zone, tidy(value / scale), where)
        elif kind in _SPLINES and name not in self.curves:
            self._keep_points(name, values, where)
        elif kind != 0:
            self.left_out.append(f"{where} (a curve of kind {kind:g}, or a second one)")

    def _keep_points(self, name: str, values: list[float], where: str) -> None:
        points = [list(point) for point in zip(values[::2], values[1::2], strict=False)]
        try:
            self.curves[name] = check_curve(points, name)
        except RecipeError as error:
            self.left_out.append(f"{where} ({error})")

    def _read_bands(self) -> None:
        for what, (key, reach) in HSV_CURVES.items():
            text = self._take("HSV Equalizer", key)
            if text is None or text in NOTHING:
                continue
            values = _numbers(text, f"[HSV Equalizer] {key}")[1:]
            hues, shifts = values[::4], values[1::4]
            ours = len(hues) == len(BAND_CENTERS) == len(shifts) and all(
                abs(360 * hue - center) <= 360 * _HUE_TOLERANCE for hue, center in zip(hues, BAND_CENTERS, strict=True)
            )
            if not ours:
                self.left_out.append(f"[HSV Equalizer] {key} (points elsewhere than at the hues of the eight colours)")
                continue
            for color, shift in zip(COLORS, shifts, strict=True):
                value = tidy(100 * (shift - 0.5) / reach)
                self._set(f"hsl_{color}_{what}", round(value, 3), f"[HSV Equalizer] {key}")

    def _read_white_balance(self) -> None:
        keys = self.sections.get("White Balance")
        if keys is None:
            return
        setting = keys.pop("Setting", "Camera")
        kelvin, green = self._number("White Balance", "Temperature", 6504), self._number("White Balance", "Green", 1)
        if setting == "Custom":
            try:
                temperature, tint = from_kelvin(kelvin, green)
            except ValueError as error:
                raise RecipeError(f"[White Balance]: {error}.") from None
            self._set("temperature", temperature, "[White Balance]")
            self._set("tint", tint, "[White Balance]")
        elif setting != "Camera":
            self.left_out.append(f"[White Balance] Setting = {setting}")

    def _read_crop(self) -> Crop | None:
        angle = -self._number("Rotation", "Degree", 0)
        if abs(angle) > 45:
            self.left_out.append(f"[Rotation] Degree = {-angle:g} (beyond ±45)")
            angle = 0.0
        box = (0.0, 0.0, 1.0, 1.0)
        if "Crop" in self.sections:
            x, y, w, h = (self._number("Crop", key, 0) for key in "XYWH")
            if self.size is None:
                self.left_out.append("[Crop] (measured in pixels: give the size of the photo)")
            else:
                box = _shares((x, y, w, h), self.size)
        left, top, right, bottom = box
        crop = Crop(left=left, top=top, right=right, bottom=bottom, angle=angle or 0.0)
        return None if crop == Crop() else crop

    def _report_rest(self) -> None:
        for name, keys in self.sections.items():
            if name in IDLE_SECTIONS:
                continue
            known = {**ALWAYS.get(name, {}), **FIXED.get(name, {})}
            idle = IDLE_KEYS.get(name, frozenset())
            rest = {
                key: text
                for key, text in keys.items()
                if key not in idle and text not in NOTHING and not _same(text, known.get(key))
            }
            if rest.pop("Enabled", None) and name not in FIXED:
                self.left_out.append(f"[{name}] (no counterpart)")
            else:
                self.left_out.extend(f"[{name}] {key} = {text[:60]}" for key, text in rest.items())


def _is_on(name: str, keys: Mapping[str, str]) -> bool:
    """Whether a section does something."""
    neutral = "true" if name in UNSWITCHED or name == "White Balance" else "false"
    return keys.get("Enabled", neutral).strip().lower() == "true"


def _same(text: str, known: str | None) -> bool:
    if known is None:
        return False
    try:
        return _numbers(text, "") == _numbers(known, "")
    except RecipeError:
        return text == known


def _numbers(text: str, where: str) -> list[float]:
    parts = [part for part in re.split(r"[;\s]+", text) if part]
    try:
        numbers = [_finite(part) for part in parts]
    except ValueError:
        numbers = []
    if not numbers:
        raise RecipeError(f"{where} = {text[:60]!r} should be numbers between semicolons.")
    return numbers


def _finite(text: str) -> float:
    """A number of a size that settings have.

    Raises:
        ValueError: If it is none.
    """
    number = float(text)
    if not abs(number) < 1e9:
        raise ValueError(f"{number} is no setting")
    return number


def _shares(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom as shares of the photo, of a box in pixels that may reach beyond it."""
    x, y, w, h = box
    width, height = size
    left, top = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    right, bottom = min(left + max(w, 1), width), min(top + max(h, 1), height)
    return left / width, top / height, right / width, bottom / height
