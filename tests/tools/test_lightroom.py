"""The toolset lightroom: what its calls do to a recipe, and what is refused."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retouch_gym import Recipe, ToolCall
from retouch_gym.adjustments import Crop, evaluate_curve
from retouch_gym.chat import JSONFormat, ToolCallFormat
from retouch_gym.errors import ConfigurationError, ToolError
from retouch_gym.testing import check_toolset
from retouch_gym.tools import Control, Effect, Tool, get_toolset
from retouch_gym.tools.lightroom import LIGHTROOM
from retouch_gym.tools.lightroom_controls import CONTROLS, CURVES, LOCAL
from retouch_gym.tools.presets import PRESETS, Preset, PresetTool

PANELS = [
    *("parametric_curve", "tone_curve", "hsl", "color_grading", "grading_mix", "sharpening", "noise_reduction"),
    *("vignette", "grain", "black_and_white_mix", "calibration", "crop", "preset"),
]
SLIDERS = [
    *("exposure", "contrast", "highlights", "shadows", "whites", "blacks", "temperature", "tint"),
    *("vibrance", "saturation", "texture", "clarity", "dehaze"),
]
PROPERTIES: dict[str, Any] = {spec.name: spec.parameters.get("properties", {}) for spec in LIGHTROOM.specs}
REQUIRED: dict[str, set[Any]] = {spec.name: set(spec.parameters.get("required", ())) for spec in LIGHTROOM.specs}  # type: ignore[arg-type]


def after(*calls: tuple[str, dict[str, Any]], recipe: Recipe | None = None) -> Recipe:
    """The recipe that the calls make."""
    plan = [ToolCall(name, arguments) for name, arguments in calls]
    return (recipe or Recipe("lightroom")).apply(LIGHTROOM.parse_plan(plan), LIGHTROOM).check(LIGHTROOM)


def refusal(name: str, arguments: Any) -> str:
    with pytest.raises(ToolError) as refused:
        LIGHTROOM.parse(ToolCall(name, arguments))
    return str(refused.value)


def test_the_public_checker_passes() -> None:
    check_toolset("lightroom", samples=60)
    assert get_toolset("lightroom") is LIGHTROOM


def test_every_control_of_the_panels_is_set_by_a_tool() -> None:
    assert set(LIGHTROOM.controls) == {control.name for control in CONTROLS}
    names = [tool.name for tool in LIGHTROOM.tools]
    assert names[: len(SLIDERS) + len(PANELS)] == SLIDERS + PANELS
    assert names[-2:] == ["finish", "undo"]
    assert (LIGHTROOM.curves, LIGHTROOM.local_controls, LIGHTROOM.can_crop) == (CURVES, LOCAL, True)


def test_a_tool_with_the_name_of_a_control_takes_its_value_alone() -> None:
    # Numeric views and answer formats write {"value": …} to whatever has a control's name.
    for name in set(LIGHTROOM.controls) & set(LIGHTROOM.by_name):
        assert set(LIGHTROOM.by_name[name].arguments.model_fields) == {"value"}


def test_exposure_is_in_stops_and_takes_fractions() -> None:
    assert after(("exposure", {"value": 0.35})).controls == {"exposure": 0.35}
    assert isinstance(LIGHTROOM.parse(ToolCall("exposure", {"value": 1})).controls["exposure"], float)
    assert after(("exposure", {"value": 1}), ("exposure", {"value": 0})).is_empty
    assert "value = 5.1" in refusal("exposure", {"value": 5.1})
    assert "contrast: value = 4.5" in refusal("contrast", {"value": 4.5})


@pytest.mark.parametrize(
    ("name", "arguments", "controls"),
    [
        ("parametric_curve", {"lights": 10, "darks": -10}, {"curve_lights": 10, "curve_darks": -10}),
        ("hsl", {"color": "aqua", "hue": -5, "luminance": 3}, {"hsl_aqua_hue": -5, "hsl_aqua_luminance": 3}),
        (
            "color_grading",
            {"zone": "global", "hue": 360, "saturation": 9},
            {"grading_global_hue": 360, "grading_global_saturation": 9},
        ),
        ("grading_mix", {"balance": 3, "blending": 50}, {"grading_balance": 3}),
        ("sharpening", {"amount": 150, "radius": 0.5}, {"sharpening_amount": 150, "sharpening_radius": 0.5}),
        ("noise_reduction", {"color": 25}, {"noise_color": 25}),
        ("vignette", {"amount": -30, "midpoint": 0}, {"vignette_amount": -30, "vignette_midpoint": 0}),
        ("grain", {"amount": 20, "size": 25}, {"grain_amount": 20}),
        ("black_and_white_mix", {"enabled": True, "blue": -40}, {"black_and_white": 1, "bw_blue": -40}),
        ("calibration", {"shadow_tint": 4, "blue_saturation": 7}, {"calibration_shadow_tint": 4}),
    ],
)
def test_a_panel_sets_what_is_given_and_leaves_the_rest(
    name: str, arguments: dict[str, Any], controls: dict[str, float]
) -> None:
    recipe = after((name, arguments))
    assert controls.items() <= recipe.controls.items()
    others = {"exposure": 1.0, "vignette_feather": 10}
    kept = after((name, arguments), recipe=Recipe("lightroom", others))
    assert kept.controls == {**others, **recipe.controls}


def test_switching_back_to_colour_keeps_the_mix() -> None:
    recipe = after(
        ("black_and_white_mix", {"enabled": True, "red": 20}),
        ("black_and_white_mix", {"enabled": False}),
    )
    assert recipe.controls == {"bw_red": 20}


def test_point_curves_are_set_by_channel_and_taken_away_by_the_identity() -> None:
    points = [[0, 0.1], [0.5, 0.6], [1, 0.9]]
    recipe = after(
        ("tone_curve", {"channel": "rgb", "points": points}), ("tone_curve", {"channel": "red", "points": points})
    )
    assert set(recipe.curves) == {"curve", "curve_red"}
    assert evaluate_curve(recipe.curves["curve"], np.array([0.5])) == pytest.approx([0.6])
    straight = {"channel": "rgb", "points": [[0, 0], [1, 1]]}
    assert set(after(("tone_curve", straight), recipe=recipe).curves) == {"curve_red"}


def test_sides_of_the_crop_that_are_left_out_stay() -> None:
    recipe = after(("crop", {"left": 0.1, "right": 0.9}), ("crop", {"angle": -2.5}), ("crop", {"left": 0.2}))
    assert recipe.crop == Crop(left=0.2, right=0.9, angle=-2.5)
    whole = {"left": 0, "top": 0, "right": 1, "bottom": 1, "angle": 0}
    assert after(("crop", whole), recipe=recipe).is_empty
    with pytest.raises(ToolError, match=r"crop: left 0\.95 should be below right 0\.9"):
        after(("crop", {"left": 0.95}), recipe=recipe)


def test_presets_are_partial_recipes() -> None:
    for name, preset in PRESETS.items():
        recipe = after(("preset", {"name": name}), recipe=Recipe("lightroom", {"bw_magenta": 3}))
        assert recipe.controls == {"bw_magenta": 3, **preset.controls}
        assert dict(recipe.curves) == preset.curves
    changed = after(("preset", {"name": "punchy"}), ("contrast", {"value": 0}))
    assert "contrast" not in changed.controls
    with pytest.raises(ConfigurationError, match="'odd' sets exposure = 9"):
        PresetTool({"odd": Preset("?", {"exposure": 9})}, CONTROLS)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("hsl", {"color": "pink", "hue": 1}, ["color = 'pink'", "'magenta'"]),
        ("hsl", {"hue": 1}, ["'color' is missing"]),
        ("hsl", {"color": "red"}, ["nothing is set", "hue, saturation, luminance"]),
        ("hsl", {"color": "red", "hue": 101}, ["hue = 101", "100"]),
        ("vignette", {}, ["nothing is set", "midpoint"]),
        ("vignette", {"amount": None}, ["amount = None", "integer"]),
        ("sharpening", {"radius": 0.4}, ["radius = 0.4", "0.5"]),
        ("grain", {"strength": 4}, ["unknown argument 'strength'", "known: amount, roughness, size"]),
        ("black_and_white_mix", {"enabled": 1}, ["enabled = 1", "boolean"]),
        ("black_and_white_mix", {"red": 1}, ["'enabled' is missing"]),
        ("tone_curve", {"channel": "rgb", "points": [[0, 0]]}, ["points = ", "at least 2 items"]),
        ("tone_curve", {"channel": "rgb", "points": [[0, 0], [0, 1]]}, ["points = ", "inputs should rise"]),
        (
            "tone_curve",
            {"channel": "rgb", "points": [[0, 0], [1, 1.5]]},
            ["points.1.1 = 1.5", "less than or equal to 1"],
        ),
        ("tone_curve", {"channel": "rgb", "points": [[0, 0], [1, 1, 1]]}, ["points.1 = ", "at most 2 items"]),
        ("crop", {"left": 0.5, "right": 0.5}, ["left = 0.5 should be below right = 0.5"]),
        ("crop", {"angle": 90}, ["angle = 90", "45"]),
        ("crop", {}, ["nothing is set", "angle"]),
        ("preset", {"name": "Punchy"}, ["name = 'Punchy'", "'punchy'"]),
    ],
)
def test_a_refusal_names_argument_value_and_bound(name: str, arguments: dict[str, Any], words: list[str]) -> None:
    message = refusal(name, arguments)
    assert message.startswith(f"{name}: ")
    assert all(word in message for word in words), message


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_drawn_plans_fold_into_valid_recipes_that_survive_json(seed: int) -> None:
    rng, recipe = np.random.default_rng(seed), Recipe("lightroom")
    for _ in range(12):
        tool = LIGHTROOM.tools[int(rng.integers(len(LIGHTROOM.tools)))]
        effect = LIGHTROOM.parse(ToolCall(tool.name, tool.sample(rng)))
        try:
            recipe = recipe.apply([effect], LIGHTROOM)
        except ToolError:
            # Only what looks at the recipe can be refused now.
            assert effect.change is not None or effect.crop_parts
            continue
        assert recipe.check(LIGHTROOM) is recipe
        assert Recipe.from_json(recipe.to_json()) == recipe == pickle.loads(pickle.dumps(recipe))
        if effect.change is None or effect.change.anew:
            assert recipe.apply([effect], LIGHTROOM) == recipe


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_every_control_can_be_set_and_set_back(control: Control) -> None:
    for value in (control.low, control.high, control.default):
        effects = [effect for tool in LIGHTROOM.tools if (effect := _setting(tool, control, value))]
        assert len(effects) == 1
        recipe = Recipe("lightroom", {control.name: control.high}).apply(effects, LIGHTROOM)
        assert recipe.check(LIGHTROOM).controls.get(control.name, control.default) == value
        assert (control.name in recipe.controls) == (value != control.default)


def _setting(tool: Tool, control: Control, value: float) -> Effect | None:
    """What the tool's call does that gives the control this value, if there is one."""
    properties: Any = PROPERTIES[tool.name]
    choices = [{name: choice} for name, entry in properties.items() for choice in entry.get("enum", ())]
    number: Any = bool(value) if control.unit == "switch" else int(value) if control.integer else value
    for first in [{}, *choices, {"enabled": False}]:
        for name in properties.keys() - first.keys():
            try:
                effect = tool.parse({**first, name: number})
            except ToolError:
                continue
            if effect.controls.get(control.name) == value:
                return effect
    return None


