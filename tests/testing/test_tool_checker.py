"""The checker of tools finds what is wrong with tools of several arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pydantic
import pytest

from retouch_gym import Toolset
from retouch_gym.errors import ToolError
from retouch_gym.testing import check_tool, check_toolset
from retouch_gym.tools import Arguments, Control, Effect, Tool
from retouch_gym.types import JSON


class LookArguments(Arguments):
    tone: Literal["warm", "cool"] = pydantic.Field(description="Which.")
    amount: int = pydantic.Field(ge=0, le=10, description="How much. 0 = untouched.")
    soft: bool = pydantic.Field(description="Whether it is soft.")
    places: list[float] = pydantic.Field(description="Where.", max_length=3)


class BoundedArguments(LookArguments):
    places: list[pydantic.confloat(ge=0, le=1)] = pydantic.Field(description="Where.", max_length=3)  # type: ignore[valid-type]


class Look(Tool):
    """A correct tool of four kinds of arguments, to be broken in one way at a time."""

    name = "look"
    description = "A look."
    arguments: type[Arguments] = BoundedArguments
    controls = (Control("warm", 0, 10), Control("cool", 0, 10), Control("soft", 0, 1, unit="switch"))

    def effect(self, arguments: Any) -> Effect:
        return Effect({arguments.tone: arguments.amount, "soft": int(arguments.soft)})

    def sample(self, rng: np.random.Generator) -> dict[str, JSON]:
        return {
            "tone": ("warm", "cool")[int(rng.integers(2))],
            "amount": int(rng.integers(11)),
            "soft": bool(rng.integers(2)),
            "places": [float(rng.uniform())],
        }


class UnboundedItems(Look):
    arguments = LookArguments


class EndlessArguments(BoundedArguments):
    places: list[pydantic.confloat(ge=0, le=1)] = pydantic.Field(description="Where.")  # type: ignore[valid-type]


class Endless(Look):
    arguments = EndlessArguments


class Lenient(Look):
    """Takes anything for one argument."""

    def __init__(self, argument: str) -> None:
        self.argument = argument

    def parse(self, arguments: object) -> Effect:
        good: dict[str, Any] = {"tone": "warm", "amount": 1, "soft": False, "places": []}
        if isinstance(arguments, Mapping) and self.argument in arguments:
            arguments = {**arguments, self.argument: good[self.argument]}
        return super().parse(arguments)


class Crashes(Look):
    def parse(self, arguments: object) -> Effect:
        if isinstance(arguments, Mapping) and not isinstance(arguments.get("places", []), list):
            raise TypeError("no")
        return super().parse(arguments)


class Shifted(Look):
    """Its controls are at rest at 5, and it sets what is given at 5 to 6."""

    controls = (Control("warm", 0, 10, 5), Control("cool", 0, 10, 5), Control("soft", 0, 1, unit="switch"))

    def effect(self, arguments: Any) -> Effect:
        return Effect({arguments.tone: 6 if arguments.amount == 5 else arguments.amount})


@pytest.mark.parametrize(
    ("tool", "complaint"),
    [
        (UnboundedItems(), r"'places\[\]' has no lower bound"),
        (Endless(), "list without a bound"),
        (Lenient("tone"), "'tone' should have been refused"),
        (Lenient("amount"), "'amount' should have been refused"),
        (Lenient("soft"), "'soft' should have been refused"),
        (Lenient("places"), "'places' should have been refused"),
        (Crashes(), "raised TypeError"),
        (Shifted(), "is the default but leaves"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Tool) else "",
)
def test_a_broken_tool_is_caught(tool: Tool, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_tool(tool)


def test_a_correct_tool_passes() -> None:
    check_tool(Look())
    check_toolset(Toolset("looks", (Look(),)))


class NeverFits(Look):
    def effect(self, arguments: Any) -> Effect:
        return Effect(crop_parts={"left": 1.0})


def test_a_toolset_whose_calls_never_fit_a_recipe_is_caught() -> None:
    check_tool(NeverFits())
    with pytest.raises(AssertionError, match="could be carried out"):
        check_toolset(Toolset("looks", (NeverFits(),)))


def test_refusals_are_tool_errors() -> None:
    with pytest.raises(ToolError, match="look: tone = 'hot' should be 'warm' or 'cool'"):
        Look().parse({"tone": "hot", "amount": 1, "soft": True, "places": []})
