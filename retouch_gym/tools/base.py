"""One tool: its public description and what a call of it does.

A tool is a name, a typed pydantic model of its arguments (from which the JSON Schema is derived, so that
what a model is told and what is enforced cannot drift apart) and a pure function from arguments to an
`Effect`. Check a new one with `retouch_gym.testing.check_tool`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pydantic

from retouch_gym.adjustments.curves import Curve
from retouch_gym.adjustments.local import Crop, LocalAdjustment, MaskPart
from retouch_gym.errors import ToolError
from retouch_gym.types import JSON


class Arguments(pydantic.BaseModel):
    """Base of a tool's arguments: strict types, no unknown names, no NaN or infinity."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class ToolSpec:
    """What a language model is told about a tool.

    Args:
        name: Name to call it by.
        description: One or two sentences: effect, direction, unit.
        parameters: JSON Schema (2020-12) of the arguments, an object that forbids extras.
    """

    name: str
    description: str
    parameters: Mapping[str, JSON]

    def to_openai(self) -> dict[str, JSON]:
        """The spec as an entry of the `tools` list of OpenAI's and Hugging Face's chat APIs."""
        function: dict[str, JSON] = {
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
        }
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class Control:
    """One scalar of a recipe that a tool can set.

    Args:
        name: Key in `Recipe.controls`.
        low: Smallest value allowed.
        high: Largest value allowed.
        default: Value that changes nothing.
        unit: Unit of the value, for instance ``"slider"`` or ``"EV"``.
        integer: Whether only whole numbers are allowed.
    """

    name: str
    low: float
    high: float
    default: float = 0
    unit: str = "slider"
    integer: bool = True


@dataclass(frozen=True)
class LocalChange:
    """What a call changes of one local adjustment; what it does not speak of stays as the recipe has it.

    Args:
        name: Name of the local adjustment.
        part: Shape that joins its mask; None leaves the mask.
        anew: Whether `part` replaces the whole mask instead of joining it.
        controls: Control values to set.
        amount: Strength of the whole, 0..1; None leaves it.
        remove: Whether the adjustment is taken away.
    """

    name: str
    part: MaskPart | None = None
    anew: bool = False
    controls: Mapping[str, float] = field(default_factory=dict)
    amount: float | None = None
    remove: bool = False


@dataclass(frozen=True)
class Effect:
    """What one valid call does.

    Args:
        controls: Control values to set.
        finish: Whether the agent is done.
        undo: Whether the last change is taken back.
        text: What the agent says of the edit, where words are asked for.
        curves: Point curves to set, by name; the identity takes one away.
        crop: Crop to set; the default one takes it away.
        local: Local adjustment to set; it replaces the one of its name, and one without controls takes it away.
        crop_parts: Sides and angle of the crop to set, by their names in `Crop`; the others stay as they are.
        change: What to change of a local adjustment.
    """

    controls: Mapping[str, float] = field(default_factory=dict)
    finish: bool = False
    undo: bool = False
    text: str | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    crop: Crop | None = None
    local: LocalAdjustment | None = None
    crop_parts: Mapping[str, float] = field(default_factory=dict)
    change: LocalChange | None = None


class Tool(ABC):
    """A structured action that an agent can take.

    Attributes:
        name: Name to call it by; unique in a toolset.
        description: What it does, for the model.
        arguments: pydantic model of its arguments.
        controls: The recipe controls that it may set.
    """

    name: str
    description: str
    arguments: type[Arguments]
    controls: tuple[Control, ...] = ()

    @property
    def spec(self) -> ToolSpec:
        """Name, description and JSON Schema of the arguments."""
        schema: dict[str, JSON] = _tidy(self.arguments.model_json_schema())
        schema.pop("description", None)
        return ToolSpec(self.name, self.description, schema)

    def parse(self, arguments: object) -> Effect:
        """Validate `arguments` and return what the call does.

        Raises:
            ToolError: With the argument, its value and the bound that it breaks.
        """
        if not isinstance(arguments, Mapping):
            raise ToolError(f"{self.name}: arguments = {show(arguments)} should be a JSON object")
        try:
            valid = self.arguments.model_validate(arguments)
        except pydantic.ValidationError as error:
            raise ToolError(f"{self.name}: {_explain(error, self.arguments)}") from None
        return self.effect(valid)

    @abstractmethod
    def effect(self, arguments: Any) -> Effect:
        """What a call with valid arguments (an instance of `self.arguments`) does. Pure."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> dict[str, JSON]:
        """Draw valid arguments."""

    def express(self, effect: Effect) -> list[dict[str, JSON]]:
        """Arguments of the calls that do this tool's share of an effect; the inverse of `effect`.

        As it stands, for a tool that gives its one control the argument ``value``; other tools say their own, or
        have no share. See `retouch_gym.recipes.plan_of`.
        """
        names = [control.name for control in self.controls]
        if len(names) != 1 or names[0] not in effect.controls or set(self.arguments.model_fields) != {"value"}:
            return []
        return [{"value": plain(effect.controls[names[0]], self.controls[0])}]


def _tidy(schema: Any) -> Any:
    """A JSON Schema without titles, which say nothing, and without "default null": what is left out stays as it is."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    tidy: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            tidy[key] = {name: _tidy(entry) for name, entry in value.items()}
        elif key != "title" and not (key == "default" and value is None):
            tidy[key] = _tidy(value)
    return tidy