@pytest.mark.parametrize("spoken", [ToolCallFormat(), JSONFormat()], ids=lambda spoken: spoken.name)
def test_every_tool_can_be_called_in_words(spoken: Any) -> None:
    rng = np.random.default_rng(3)
    for tool in LIGHTROOM.tools:
        calls = (ToolCall(tool.name, tool.sample(rng)),)
        found = spoken.parse(spoken.write("because", calls))
        assert found == calls
        assert LIGHTROOM.parse_plan(found) == LIGHTROOM.parse_plan(calls)


HUGE = 10**400
VALUES: list[Any] = [
    *(math.nan, math.inf, -math.inf, 1e308, HUGE, -HUGE, 0, -1, 101, 0.5, True, False, None, "", "40", "red", "\ud800"),
    *([], [[]], [1], [[0, 0], [1, 1]], {}, {"value": 1}, b"x", (1, 2), 1j, object(), "x" * 10_000),
    json.loads("[" * 500 + "]" * 500),
]


def test_ten_thousand_wrong_calls_are_refused_in_words() -> None:
    rng, refused = np.random.default_rng(0), 0
    for number in range(10_000):
        tool = LIGHTROOM.tools[number % len(LIGHTROOM.tools)]
        arguments = dict(tool.sample(rng))
        properties = PROPERTIES[tool.name]
        value = VALUES[int(rng.integers(len(VALUES)))]
        # Drawn arguments are valid, so that the one that is spoilt is what is wrong.
        name = [*properties, "no_such_argument"][int(rng.integers(len(properties) + 1))]
        if _may_be(value, properties.get(name, {"type": None})):
            continue
        message = refusal(tool.name, {**arguments, name: value})
        assert tool.name in message
        assert name in message
        assert len(message) < 2_000
        refused += 1
        for missing in REQUIRED[tool.name] & set(arguments):
            kept = {key: kept for key, kept in arguments.items() if key != missing}
            assert f"{missing!r} is missing" in refusal(tool.name, kept)
        nested = refusal(tool.name, {"arguments": arguments}) if arguments else refusal(tool.name, [arguments])
        assert "arguments" in nested
    assert refused > 5_000


def _may_be(value: Any, entry: dict[str, Any]) -> bool:
    """Whether a value may be right for an argument with this schema, seen by its type alone."""
    if "enum" in entry:
        return value in entry["enum"]
    kind = entry.get("type")
    if kind in ("integer", "number"):
        fits = type(value) is int or (kind == "number" and type(value) is float)
        return fits and entry["minimum"] <= value <= entry["maximum"]
    if kind == "boolean":
        return type(value) is bool
    return (kind == "string" and value in ("40", "red")) or (kind == "array" and value == [[0, 0], [1, 1]])
