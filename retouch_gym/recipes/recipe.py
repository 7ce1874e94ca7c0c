"""The recipe: everything that has been asked of a photo, and nothing that was done to its pixels."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from retouch_gym.errors import RecipeError
from retouch_gym.tools.base import Effect
from retouch_gym.tools.toolset import Toolset

VERSION = 1


@dataclass(frozen=True)
class Recipe:
    """Control values that turn a source photo into the edited one.

    Immutable, compared by value, hashable, picklable, JSON-able. Controls at their default are not
    stored, so that "set to 0" and "never touched" are the same recipe.

    Args:
        toolset: Name of the toolset whose controls these are; a renderer chooses its pipeline by it.
        controls: Control name to value.
        seed: Seed of whatever is random in the rendering (grain).

    Raises:
        RecipeError: If a value is not a finite number.
    """

    toolset: str
    controls: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in self.controls.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise RecipeError(f"Recipe control {name!r} is {value!r}; expected a finite number.")
        ordered = {name: self.controls[name] for name in sorted(self.controls)}
        object.__setattr__(self, "controls", MappingProxyType(ordered))

    def __hash__(self) -> int:
        return hash((self.toolset, tuple(self.controls.items()), self.seed))

    def __reduce__(self) -> tuple[type[Recipe], tuple[str, dict[str, float], int]]:
        return (Recipe, (self.toolset, dict(self.controls), self.seed))

    def __getitem__(self, control: str) -> float:
        """Value of a control, 0 where it is untouched."""
        return self.controls.get(control, 0)

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been asked for."""
        return not self.controls

    def apply(self, effects: Iterable[Effect], toolset: Toolset) -> Recipe:
        """Fold the effects of valid calls into this recipe; a later value replaces the earlier.

        Raises:
            RecipeError: If `toolset` is not the one this recipe was made with.
        """
        if toolset.name != self.toolset:
            raise RecipeError(f"Recipe of toolset {self.toolset!r} cannot take calls of {toolset.name!r}.")
        controls = dict(self.controls)
        for effect in effects:
            controls.update(effect.controls)
        kept = {name: value for name, value in controls.items() if value != toolset.controls[name].default}
        return Recipe(self.toolset, kept, self.seed)

    def without(self, control: str) -> Recipe:
        """The same recipe with one control back at its default (leave one out)."""
        return Recipe(self.toolset, {k: v for k, v in self.controls.items() if k != control}, self.seed)

    def check(self, toolset: Toolset) -> Recipe:
        """Return self if every control exists in `toolset` and is in its range.

        Raises:
            RecipeError: Naming the control, the value and the range.
        """
        if toolset.name != self.toolset:
            raise RecipeError(f"Recipe of toolset {self.toolset!r} checked against toolset {toolset.name!r}.")
        for name, value in self.controls.items():
            control = toolset.controls.get(name)
            if control is None:
                raise RecipeError(f"Unknown control {name!r}; {toolset.name!r} has {', '.join(toolset.controls)}.")
            if not control.low <= value <= control.high:
                raise RecipeError(f"{name} = {value} is outside {control.low:g}..{control.high:g}.")
        return self

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON-able data."""
        return {"version": VERSION, "toolset": self.toolset, "controls": dict(self.controls), "seed": self.seed}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """Inverse of `to_dict`.

        Raises:
            RecipeError: If a key is missing or unknown, a type is wrong, or the version is not 1.
        """
        if not isinstance(data, Mapping):
            raise RecipeError(f"A recipe is a JSON object, got {type(data).__name__}.")
        if data.get("version") != VERSION:
            raise RecipeError(f"Recipe version {data.get('version')!r} is not supported; this release reads {VERSION}.")
        unknown = set(data) - {"version", "toolset", "controls", "seed"}
        if unknown:
            raise RecipeError(f"Unknown recipe keys {sorted(unknown)}.")
        toolset, controls, seed = data.get("toolset"), data.get("controls", {}), data.get("seed", 0)
        if not isinstance(toolset, str) or not isinstance(controls, Mapping) or type(seed) is not int:
            raise RecipeError("A recipe needs 'toolset' (string), 'controls' (object) and 'seed' (integer).")
        return cls(toolset, controls, seed)

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
