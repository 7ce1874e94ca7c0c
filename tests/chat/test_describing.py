"""Toolsets and edits in words."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import numpy as np
import pydantic
import pytest

from retouch_gym import Recipe, ToolCall, Toolset
from retouch_gym.adjustments import Brush, Crop, LinearGradient, LocalAdjustment, MaskImage, MaskPart
from retouch_gym.chat import describe_calls, describe_effects, describe_recipe, describe_tools
from retouch_gym.tools import IEA, Arguments, Effect, Tool
from retouch_gym.tools.lightroom import LIGHTROOM
from retouch_gym.types import JSON

SKY = LocalAdjustment(
    name="sky",
    parts=(
        MaskPart(shape=LinearGradient(x0=0, y0=0, x1=0, y1=1)),
        MaskPart(shape=MaskImage(png="AAAA"), op="subtract", invert=True),
    ),
    controls={"exposure": -0.5},
)


def line(toolset: Toolset, tool: str) -> str:
    (found,) = [text for text in describe_calls(toolset).splitlines() if text.startswith(f"- {tool}(")]
    return found


@pytest.mark.parametrize(
    ("tool", "signature"),
    [
        ("exposure", "value: -5.0..5.0"),
        ("contrast", "value: -100..100"),
        ("grading_mix", "balance?: -100..100, blending?: 0..100"),
        ("sharpening", "amount?: 0..150, radius?: 0.5..3.0, detail?, masking?: 0..100"),
        ("color_grading", "zone: shadows | midtones | highlights | global, hue?: 0..360, saturation?: 0..100, lum"),
        ("black_and_white_mix", "enabled: true | false, red?, orange?, yellow?, green?, aqua?, blue?, purple?, mag"),
        ("tone_curve", "channel: rgb | red | green | blue, points: list of 2..16 [0.0..1.0, 0.0..1.0]"),
        ("brush", "name: string, points: list of 1..256 [-1.0..2.0, -1.0..2.0], radius: 0.001..1.0, feather?: 0."),
        ("remove_local", "name: string"),
        ("undo", ""),
    ],
)
def test_a_line_says_what_can_be_given(tool: str, signature: str) -> None:
    assert line(LIGHTROOM, tool).startswith(f"- {tool}({signature}")


def test_every_tool_has_one_line_with_all_its_arguments() -> None:
    lines = describe_calls(LIGHTROOM).splitlines()
    assert len(lines) == len(LIGHTROOM.tools)
    for tool, text in zip(LIGHTROOM.tools, lines, strict=True):
        named, meaning = re.fullmatch(rf"- {tool.name}\((.*?)\): (.+)", text).groups()  # type: ignore[union-attr]
        assert meaning == tool.description
        for name, info in tool.arguments.model_fields.items():
            assert re.search(rf"\b{name}{'' if info.is_required() else '[?]'}[,:]", named), (tool.name, name)


class OddArguments(Arguments):
    how: Literal["only"] = pydantic.Field(description="How.")
    share: float = pydantic.Field(gt=0, lt=1, description="Share.")
    notes: list[str] = pydantic.Field(description="Notes.")
    text: str = pydantic.Field("", description="Text.")


class Odd(Tool):
    name = "odd"
    description = "Odd."
    arguments = OddArguments

    def effect(self, arguments: Any) -> Effect:
        return Effect()

    def sample(self, rng: np.random.Generator) -> dict[str, JSON]:
        return {"how": "only", "share": 0.5, "notes": []}


def test_schemas_of_other_kinds_are_told_too() -> None:
    expected = "- odd(how: only, share: 0.0..1.0, notes: list of 0..any number string, text?: string): Odd."
    assert describe_calls(Toolset("odd", (Odd(),))) == expected


def test_sliders_are_the_tools_that_take_one_value() -> None:
    names = [text[2:].split(" ")[0] for text in describe_tools(LIGHTROOM).splitlines()]
    assert names[:2] == ["exposure", "contrast"]
    assert len(names) == 13
    assert all(set(LIGHTROOM.by_name[name].arguments.model_fields) == {"value"} for name in names)
    assert len(describe_tools(IEA).splitlines()) == 16


def test_effects_in_words() -> None:
    plan = [
        ToolCall("exposure", {"value": 1}),
        ToolCall("tone_curve", {"channel": "red", "points": [[0, 0.1], [1, 1]]}),
        ToolCall("crop", {"left": 0.1, "angle": 2}),
        ToolCall("exposure", {"value": 0.5}),
        ToolCall("linear_gradient", {"name": "sky", "x0": 0, "y0": 0, "x1": 0, "y1": 1, "tint": 4, "amount": 0.5}),
        ToolCall("luminance_range", {"name": "sky", "low": 0.5, "op": "intersect", "invert": True}),
        ToolCall("remove_local", {"name": "face"}),
        ToolCall("finish"),
    ]
    assert describe_effects(LIGHTROOM.parse_plan(plan)) == (
        "exposure = 0.5, curve_red through (0, 0.1) (1, 1), crop left = 0.1, crop angle = 2, "
        "local 'sky': mask begins linear; tint = 4; amount = 0.5, "
        "local 'sky': mask intersect outside luminance, local 'face' removed"
    )
    whole = [Effect(crop=Crop(top=0.2)), Effect(local=SKY), Effect(local=SKY.model_copy(update={"controls": {}}))]
    assert describe_effects(whole) == (
        "crop left = 0, crop top = 0.2, crop right = 1, crop bottom = 1, crop angle = 0, "
        "local 'sky': mask add linear subtract outside image; exposure = -0.5; amount = 1, local 'sky' removed"
    )
    assert describe_effects([Effect(finish=True)]) == ""


def test_a_recipe_on_one_line() -> None:
    assert describe_recipe(Recipe("iea", {"tint": 2, "exposure": 1})) == '{"exposure": 1, "tint": 2}'
    points = tuple((i / 20, 0.5) for i in range(9))
    eyes = LocalAdjustment(
        name="eyes",
        parts=(
            MaskPart(shape=Brush(points=points[:2], radius=0.25, feather=0)),
            MaskPart(shape=Brush(points=points, radius=0.25, feather=0), op="intersect"),
        ),
        controls={"clarity": 9},
        amount=0.5,
    )
    curves = {"curve": ((0.0, 0.0), (1.0, 0.9))}
    recipe = Recipe("lightroom", {"tint": 2}, curves=curves, crop=Crop(left=0.5), locals=(SKY, eyes))
    assert json.loads(describe_recipe(recipe)) == {
        "tint": 2,
        "curves": {"curve": [[0, 0], [1, 0.9]]},
        "crop": {"left": 0.5, "top": 0, "right": 1, "bottom": 1, "angle": 0},
        "locals": {
            "sky": {"exposure": -0.5, "mask": ["linear x0=0 y0=0 x1=0 y1=1", "subtract outside image not shown"]},
            "eyes": {
                "clarity": 9,
                "amount": 0.5,
                "mask": [
                    "brush radius=0.25 feather=0 through (0, 0.5) (0.05, 0.5)",
                    "intersect brush radius=0.25 feather=0 through 9 points",
                ],
            },
        },
    }
