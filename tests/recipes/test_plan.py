"""From recipes back to calls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retouch_gym import Recipe, ToolCall, Toolset
from retouch_gym.adjustments import Crop, LinearGradient, LocalAdjustment, MaskPart
from retouch_gym.errors import RecipeError, ToolError
from retouch_gym.recipes import plan_of
from retouch_gym.tools import IEA, SliderTool, get_toolset
from retouch_gym.tools.lightroom import LIGHTROOM

GRADIENT = LinearGradient(x0=0, y0=0, x1=0, y1=1)


def drawn(toolset: Toolset, seed: int, count: int = 20) -> Recipe:
    """A recipe of calls drawn at random, those that do not fit left out."""
    rng, recipe = np.random.default_rng(seed), Recipe(toolset.name, seed=seed)
    for _ in range(count):
        tool = toolset.tools[int(rng.integers(len(toolset.tools)))]
        try:
            recipe = recipe.apply([tool.parse(tool.sample(rng))], toolset)
        except ToolError:
            continue
    return recipe


@pytest.mark.parametrize("name", ["iea", "iea-compat", "lightroom"])
@given(seed=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_the_plan_of_a_recipe_makes_the_recipe(name: str, seed: int) -> None:
    toolset = get_toolset(name)
    recipe = drawn(toolset, seed)
    plan = plan_of(recipe, toolset)
    assert Recipe(name, seed=seed).apply(toolset.parse_plan(plan), toolset) == recipe
    assert len(plan) <= 64


def test_calls_say_what_is_set_and_no_more() -> None:
    recipe = Recipe(
        "lightroom",
        {"exposure": 0.5, "hsl_blue_hue": -10, "hsl_blue_saturation": 5, "bw_red": 4, "sharpening_amount": 30},
        curves={"curve": ((0.0, 0.0), (1.0, 0.9)), "curve_blue": ((0.0, 0.1), (1.0, 1.0))},
        crop=Crop(left=0.25, angle=1.5),
        locals=(LocalAdjustment(name="sky", parts=(MaskPart(shape=GRADIENT),), controls={"dehaze": 20}),),
    )
    assert plan_of(recipe, LIGHTROOM) == (
        ToolCall("exposure", {"value": 0.5}),
        ToolCall("tone_curve", {"channel": "rgb", "points": [[0, 0], [1, 0.9]]}),
        ToolCall("tone_curve", {"channel": "blue", "points": [[0, 0.1], [1, 1]]}),
        ToolCall("hsl", {"color": "blue", "hue": -10, "saturation": 5}),
        ToolCall("sharpening", {"amount": 30}),
        ToolCall("black_and_white_mix", {"enabled": False, "red": 4}),
        ToolCall("crop", {"left": 0.25, "angle": 1.5}),
        ToolCall("linear_gradient", {"name": "sky", "x0": 0, "y0": 0, "x1": 0, "y1": 1, "dehaze": 20}),
    )
    assert plan_of(Recipe("iea", {"tint": 3.0}), IEA) == (ToolCall("tint", {"value": 3}),)
    assert plan_of(Recipe("iea"), IEA) == ()


def test_a_recipe_that_no_calls_make_is_refused_by_name() -> None:
    outside = LocalAdjustment(name="edge", parts=(MaskPart(shape=GRADIENT, op="subtract"),), controls={"tint": 9})
    some = replace(LIGHTROOM, tools=(SliderTool(LIGHTROOM.controls["tint"], "Tint."),), local_controls=())
    for recipe, toolset, why in (
        (Recipe("lightroom", {"contrast": 0.5}), LIGHTROOM, "contrast: value = 0.5"),
        (Recipe("lightroom", locals=(outside,)), LIGHTROOM, "no tool sets a local adjustment"),
        (Recipe("lightroom", {"tint": 1}, crop=Crop(top=0.5)), some, "no tool sets crop"),
        (Recipe("iea", {"tint": 1}), LIGHTROOM, "'iea'"),
        (Recipe("iea", {"tint": 101}), IEA, "tint = 101"),
    ):
        with pytest.raises(RecipeError, match=why):
            plan_of(recipe, toolset)
