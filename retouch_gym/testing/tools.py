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
_NO_TEXT = (40, None, True, ["a"], {"a": 1})
_NO_SWITCH = ("true", 1, 0.0, None, [True], {"a": 1})
_NO_LIST = ("[]", 1, None, {"0": 1})


def check_tool(tool: Tool, *, samples: int = 50) -> None:
    """Check that a tool keeps the contract of `Tool`.

    Its schema is a closed JSON object with a described entry for every argument, every number and list in it
    bounded; its controls state range, default and unit; drawn arguments are valid and depend on the generator
    alone; the same arguments always do the same; an argument that sets a control leaves the control untouched when
    it is the control's default; anything out of range, of the wrong type, missing or unknown is refused with a
    message that names tool and argument; the tool survives pickling.

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
    with one bad call is refused as a whole; drawn plans fold into recipes that are in range and survive JSON, or
    are refused; the toolset survives pickling; the specs are JSON.

    Raises:
        AssertionError: Saying what is broken.
    """
    tools = get_toolset(toolset)
    for tool in tools.tools:
        check_tool(tool, samples=samples)
    json.dumps([spec.to_openai() for spec in tools.specs], allow_nan=False)
    copied = tuple(tool.spec for tool in pickle.loads(pickle.dumps(tools)).tools)
    assert copied == tools.specs, f"{tools.name}: pickling changes the specs."
    first = tools.tools[0]
    wrong = first.name + "x"
    message = _unknown(tools, wrong)
    assert wrong in message, f"{tools.name}: the refusal {message!r} does not name the unknown tool {wrong!r}."
    assert first.name in message, f"{tools.name}: the refusal {message!r} does not suggest {first.name!r}."
    _check_folding(tools, samples)
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
        _check_bounds(tool, name, entry)
    for name, entry in schema.get("$defs", {}).items():
        for inner, inner_entry in entry.get("properties", {}).items():
            _check_bounds(tool, f"{name}.{inner}", inner_entry)
    return schema


def _check_bounds(tool: Tool, name: str, entry: Mapping[str, Any]) -> None:
    for part in (*entry.get("anyOf", ()), *entry.get("oneOf", ()), *entry.get("prefixItems", ())):
        _check_bounds(tool, name, part)
    if entry.get("type") == "array":
        assert "maxItems" in entry, f"{tool.name}: argument {name!r} is a list without a bound on its length."
        if isinstance(entry.get("items"), Mapping):
            _check_bounds(tool, f"{name}[]", entry["items"])
    if entry.get("type") in ("integer", "number") and "enum" not in entry:
        low, high = _bounds(entry)
        assert low is not None, f"{tool.name}: argument {name!r} has no lower bound."
        assert high is not None, f"{tool.name}: argument {name!r} has no upper bound."
        assert low < high, f"{tool.name}: argument {name!r} is bounded by {low}..{high}, which is no range."


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
    except Exception as error:
        kind = type(error).__name__
        raise AssertionError(f"{tool.name}: {arguments!r} raised {kind}, it should raise ToolError: {error}") from error
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
        for value in _bad_values(entry):
            yield name, {**valid, name: value}


def _bad_values(entry: Mapping[str, Any]) -> Iterator[Any]:
    """Values that an argument with this schema has to refuse."""
    kind = entry.get("type")
    if "enum" in entry:
        yield from ("no such choice", math.nan, None, ["a"], {"a": 1})
    elif kind in ("integer", "number"):
        low, high = _bounds(entry)
        yield from (
            value for value in (low is not None and low - 1, high is not None and high + 1) if value is not False
        )
        yield from (10**400, -(10**400), *_NO_NUMBER)
        if kind == "integer" and low is not None:
            yield low + 0.5
    elif kind == "boolean":
        yield from _NO_SWITCH
    elif kind == "string":
        yield from _NO_TEXT
        if "maxLength" in entry:
            yield "x" * (int(entry["maxLength"]) + 1)
    elif kind == "array":
        yield from _NO_LIST
        yield [None] * (int(entry.get("maxItems", 0)) + 1)
        if entry.get("minItems", 0) > 0:
            yield []
        yield from ([value] * max(1, int(entry.get("minItems", 0))) for value in _bad_values(entry.get("items", {})))


def _check_defaults(tool: Tool, properties: Mapping[str, Any]) -> None:
    """Arguments that a control takes as they are (seen at both ends of their range) leave it alone at its default."""
    toolset, rng = Toolset("check", (tool,)), np.random.default_rng(2)
    for arguments in [tool.sample(rng) for _ in range(20)]:
        for name in set(arguments) & set(properties):
            for control in _taken_as_is(tool, arguments, name, properties[name]):
                default = int(control.default) if control.integer else control.default
                value = bool(default) if properties[name].get("type") == "boolean" else default
                recipe = Recipe("check").apply([tool.parse({**arguments, name: value})], toolset)
                kept = control.name not in recipe.controls
                assert kept, (
                    f"{tool.name}({ {**arguments, name: value} }) is the default but leaves "
                    f"{control.name} = {recipe[control.name]}."
                )


def _taken_as_is(tool: Tool, arguments: Mapping[str, Any], name: str, entry: Mapping[str, Any]) -> list[Control]:
    """The controls whose value is the argument's value."""
    ends = (False, True) if entry.get("type") == "boolean" else _bounds(entry)
    try:
        effects = [tool.parse({**arguments, name: end}).controls for end in ends]
    except ToolError:
        # The other arguments do not allow it, or it is no number.
        return []
    return [
        control
        for control in tool.controls
        if all(effect.get(control.name) == end for effect, end in zip(effects, ends, strict=True))
    ]


def _check_folding(toolset: Toolset, samples: int) -> None:
    rng, taken = np.random.default_rng(11), 0
    for _ in range(samples):
        chosen = rng.integers(0, len(toolset.tools), int(rng.integers(1, 9)))
        plan = [ToolCall(toolset.tools[i].name, toolset.tools[i].sample(rng)) for i in chosen.tolist()]
        try:
            recipe = Recipe(toolset.name).apply(toolset.parse_plan(plan), toolset)
        except ToolError:
            # Drawn without looking at the recipe, so some calls speak of what is not there.
            continue
        taken += 1
        recipe.check(toolset)
        assert Recipe.from_json(recipe.to_json()) == recipe, f"{toolset.name}: {plan} makes a recipe that JSON changes."
    assert taken, (
        f"{toolset.name}: none of {samples} drawn plans could be carried out; sample() should draw likely calls."
    )


def _unknown(toolset: Toolset, name: str) -> str:
    try:
        toolset.parse(ToolCall(name))
    except ToolError as error:
        return str(error)
    raise AssertionError(f"{toolset.name}: the unknown tool {name!r} was taken; it should have been refused.")
