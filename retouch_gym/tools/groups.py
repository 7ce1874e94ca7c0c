"""Tools that set several controls in one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import pydantic

from retouch_gym.tools.base import Arguments, Control, Effect, Tool, argument, draw, plain
from retouch_gym.types import JSON

Described: TypeAlias = Mapping[str, tuple[Control, str]]
"""Argument name to the control that it sets and what it does."""


class AtLeastOne(Arguments):
    """Arguments of which any may be left out, but not all."""

    @pydantic.model_validator(mode="after")
    def _sets_something(self) -> AtLeastOne:
        optional = [name for name, info in type(self).model_fields.items() if not info.is_required()]
        if not self.model_fields_set.intersection(optional):
            raise ValueError(f"nothing is set; give at least one of {', '.join(optional)}")
        return self


class GroupTool(Tool):
    """Sets the controls of one panel; what is left out stays as it is.

    Args:
        name: Name to call it by.
        description: What it does, for the model.
        arguments: The arguments, their controls and what they do.
        required: Arguments that cannot be left out. Where there are none, a call has to give at least one argument.
    """

    def __init__(self, name: str, description: str, arguments: Described, required: tuple[str, ...] = ()) -> None:
        self.name, self.description = name, description
        self.described, self.required = dict(arguments), required
        self.controls = tuple(control for control, _ in arguments.values())
        fields: dict[str, Any] = {
            key: argument(control, text, optional=key not in required) for key, (control, text) in arguments.items()
        }
        self.arguments = pydantic.create_model(
            _model_name(name), __base__=Arguments if required else AtLeastOne, **fields
        )

    def __reduce__(self) -> tuple[type[GroupTool], tuple[Any, ...]]:
        # As in SliderTool: the arguments model is made at run time.
        return (GroupTool, (self.name, self.description, self.described, self.required))

    def effect(self, arguments: Any) -> Effect:
        """Set the controls whose arguments were given."""
        given = {key: getattr(arguments, key) for key in self.described if key in arguments.model_fields_set}
        return Effect({self.described[key][0].name: _number(value) for key, value in given.items()})

    def sample(self, rng: np.random.Generator) -> dict[str, JSON]:
        """Draw some of the arguments, and a value for each."""
        return draw_some({key: control for key, (control, _) in self.described.items()}, rng, self.required)

    def express(self, effect: Effect) -> list[dict[str, JSON]]:
        """One call with the arguments whose controls are set. See `Tool.express`."""
        values = {key: effect.controls.get(control.name) for key, (control, _) in self.described.items()}
        if all(value is None for value in values.values()):
            return []
        whole = {
            key: self.described[key][0].default if value is None else value
            for key, value in values.items()
            if value is not None or key in self.required
        }
        return [{key: plain(value, self.described[key][0]) for key, value in whole.items()}]


class BandTool(Tool):
    """Sets the controls of one of several alike bands, for instance of a colour; what is left out stays as it is.

    Args:
        name: Name to call it by.
        description: What it does, for the model.
        band: Name of the argument that says which band, and what it is.
        bands: The bands and the controls of each, by argument; the same arguments in each.
        texts: What each argument does.
    """

    def __init__(
        self,
        name: str,
        description: str,
        band: tuple[str, str],
        bands: Mapping[str, Mapping[str, Control]],
        texts: Mapping[str, str],
    ) -> None:
        self.name, self.description = name, description
        self.band, self.bands, self.texts = band, {key: dict(value) for key, value in bands.items()}, dict(texts)
        self.controls = tuple(control for controls in bands.values() for control in controls.values())
        first = next(iter(self.bands.values()))
        fields: dict[str, Any] = {
            band[0]: (Literal[tuple(self.bands)], pydantic.Field(description=band[1])),
            **{key: argument(first[key], text, optional=True) for key, text in texts.items()},
        }
        self.arguments = pydantic.create_model(_model_name(name), __base__=AtLeastOne, **fields)

    def __reduce__(self) -> tuple[type[BandTool], tuple[Any, ...]]:
        # As in SliderTool: the arguments model is made at run time.
        return (BandTool, (self.name, self.description, self.band, self.bands, self.texts))

    def effect(self, arguments: Any) -> Effect:
        """Set the controls of the band whose arguments were given."""
        controls = self.bands[getattr(arguments, self.band[0])]
        given = [key for key in controls if key in arguments.model_fields_set]
        return Effect({controls[key].name: getattr(arguments, key) for key in given})

    def sample(self, rng: np.random.Generator) -> dict[str, JSON]:
        """Draw a band, some of the arguments, and a value for each."""
        chosen = list(self.bands)[int(rng.integers(len(self.bands)))]
        return {self.band[0]: chosen, **draw_some(self.bands[chosen], rng)}

    def express(self, effect: Effect) -> list[dict[str, JSON]]:
        """A call for each band of which controls are set. See `Tool.express`."""
        calls: list[dict[str, JSON]] = []
        for band, controls in self.bands.items():
            given = {key: control for key, control in controls.items() if control.name in effect.controls}
            if given:
                values = {key: plain(effect.controls[control.name], control) for key, control in given.items()}
                calls.append({self.band[0]: band, **values})
        return calls


def draw_some(
    controls: Mapping[str, Control], rng: np.random.Generator, always: tuple[str, ...] = ()
) -> dict[str, JSON]:
    """Values for at least one of the arguments, drawn at random, and for those that are `always` there."""
    names = list(controls)
    count = int(rng.integers(1, len(names), endpoint=True))
    chosen = {names[index] for index in rng.choice(len(names), count, replace=False).tolist()}.union(always)
    return {name: draw(controls[name], rng) for name in names if name in chosen}


def _number(value: float | bool) -> float:
    return int(value) if isinstance(value, bool) else value


def _model_name(tool: str) -> str:
    return f"{tool.title().replace('_', '')}Arguments"
