"""One tool: its public description and what a call of it does.

A tool is a name, a typed pydantic model of its arguments (from which the JSON Schema is derived, so that
what a model is told and what is enforced cannot drift apart) and a pure function from arguments to an
`Effect`. Check a new one with `retouch_gym.testing.check_tool`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pydantic

from retouch_gym.adjustments.curves import Curve
from retouch_gym.adjustments.local import Crop, LocalAdjustment
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
    """

    controls: Mapping[str, float] = field(default_factory=dict)
    finish: bool = False
    undo: bool = False
    text: str | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    crop: Crop | None = None
    local: LocalAdjustment | None = None


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
        schema = self.arguments.model_json_schema()
        schema.pop("title", None)
        schema.pop("description", None)
        for prop in schema.get("properties", {}).values():
            prop.pop("title", None)
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
        else:
            reason = item["msg"].removeprefix("Input ").removeprefix("should ")
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


class SliderTool(Tool):
    """Sets one integer control: ``{"value": int}``. A later value replaces the earlier one."""

    def __init__(self, control: Control, description: str) -> None:
        self.name = control.name
        self.control = control
        self.controls = (control,)
        self.description = description
        low, high = int(control.low), int(control.high)
        self.arguments = pydantic.create_model(
            f"{control.name.title().replace('_', '')}Arguments",
            __base__=Arguments,
            value=(int, pydantic.Field(ge=low, le=high, description=f"{description} {control.default:g} = untouched.")),
        )

    def __reduce__(self) -> tuple[type[SliderTool], tuple[Control, str]]:
        # The arguments model is made at run time, so it cannot be pickled by reference.
        return (SliderTool, (self.control, self.description))

    def parse(self, arguments: object) -> Effect:
        """See `Tool.parse`. What is plainly valid needs no further look; anything else is explained."""
        if type(arguments) is dict and len(arguments) == 1:
            value = arguments.get("value")
            if type(value) is int and self.control.low <= value <= self.control.high:
                return Effect({self.name: value})
        return super().parse(arguments)

    def effect(self, arguments: Any) -> Effect:
        """Set the control to `arguments.value`."""
        return Effect({self.name: arguments.value})

    def sample(self, rng: np.random.Generator) -> dict[str, JSON]:
        """Draw a value uniformly from the control's range."""
        return {"value": int(rng.integers(int(self.control.low), int(self.control.high), endpoint=True))}


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