def _explain(error: pydantic.ValidationError, model: type[Arguments]) -> str:
    problems = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part)[:60] for part in item["loc"]) or "arguments"
        if item["type"] == "missing":
            problems.append(f"argument {where!r} is missing")
        elif item["type"] == "extra_forbidden":
            known = ", ".join(sorted(model.model_fields)) or "none"
            problems.append(f"unknown argument {where!r} (known: {known})")
        elif item["type"] == "invalid_key":
            problems.append(f"argument name {show(item['input'])} should be a string")
        elif item["type"] == "value_error":
            reason = item["msg"].removeprefix("Value error, ")
            problems.append(f"{where} = {show(item['input'])}: {reason}" if item["loc"] else reason)
        else:
            reason = item["msg"].partition(" should ")[2] or item["msg"]
            problems.append(f"{where} = {show(item['input'])} should {reason}")
    return "; ".join(problems)


def show(value: object, limit: int = 60) -> str:
    """Any value as a short text for a message; never raises, whatever the value is."""
    try:
        text = repr(value)
    except Exception:
        # Nested too deeply, an integer of thousands of digits, or a hostile __repr__: still feedback.
        text = f"<{type(value).__name__} that cannot be shown>"
    return text if len(text) <= limit else text[: limit - 1] + "…"


@lru_cache(maxsize=8192)
def _set_to(name: str, value: int) -> Effect:
    return Effect({name: value})


class SliderTool(Tool):
    """Sets one control: ``{"value": number}``, whole where the control is. A later value replaces the earlier one."""

    def __init__(self, control: Control, description: str) -> None:
        self.name = control.name
        self.control = control
        self.controls = (control,)
        self.description = description
        self.arguments = pydantic.create_model(
            f"{control.name.title().replace('_', '')}Arguments",
            __base__=Arguments,
            value=argument(control, description),
        )

    def __reduce__(self) -> tuple[type[SliderTool], tuple[Control, str]]:
        # The arguments model is made at run time, so it cannot be pickled by reference.
        return (SliderTool, (self.control, self.description))

    def parse(self, arguments: object) -> Effect:
        """See `Tool.parse`. What is plainly valid needs no further look; anything else is explained."""
        if type(arguments) is dict and len(arguments) == 1:
            value = arguments.get("value")
            if type(value) is int and self.control.integer and self.control.low <= value <= self.control.high:
                return _set_to(self.name, value)
        return super().parse(arguments)

    def effect(self, arguments: Any) -> Effect:
        """Set the control to `arguments.value`."""
        return Effect({self.name: arguments.value})

    def sample(self, rng: np.random.Generator) -> dict[str, JSON]:
        """Draw a value uniformly from the control's range."""
        return {"value": draw(self.control, rng)}


def argument(control: Control, description: str, *, optional: bool = False) -> Any:
    """An argument that sets a control, as pydantic's `create_model` takes it.

    A switch is a boolean, any other control a number in the control's range, whole where the control is.

    Args:
        control: The control.
        description: Effect, direction, unit.
        optional: Whether the argument may be left out.
    """
    default: Any = None if optional else ...
    if control.unit == "switch":
        return (bool, pydantic.Field(default, description=description))
    whole = f"{description} {control.default:g} = untouched."
    if control.integer:
        return (int, pydantic.Field(default, ge=int(control.low), le=int(control.high), description=whole))
    return (float, pydantic.Field(default, ge=control.low, le=control.high, description=whole))


def plain(value: float, control: Control) -> int | float | bool:
    """A control's value as its argument takes it: true or false, whole where it should be and is, or as it is."""
    if control.unit == "switch":
        return bool(value)
    return int(value) if control.integer and value == int(value) else value


def draw(control: Control, rng: np.random.Generator) -> int | float | bool:
    """Draw a value of an argument that sets a control: uniform in its range, two decimals where it is not whole."""
    if control.unit == "switch":
        return bool(rng.integers(2))
    if control.integer:
        return int(rng.integers(int(control.low), int(control.high), endpoint=True))
    return round(float(rng.uniform(control.low, control.high)), 2)


class FinishTool(Tool):
    """Ends the episode: the agent is content with the photo."""

    name = "finish"
    description = "Call this when the photo is as requested. Ends the episode."
    arguments = Arguments

    def effect(self, arguments: Any) -> Effect:
        """End the episode; the recipe stays."""
        return Effect(finish=True)

    def sample(self, rng: np.random.Generator) -> dict[str, JSON]:
        """No arguments."""
        return {}


class UndoTool(Tool):
    """Takes back the last change of the recipe; called again, the one before it."""

    name = "undo"
    description = "Takes back your last change. Call it again to go back further."
    arguments = Arguments

    def effect(self, arguments: Any) -> Effect:
        """Take back the last change."""
        return Effect(undo=True)

    def sample(self, rng: np.random.Generator) -> dict[str, JSON]:
        """No arguments."""
        return {}


MAX_SUMMARY = 4_000
"""Most characters of a summary."""


class SummaryArguments(Arguments):
    """What the agent says."""

    text: str = pydantic.Field(
        min_length=1, max_length=MAX_SUMMARY, description="What the user wanted, as one request in plain words."
    )


class SummarizeTool(Tool):
    """Says in words what the user wanted, where before and after are shown. Ends the episode."""

    name = "summarize"
    description = "Say in one request what the user wanted who turned the first photo into the second."
    arguments = SummaryArguments

    def effect(self, arguments: Any) -> Effect:
        """Note the text and end the episode."""
        return Effect(finish=True, text=arguments.text)

    def sample(self, rng: np.random.Generator) -> dict[str, JSON]:
        """Draw a few adjectives."""
        words = rng.choice(("brighter", "darker", "warmer", "cooler", "more vivid", "flatter"), 2, replace=False)
        return {"text": f"make it {words[0]} and {words[1]}."}
