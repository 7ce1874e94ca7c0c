"""Toolsets, edits, photos and earlier requests in words, for prompts and feedback."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from retouch_gym.adjustments.curves import Curve
from retouch_gym.adjustments.local import Brush, LocalAdjustment, MaskImage, MaskPart, Shape
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.tools.base import Effect, LocalChange, ToolSpec
from retouch_gym.tools.toolset import Toolset
from retouch_gym.types import JSON

MAX_SHOWN = 8
"""Most points of a stroke that `describe_recipe` writes out."""


def describe_tools(toolset: Toolset) -> str:
    """The sliders: a line for each tool that takes one value, with the name of its control, range and meaning.

    Tools of another kind (finish, undo, those with several arguments) are not among them; `describe_calls` lists
    every tool.
    """
    lines = []
    for tool in toolset.tools:
        if len(tool.controls) == 1 and set(tool.arguments.model_fields) == {"value"}:
            control = tool.controls[0]
            lines.append(f"- {control.name} ({control.low:g}..{control.high:g}): {tool.description}")
    return "\n".join(lines)


def describe_calls(toolset: Toolset) -> str:
    """The tools: a line for each with name, arguments and meaning, as in ``- exposure(value: -100..100): …``.

    Arguments that may be left out have a question mark; neighbours with the same range share it, as in
    ``hsl(color: red | orange, hue?, saturation?: -100..100)``. Ranges that hold fractions are written with a point.
    """
    return "\n".join(f"- {spec.name}({_signature(spec)}): {spec.description}" for spec in toolset.specs)


def describe_effects(effects: Sequence[Effect]) -> str:
    """What effects set, in the order of first mention; a later value stands for the earlier one. Empty for none."""
    said: dict[str, str] = {}
    for number, effect in enumerate(effects):
        said.update({name: f"{name} = {value:g}" for name, value in effect.controls.items()})
        said.update({name: f"{name} through {_points(curve)}" for name, curve in effect.curves.items()})
        if effect.crop is not None:
            said.update({f"crop {side}": f"crop {side} = {value:g}" for side, value in effect.crop})
        said.update({f"crop {side}": f"crop {side} = {value:g}" for side, value in effect.crop_parts.items()})
        if effect.local is not None:
            said[f"local {number}"] = _local(effect.local)
        if effect.change is not None:
            said[f"change {number}"] = _change(effect.change)
    return ", ".join(said.values())


def describe_recipe(recipe: Recipe) -> str:
    """What is set so far, as one line of JSON for a prompt.

    Control to value; besides, where there are any, ``curves`` (name to points), ``crop`` (side to place), and
    ``locals`` (name to control values, the amount where it is not 1, and the shapes of the mask in words). Long
    strokes and mask images are named, not written out.
    """
    told: dict[str, Any] = dict(recipe.controls)
    if recipe.curves:
        told["curves"] = {name: [list(point) for point in curve] for name, curve in recipe.curves.items()}
    if recipe.crop:
        told["crop"] = dict(recipe.crop)
    if recipe.locals:
        told["locals"] = {local.name: _told(local) for local in recipe.locals}
    return json.dumps(told)


def tool_schemas(toolset: Toolset) -> list[dict[str, JSON]]:
    """The tools as the ``tools`` list of OpenAI's and Hugging Face's chat APIs, in the order of the toolset."""
    return [spec.to_openai() for spec in toolset.specs]


def describe_photos(labels: Sequence[str]) -> str:
    """What each photo is, in the order shown: ``"1 the photo as it is now; 2 the goal"``. Empty without photos."""
    return "; ".join(f"{number} {label}" for number, label in enumerate(labels, 1))


def describe_history(requests: Sequence[str]) -> str:
    """Earlier requests on one line, oldest first: ``'"make it warmer", then "a little darker"'``."""
    return ", then ".join(f'"{" ".join(request.split())}"' for request in requests)


def _signature(spec: ToolSpec) -> str:
    properties: Any = spec.parameters.get("properties", {})
    required: Any = spec.parameters.get("required", [])
    named = [(name if name in required else f"{name}?", _domain(entry)) for name, entry in properties.items()]
    groups = itertools.groupby(named, key=lambda argument: argument[1])
    return ", ".join(f"{', '.join(name for name, _ in group)}: {domain}" for domain, group in groups)


def _domain(entry: Mapping[str, Any]) -> str:
    kind = entry.get("type", "any")
    if "enum" in entry:
        return " | ".join(str(choice) for choice in entry["enum"])
    if "const" in entry:
        return str(entry["const"])
    if kind == "array":
        return _list(entry)
    if kind == "boolean":
        return "true | false"
    low = entry.get("minimum", entry.get("exclusiveMinimum"))
    high = entry.get("maximum", entry.get("exclusiveMaximum"))
    if low is None or high is None:
        return str(kind)
    return f"{_bound(low, kind)}..{_bound(high, kind)}"


def _list(entry: Mapping[str, Any]) -> str:
    least, most, item = entry.get("minItems", 0), entry.get("maxItems"), _domain(entry.get("items", {}))
    if least == most and least <= 4:
        return f"[{', '.join([item] * least)}]"
    return f"list of {least}..{'any number' if most is None else most} {item}"


def _bound(value: float, kind: str) -> str:
    # A point tells fractions from whole numbers.
    text = f"{value:g}"
    return f"{text}.0" if kind == "number" and "." not in text and "e" not in text else text


def _points(curve: Curve) -> str:
    return " ".join(f"({x:g}, {y:g})" for x, y in curve)


def _local(local: LocalAdjustment) -> str:
    if not local.controls:
        return f"local {local.name!r} removed"
    mask = " ".join(_part(part, part.op) for part in local.parts)
    return f"local {local.name!r}: {'; '.join([f'mask {mask}', *_values(local.controls, local.amount)])}"


def _change(change: LocalChange) -> str:
    if change.remove:
        return f"local {change.name!r} removed"
    mask = [f"mask {_part(change.part, 'begins' if change.anew else change.part.op)}"] if change.part else []
    return f"local {change.name!r}: {'; '.join([*mask, *_values(change.controls, change.amount)])}"


def _told(local: LocalAdjustment) -> dict[str, Any]:
    mask = [f"{_part(part, part.op)} {_shape(part.shape)}".removeprefix("add ") for part in local.parts]
    amount = {} if local.amount == 1 else {"amount": local.amount}
    return {**local.controls, **amount, "mask": mask}


def _shape(shape: Shape) -> str:
    if isinstance(shape, MaskImage):
        return "not shown"
    if isinstance(shape, Brush):
        points = _points(shape.points) if len(shape.points) <= MAX_SHOWN else f"{len(shape.points)} points"
        return f"radius={shape.radius:g} feather={shape.feather:g} through {points}"
    return " ".join(f"{name}={value:g}" for name, value in shape if name != "kind")


def _part(part: MaskPart, how: str) -> str:
    return f"{how} {'outside ' if part.invert else ''}{part.shape.kind}"


def _values(controls: Mapping[str, float], amount: float | None) -> list[str]:
    values = [f"{name} = {value:g}" for name, value in controls.items()]
    return values if amount is None else [*values, f"amount = {amount:g}"]
