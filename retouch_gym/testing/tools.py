"""Checks of a tool and of a toolset."""

from __future__ import annotations

import json
import math
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from retouch_gym.errors import ToolError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.tools.base import Control, Tool
from retouch_gym.tools.toolset import Toolset, get_toolset
from retouch_gym.types import ToolCall

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_NO_NUMBER = ("40", None, True, [1], {"a": 1}, math.nan, math.inf)


def check_tool(tool: Tool, *, samples: int = 50) -> None:
    """Check that a tool keeps the contract of `Tool`.

    Its schema is a closed JSON object with a described, bounded entry for every argument; its controls
    state range, default and unit; drawn arguments are valid and depend on the generator alone; the same
    arguments always do the same; a control at its default leaves the recipe empty; anything out of
    range, of the wrong type, missing or unknown is refused with a message that names tool and argument;
    the tool survives pickling.

    Args:
        tool: The tool.
        samples: How many drawn calls to try.

    Raises:
        AssertionError: Saying what is broken.
    """
    assert _NAME.fullmatch(tool.name), f"Tool name {tool.name!r} should be lower snake case, at most 64 characters."
    assert tool.description.strip(), f"{tool.name}: the description is empty; say effect, direction and unit."
    schema = _check_schema(tool)
    for control in tool.controls:
        _check_control(tool, control)
    _check_sampling(tool, samples)
    _check_refusals(tool, schema)
    _check_defaults(tool, schema.get("properties", {}))
    copy = pickle.loads(pickle.dumps(tool))
    assert copy.spec == tool.spec, f"{tool.name}: the spec changes when the tool is pickled."


def check_toolset(toolset: str | Toolset, *, samples: int = 20) -> None:
    """Check every tool of a toolset, and what they are together.

    Besides `check_tool` for each: unknown tools are refused, with a suggestion when a name is close; a plan
    with one bad call is refused as a whole; the toolset survives pickling; the specs are JSON.

    Raises:
        AssertionError: Saying what is broken.
    """
    tools = get_toolset(toolset)
    for tool in tools.tools:
        check_tool(tool, samples=samples)
    json.dumps([spec.to_openai() for spec in tools.specs], allow_nan=False)
    assert pickle.loads(pickle.dumps(tools)).specs == tools.specs, f"{tools.name}: pickling changes the specs."
    first = tools.tools[0]
    wrong = first.name + "x"
    message = _unknown(tools, wrong)
    assert wrong in message, f"{tools.name}: the refusal {message!r} does not name the unknown tool {wrong!r}."
    assert first.name in message, f"{tools.name}: the refusal {message!r} does not suggest {first.name!r}."
    good = ToolCall(first.name, first.sample(np.random.default_rng(0)))
    try:
        tools.parse_plan([good, ToolCall(wrong)])
    except ToolError:
        return
    raise AssertionError(f"{tools.name}: a plan with one bad call was taken.")


def _check_schema(tool: Tool) -> Mapping[str, Any]:
    schema: dict[str, Any] = json.loads(json.dumps(dict(tool.spec.parameters), allow_nan=False))
    assert schema.get("type") == "object", f"{tool.name}: the schema's type is {schema.get('type')!r}, not 'object'."
    assert schema.get("additionalProperties") is False, f"{tool.name}: the schema must forbid additional properties."
    for name, entry in schema.get("properties", {}).items():
        assert entry.get("description"), f"{tool.name}: argument {name!r} has no description."
        if entry.get("type") in ("integer", "number"):
            low, high = _bounds(entry)
            assert low is not None, f"{tool.name}: argument {name!r} has no lower bound."
            assert high is not None, f"{tool.name}: argument {name!r} has no upper bound."
            assert low < high, f"{tool.name}: argument {name!r} is bounded by {low}..{high}, which is no range."
    return schema


def _bounds(entry: Mapping[str, Any]) -> tuple[float | None, float | None]:
    return entry.get("minimum", entry.get("exclusiveMinimum")), entry.get("maximum", entry.get("exclusiveMaximum"))


def _check_control(tool: Tool, control: Control) -> None:
    where = f"{tool.name}: control {control.name!r}"
    assert control.unit, f"{where} states no unit."
    assert math.isfinite(control.low), f"{where} has no finite lower bound."
    assert math.isfinite(control.high), f"{where} has no finite upper bound."
    assert control.low < control.high, f"{where} has the range {control.low:g}..{control.high:g}."
    inside = control.low <= control.default <= control.high
    assert inside, f"{where}: the default {control.default:g} is outside {control.low:g}..{control.high:g}."


def _check_sampling(tool: Tool, samples: int) -> None:
    first, second = np.random.default_rng(7), np.random.default_rng(7)
    controls = {control.name: control for control in tool.controls}
    for _ in range(samples):
        arguments = tool.sample(first)
        assert arguments == tool.sample(second), f"{tool.name}: sample() depends on more than its generator."
        effect = tool.parse(json.loads(json.dumps(arguments, allow_nan=False)))
        assert effect == tool.parse(arguments), f"{tool.name}: the same arguments {arguments} do different things."
        for name, value in effect.controls.items():
            assert name in controls, f"{tool.name} sets {name!r}, which is not among its controls {sorted(controls)}."
            control = controls[name]
            inside = control.low <= value <= control.high
            assert inside, f"{tool.name}({arguments}) sets {name} = {value}, outside {control.low:g}..{control.high:g}."


def _check_refusals(tool: Tool, schema: Mapping[str, Any]) -> None:
    valid = tool.sample(np.random.default_rng(1))
    for argument, arguments in _bad_arguments(valid, schema.get("properties", {}), schema.get("required", [])):
        message = _refusal(tool, arguments)
        assert message, f"{tool.name}: {arguments!r} was taken; {argument!r} should have been refused."
        for word in (tool.name, argument):
            assert word in message, f"{tool.name}: the refusal of {arguments!r} does not name {word!r}: {message}"


def _refusal(tool: Tool, arguments: object) -> str:
    try:
        tool.parse(arguments)
    except ToolError as error:
        return str(error)
    return ""


def _bad_arguments(
    valid: Mapping[str, Any], properties: Mapping[str, Any], required: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    yield "no_such_argument", {**valid, "no_such_argument": 1}
    yield "arguments", [1, 2]
    yield "arguments", None
    for name in required:
        yield name, {key: value for key, value in valid.items() if key != name}
    for name, entry in properties.items():
        if entry.get("type") not in ("integer", "number"):
            continue
        low, high = _bounds(entry)
        outside = [
            value for value in (low is not None and low - 1, high is not None and high + 1) if value is not False
        ]
        for value in (*outside, *_NO_NUMBER):
            yield name, {**valid, name: value}


def _check_defaults(tool: Tool, properties: Mapping[str, Any]) -> None:
    toolset = Toolset("check", (tool,))
    for control in tool.controls:
        name = control.name if control.name in properties else "value"
        if name not in properties or len(properties) != len(tool.controls):
            continue
        default = int(control.default) if control.integer else control.default
        arguments = {**tool.sample(np.random.default_rng(2)), name: default}
        recipe = Recipe("check").apply([tool.parse(arguments)], toolset)
        kept = control.name not in recipe.controls
        assert kept, f"{tool.name}({arguments}) is the default but leaves {control.name} = {recipe[control.name]}."


def _unknown(toolset: Toolset, name: str) -> str:
    try:
        toolset.parse(ToolCall(name))
    except ToolError as error:
        return str(error)
    raise AssertionError(f"{toolset.name}: the unknown tool {name!r} was taken; it should have been refused.")
