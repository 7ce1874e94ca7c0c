"""The recipe: everything that has been asked of a photo, and nothing that was done to its pixels."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from retouch_gym.adjustments.curves import IDENTITY, Curve, check_curve
from retouch_gym.adjustments.local import MAX_LOCALS, Crop, LocalAdjustment, read_crop, read_local
from retouch_gym.errors import RecipeError
from retouch_gym.recipes.folding import change_crop, fold_locals
from retouch_gym.tools.base import Control, Effect
from retouch_gym.tools.toolset import Toolset

VERSION = 2
"""Version of the JSON; version 1 had controls alone and is still read."""

_KEYS = ("version", "toolset", "controls", "seed", "curves", "crop", "locals")


@dataclass(frozen=True)
class Recipe:
    """What turns a source photo into the edited one.

    Immutable, compared by value, hashable, picklable, JSON-able. Controls at their default are not
    stored, so that "set to 0" and "never touched" are the same recipe; likewise curves that are the identity,
    and local adjustments that set nothing.

    Args:
        toolset: Name of the toolset whose controls these are; a renderer chooses its pipeline by it.
        controls: Control name to value.
        seed: Seed of whatever is random in the rendering (grain).
        curves: Point curves by name.
        crop: What is kept of the photo; None keeps all.
        locals: Local adjustments, in the order in which they are applied.

    Raises:
        RecipeError: If a value is not a finite number, a curve is none, or two local adjustments share a name.
    """

    toolset: str
    controls: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    curves: Mapping[str, Curve] = field(default_factory=dict)
    crop: Crop | None = None
    locals: tuple[LocalAdjustment, ...] = ()

    def __post_init__(self) -> None:
        _check_numbers(self.controls, "control")
        ordered = {name: self.controls[name] for name in sorted(self.controls)}
        object.__setattr__(self, "controls", MappingProxyType(ordered))
        if self.curves:
            checked = {name: check_curve(self.curves[name], name) for name in sorted(self.curves)}
            object.__setattr__(self, "curves", {name: c for name, c in checked.items() if c != IDENTITY})
        object.__setattr__(self, "curves", MappingProxyType(dict(self.curves)))
        if self.crop == Crop():
            object.__setattr__(self, "crop", None)
        if self.locals:
            self._check_locals()

    def _check_locals(self) -> None:
        kept = tuple(local for local in self.locals if local.controls)
        names = [local.name for local in kept]
        if len(set(names)) < len(names):
            raise RecipeError(f"Two local adjustments share a name in {names}; names are unique in a recipe.")
        if len(kept) > MAX_LOCALS:
            raise RecipeError(f"{len(kept)} local adjustments; at most {MAX_LOCALS} are allowed.")
        for local in kept:
            _check_numbers(local.controls, f"control of {local.name!r}")
        object.__setattr__(self, "locals", kept)

    def __hash__(self) -> int:
        return hash((self.toolset, tuple(self.controls.items()), self.seed, tuple(self.curves.items()), self.locals))

    def __reduce__(self) -> tuple[type[Recipe], tuple[Any, ...]]:
        return (Recipe, (self.toolset, dict(self.controls), self.seed, dict(self.curves), self.crop, self.locals))

    def __getitem__(self, control: str) -> float:
        """Value of a control, 0 where it is untouched."""
        return self.controls.get(control, 0)

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been asked for."""
        return not (self.controls or self.curves or self.crop or self.locals)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of everything that was asked for, to be left out one by one with `without`."""
        crop = ("crop",) if self.crop else ()
        return (*self.controls, *self.curves, *crop, *(f"local:{local.name}" for local in self.locals))

    def apply(self, effects: Iterable[Effect], toolset: Toolset) -> Recipe:
        """Fold the effects of valid calls into this recipe; a later value replaces the earlier.

        Raises:
            RecipeError: If `toolset` is not the one this recipe was made with.
            ToolError: If an effect does not fit what the recipe has: a local adjustment that is not there, a mask
                that sets nothing, a crop turned inside out.
        """
        if toolset.name != self.toolset:
            raise RecipeError(f"Recipe of toolset {self.toolset!r} cannot take calls of {toolset.name!r}.")
        controls, curves, crop = dict(self.controls), dict(self.curves), self.crop
        local: list[Effect] = []
        for effect in effects:
            controls.update(effect.controls)
            if effect.curves:
                curves.update(effect.curves)
            if effect.crop is not None:
                crop = effect.crop
            if effect.crop_parts:
                crop = change_crop(crop, effect.crop_parts)
            if effect.local is not None or effect.change is not None:
                local.append(effect)
        kept = {name: value for name, value in controls.items() if value != toolset.controls[name].default}
        locals_ = fold_locals(self.locals, local, toolset) if local else self.locals
        return Recipe(self.toolset, kept, self.seed, curves, crop, locals_)

    def without(self, part: str) -> Recipe:
        """The same recipe with one of its `parts` as if it had never been asked for (leave one out)."""
        return replace(
            self,
            controls={name: value for name, value in self.controls.items() if name != part},
            curves={name: curve for name, curve in self.curves.items() if name != part},
            crop=None if part == "crop" else self.crop,
            locals=tuple(local for local in self.locals if part != f"local:{local.name}"),
        )

    def check(self, toolset: Toolset) -> Recipe:
        """Return self if everything in it exists in `toolset` and is in its range.

        Raises:
            RecipeError: Naming the control, the value and the range.
        """
        if toolset.name != self.toolset:
            raise RecipeError(f"Recipe of toolset {self.toolset!r} checked against toolset {toolset.name!r}.")
        _check_ranges(self.controls, toolset.controls, toolset.name)
        for name in self.curves:
            if name not in toolset.curves:
                raise RecipeError(
                    f"Unknown curve {name!r}; {toolset.name!r} has {', '.join(toolset.curves) or 'none'}."
                )
        if self.crop and not toolset.can_crop:
            raise RecipeError(f"Toolset {toolset.name!r} cannot crop.")
        known = {control.name: control for control in toolset.local_controls}
        for local in self.locals:
            _check_ranges(local.controls, known, f"{toolset.name} (local)")
        return self

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON-able data."""
        data: dict[str, Any] = {
            "version": VERSION,
            "toolset": self.toolset,
            "controls": dict(self.controls),
            "seed": self.seed,
        }
        if self.curves:
            data["curves"] = {name: [list(point) for point in curve] for name, curve in self.curves.items()}
        if self.crop:
            data["crop"] = self.crop.model_dump(mode="json")
        if self.locals:
            data["locals"] = [local.model_dump(mode="json") for local in self.locals]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """Inverse of `to_dict`.

        Raises:
            RecipeError: If a key is missing or unknown, a type is wrong, or the version is not 1 or 2.
        """
        if not isinstance(data, Mapping):
            raise RecipeError(f"A recipe is a JSON object, got {type(data).__name__}.")
        if data.get("version") not in (1, VERSION):
            raise RecipeError(
                f"Recipe version {data.get('version')!r} is not supported; this release reads 1 and {VERSION}."
            )
        unknown = set(data) - set(_KEYS)
        if unknown:
            raise RecipeError(f"Unknown recipe keys {sorted(unknown)}.")
        toolset, controls, seed = data.get("toolset"), data.get("controls", {}), data.get("seed", 0)
        if not isinstance(toolset, str) or not isinstance(controls, Mapping) or type(seed) is not int:
            raise RecipeError("A recipe needs 'toolset' (string), 'controls' (object) and 'seed' (integer).")
        curves, crop, local = data.get("curves", {}), data.get("crop"), data.get("locals", [])
        if not isinstance(curves, Mapping) or not isinstance(local, list):
            raise RecipeError("A recipe's 'curves' should be an object and its 'locals' a list.")
        return cls(
            toolset,
            controls,
            seed,
            curves,
            None if crop is None else read_crop(crop),
            tuple(read_local(adjustment) for adjustment in local),
        )

    def to_json(self) -> str:
        """The recipe as one line of JSON."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Inverse of `to_json`.

        Raises:
            RecipeError: If the text is not JSON or not a recipe.
        """
        try:
            return cls.from_dict(json.loads(text))
        except json.JSONDecodeError as error:
            raise RecipeError(f"Not JSON: {error}") from error


def _check_numbers(controls: Mapping[str, float], what: str) -> None:
    for name, value in controls.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise RecipeError(f"Recipe {what} {name!r} is {value!r}; expected a finite number.")


def _check_ranges(controls: Mapping[str, float], known: Mapping[str, Control], where: str) -> None:
    for name, value in controls.items():
        control = known.get(name)
        if control is None:
            raise RecipeError(f"Unknown control {name!r}; {where!r} has {', '.join(known)}.")
        if not control.low <= value <= control.high:
            raise RecipeError(f"{name} = {value} is outside {control.low:g}..{control.high:g}.")
