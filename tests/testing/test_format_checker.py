"""The checker of answer formats: it passes what is right and names what is wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from retouch_gym import ToolCall, Toolset, Unparsable
from retouch_gym.chat import ANSWER_FORMATS, AnswerFormat
from retouch_gym.chat.strict_json import read_call, read_json, write_call, write_json
from retouch_gym.errors import ToolError
from retouch_gym.testing.formats import check_answer_format
from retouch_gym.tools import IEA, TOOLSETS, FinishTool


@pytest.mark.parametrize("name", ANSWER_FORMATS)
@pytest.mark.parametrize("toolset", [name for name in TOOLSETS if name != "summary"])
def test_every_format_with_every_toolset(name: str, toolset: str) -> None:
    if name == "iea" and toolset == "lightroom":
        pytest.skip("the format 'iea' holds sliders alone")
    check_answer_format(name, toolset=toolset, samples=20)


@dataclass(frozen=True)
class Lines(AnswerFormat):
    """A user's own format: the reasoning as JSON on the first line, then a line of JSON for each call."""

    name: ClassVar[str] = "lines"

    def read(self, text: str, task: str) -> Sequence[ToolCall]:
        thoughts, *calls = [read_json(line, f"line {number}") for number, line in enumerate(text.split("\n"), 1)]
        if not isinstance(thoughts, str):
            raise ToolError("line 1 should be the reasoning in quotes")
        return [read_call(call, f"line {number}") for number, call in enumerate(calls, 2)]

    def compose(self, reasoning: str, calls: Sequence[ToolCall]) -> str:
        return "\n".join([write_json(reasoning.strip()), *map(write_call, calls)])

    def guide(self, task: str = "edit") -> str:
        return f"Answer in lines of JSON:\n{self.example(task)}"

    def reasoning(self, text: str) -> str:
        try:
            return str(read_json(text.partition("\n")[0], "line 1"))
        except ToolError:
            return ""


def test_an_own_format_passes() -> None:
    check_answer_format(Lines())


class Raises(Lines):
    def read(self, text: str, task: str) -> Sequence[ToolCall]:
        return [read_call(json.loads(line), "a line") for line in text.split("\n")[1:]]


class Moody(Lines):
    def read(self, text: str, task: str) -> Sequence[ToolCall]:
        if "Sure" in text:
            raise ToolError(f"no {random.random()}")
        return super().read(text, task)


class Forgets(Lines):
    def reasoning(self, text: str) -> str:
        return ""


class Patient(Lines):
    def parse(self, text: str, task: str = "edit") -> tuple[ToolCall, ...] | Unparsable:
        return super().parse(text.rstrip() if len(text) > 65_536 else text, task)


class Endless(Lines):
    def parse(self, text: str, task: str = "edit") -> tuple[ToolCall, ...] | Unparsable:
        found = super().parse(text, task)
        return Unparsable(found.reason * 500, found.text) if isinstance(found, Unparsable) else found


class Silent(Lines):
    def guide(self, task: str = "edit") -> str:
        return "Answer in lines of JSON."


class Lonely(Lines):
    __eq__ = object.__eq__
    __hash__ = object.__hash__


class Infinite(Lines):
    def read(self, text: str, task: str) -> Sequence[ToolCall]:
        return [read_call(call, "call") for call in _lenient(text)]


def _lenient(text: str) -> list[Any]:
    try:
        return [json.loads(line) for line in text.split("\n")[1:]]
    except (ValueError, RecursionError) as error:
        raise ToolError(f"no JSON: {error}") from None


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (Raises(), "raised"),
        (Moody(), "read once as"),
        (Forgets(), "cannot write the reasoning"),
        (Patient(), "characters was read"),
        (Endless(), r"the reason for refusing .* has \d+ characters"),
        (Silent(), "does not show"),
        (Lonely(), "not equal"),
        (Infinite(), "cannot be written|should raise|no strict JSON"),
    ],
)
def test_a_broken_format_is_caught(broken: AnswerFormat, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_answer_format(broken, samples=5)


def test_a_toolset_that_a_format_cannot_write_is_named() -> None:
    with pytest.raises(AssertionError, match="no tools to edit with"):
        check_answer_format("json", toolset="summary")
    check_answer_format("iea", toolset=Toolset("bare", (IEA.by_name["exposure"], FinishTool())), samples=3)
