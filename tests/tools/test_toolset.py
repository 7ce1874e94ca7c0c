"""Toolsets: what a model is told, and what happens to what it writes."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retouch_gym import ToolCall, Toolset
from retouch_gym.errors import ConfigurationError, ToolError
from retouch_gym.tools import IEA, IEA_COMPAT, TOOLSETS, Control, Effect, FinishTool, SliderTool, get_toolset
from retouch_gym.tools.base import show

PUBLISHED = [
    *("exposure", "brightness", "contrast", "natural_contrast", "highlights", "shadows", "whites", "blacks"),
    *("saturation", "vibrance", "temperature", "tint", "sharpness", "vignette", "fade", "grain"),
]


def test_the_sixteen_sliders_of_the_paper() -> None:
    for toolset in (IEA, IEA_COMPAT):
        assert list(toolset.controls) == PUBLISHED
        assert [tool.name for tool in toolset.tools] == [*PUBLISHED, "finish", "undo"]
    assert {name for name in PUBLISHED if IEA.controls[name].low == 0} == {"fade", "grain"}
    assert all(control.low == -100 and control.high == 100 for control in IEA_COMPAT.controls.values())


def test_a_spec_is_what_chat_apis_take() -> None:
    entry = IEA.by_name["exposure"].spec.to_openai()
    assert entry["type"] == "function"  # type: ignore[call-overload, index]
    function: Any = entry["function"]
    assert function["name"] == "exposure"
    assert "stop" in function["description"]
    parameters = function["parameters"]
    assert parameters["type"] == "object"
    assert parameters["required"] == ["value"]
    assert parameters["additionalProperties"] is False
    assert (parameters["properties"]["value"]["minimum"], parameters["properties"]["value"]["maximum"]) == (-100, 100)


def test_valid_calls_become_effects() -> None:
    assert IEA.parse(ToolCall("exposure", {"value": -100})) == Effect({"exposure": -100})
    assert IEA.parse(ToolCall("exposure", {"value": np.int64(7)})) == Effect({"exposure": 7})
    assert IEA.parse(ToolCall("finish")) == Effect(finish=True)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (ToolCall("exposure", {"value": 101}), ["exposure", "value = 101", "100"]),
        (ToolCall("exposure", {"value": "40"}), ["exposure", "value = '40'"]),
        (ToolCall("exposure", {"value": 40.5}), ["exposure", "40.5"]),
        (ToolCall("exposure", {"value": True}), ["exposure", "True"]),
        (ToolCall("exposure", {}), ["exposure", "'value' is missing"]),
        (ToolCall("exposure", {"value": 1, "x": 2}), ["exposure", "unknown argument 'x'", "value"]),
        (ToolCall("exposure", {1: 2}), ["exposure", "argument name 1", "string"]),  # type: ignore[dict-item]
        (ToolCall("exposure", [40]), ["exposure", "JSON object"]),  # type: ignore[arg-type]
        (ToolCall("finish", {"now": True}), ["finish", "'now'"]),
        (ToolCall("Exposure", {"value": 1}), ["'Exposure'", "Did you mean 'exposure'"]),
        (ToolCall("zzz"), ["'zzz'", "known tools", "exposure", "finish"]),
        (ToolCall(7), ["unknown tool 7"]),  # type: ignore[arg-type]
        ("exposure=40", ["ToolCall", "str"]),
    ],
)
def test_a_refusal_names_tool_argument_and_bound(call: object, words: list[str]) -> None:
    with pytest.raises(ToolError) as refused:
        IEA.parse(call)
    assert all(word in str(refused.value) for word in words), str(refused.value)


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [Hostile(), 10**5000, nested(5000), "x" * 10**6, "\ud800"],
    ids=["hostile", "huge", "deep", "long", "surrogate"],
)
def test_arguments_that_cannot_be_printed_are_refused_in_short(value: Any) -> None:
    for call in (ToolCall("exposure", {"value": value}), ToolCall("exposure", value), ToolCall(value)):
        with pytest.raises(ToolError) as refused:
            IEA.parse(call)
        assert len(str(refused.value)) < 400
    assert len(show(value)) <= 60


@given(st.text(max_size=30), st.dictionaries(st.text(max_size=6), st.integers() | st.floats() | st.text(), max_size=3))
def test_no_written_call_raises_anything_but_a_refusal(name: str, arguments: dict[str, Any]) -> None:
    for tool in (name, "exposure", "grain"):
        try:
            effect = IEA.parse(ToolCall(tool, arguments))
        except ToolError:
            continue
        assert set(arguments) == {"value"}
        assert all(0 <= abs(value) <= 100 for value in effect.controls.values())


def test_a_plan_is_all_or_nothing_and_every_problem_is_named() -> None:
    plan = [ToolCall("exposure", {"value": 1}), ToolCall("tint", {"value": 999}), ToolCall("nope")]
    with pytest.raises(ToolError, match=r"tint: value = 999 .* \| unknown tool 'nope'"):
        IEA.parse_plan(plan)
    assert IEA.parse_plan(plan[:1]) == [Effect({"exposure": 1})]
    with pytest.raises(ToolError, match="65 calls is too long; the limit is 64"):
        IEA.parse_plan([ToolCall("finish")] * 65)


def test_names_are_unique() -> None:
    slider = SliderTool(Control("a", 0, 1), "A.")
    with pytest.raises(ConfigurationError, match="two tools"):
        Toolset("x", (FinishTool(), FinishTool()))
    with pytest.raises(ConfigurationError, match="'a'"):
        Toolset("x", (slider, slider))


def test_toolsets_are_found_by_name_path_or_as_they_are() -> None:
    for name, path in TOOLSETS.items():
        assert get_toolset(name).name == name
        assert get_toolset(path) is get_toolset(name)
    mine = Toolset("mine", (FinishTool(),))
    assert get_toolset(mine) is mine
    with pytest.raises(ConfigurationError, match="Did you mean 'iea'"):
        get_toolset("eia")
    with pytest.raises(ConfigurationError, match="no_such_module"):
        get_toolset("no_such_module:X")


def test_a_pickled_toolset_refuses_and_accepts_alike() -> None:
    copy = pickle.loads(pickle.dumps(IEA))
    assert copy.specs == IEA.specs
    assert copy.controls == IEA.controls
    assert copy.parse(ToolCall("exposure", {"value": 3})) == Effect({"exposure": 3})
    with pytest.raises(ToolError, match="exposure"):
        copy.parse(ToolCall("exposure", {"value": 300}))
