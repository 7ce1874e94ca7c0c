"""Recipes: folding, values, JSON."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retouch_gym import Recipe
from retouch_gym.adjustments import IDENTITY, Brush, Crop, LinearGradient, LocalAdjustment, LuminanceRange, MaskPart
from retouch_gym.errors import RecipeError
from retouch_gym.tools import IEA, IEA_COMPAT, Effect, Toolset

controls = st.dictionaries(st.sampled_from([*IEA.controls]), st.integers(1, 100))


@given(controls, st.integers(0, 2**31))
def test_json_pickle_and_hash_keep_a_recipe(values: dict[str, float], seed: int) -> None:
    recipe = Recipe("iea", values, seed)
    for copy in (
        Recipe.from_json(recipe.to_json()),
        Recipe.from_dict(recipe.to_dict()),
        pickle.loads(pickle.dumps(recipe)),
    ):
        assert copy == recipe
        assert hash(copy) == hash(recipe)


@given(st.lists(controls, max_size=4))
def test_folding_keeps_the_last_value_and_does_not_depend_on_grouping(steps: list[dict[str, float]]) -> None:
    effects = [Effect(step) for step in steps]
    together = Recipe("iea").apply(effects, IEA)
    one_by_one = Recipe("iea")
    for effect in effects:
        one_by_one = one_by_one.apply([effect], IEA)
    merged: dict[str, float] = {}
    for step in steps:
        merged |= step
    assert together == one_by_one == Recipe("iea", merged)
    assert together.check(IEA) is together


def test_the_order_of_controls_does_not_matter() -> None:
    one, other = Recipe("iea", {"tint": 1, "exposure": 2}), Recipe("iea", {"exposure": 2, "tint": 1})
    assert one == other
    assert one.to_json() == other.to_json()
    assert len({one, other}) == 1


def test_set_back_to_default_is_never_touched() -> None:
    recipe = Recipe("iea").apply([Effect({"exposure": 4}), Effect({"exposure": 0})], IEA)
    assert recipe.is_empty
    assert recipe == Recipe("iea")
    assert recipe["exposure"] == 0


def test_apply_and_without_leave_the_recipe_itself_alone() -> None:
    recipe = Recipe("iea", {"exposure": 4, "tint": 2}, seed=3)
    assert recipe.without("tint") == Recipe("iea", {"exposure": 4}, seed=3)
    assert recipe.without("grain") == recipe
    recipe.apply([Effect({"tint": 9})], IEA)
    assert dict(recipe.controls) == {"exposure": 4, "tint": 2}
    with pytest.raises(TypeError):
        recipe.controls["tint"] = 5  # type: ignore[index]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "4", None, True])
def test_a_control_is_a_finite_number(value: Any) -> None:
    with pytest.raises(RecipeError, match="'exposure'"):
        Recipe("iea", {"exposure": value})


def test_a_recipe_belongs_to_its_toolset() -> None:
    recipe = Recipe("iea", {"fade": 4})
    with pytest.raises(RecipeError, match="'iea-compat'"):
        recipe.apply([], IEA_COMPAT)
    with pytest.raises(RecipeError, match="'iea-compat'"):
        recipe.check(IEA_COMPAT)
    with pytest.raises(RecipeError, match=r"fade = -4 is outside 0\.\.100"):
        Recipe("iea", {"fade": -4}).check(IEA)
    with pytest.raises(RecipeError, match="'clarity'"):
        Recipe("iea", {"clarity": 4}).check(IEA)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ([], "JSON object"),
        ({"toolset": "iea"}, "version None"),
        ({"version": 3, "toolset": "iea"}, "version 3"),
        ({"version": 2, "toolset": "x", "curves": {"curve": [[0, 0]]}}, "2..16 points"),
        ({"version": 2, "toolset": "x", "curves": {"curve": [[0, 0], [0, 1]]}}, "inputs should rise"),
        ({"version": 2, "toolset": "x", "curves": {"curve": [[0, 0], [1, 2]]}}, "both 0..1"),
        ({"version": 2, "toolset": "x", "curves": []}, "should be an object"),
        ({"version": 2, "toolset": "x", "crop": {"left": 0.5, "right": 0.2}}, "below right"),
        ({"version": 2, "toolset": "x", "crop": {"angle": 90}}, "angle"),
        ({"version": 2, "toolset": "x", "locals": {}}, "a list"),
        ({"version": 2, "toolset": "x", "locals": [{"name": "sky", "parts": []}]}, "parts"),
        ({"version": 2, "toolset": "x", "locals": [{"name": "sky", "parts": [{"shape": {"kind": "no"}}]}]}, "shape"),
        ({"version": 1}, "toolset"),
        ({"version": 1, "toolset": "iea", "sliders": {}}, "sliders"),
        ({"version": 1, "toolset": "iea", "controls": []}, "controls"),
        ({"version": 1, "toolset": "iea", "seed": 1.5}, "seed"),
        ({"version": 1, "toolset": "iea", "controls": {"tint": "x"}}, "tint"),
    ],
)
def test_malformed_recipes_are_refused(data: Any, match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        Recipe.from_json(json.dumps(data))


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(RecipeError, match="Not JSON"):
        Recipe.from_json("{exposure: 4}")


SKY = LocalAdjustment(
    name="sky",
    parts=(
        MaskPart(shape=LinearGradient(x0=0.5, y0=0, x1=0.5, y1=0.4)),
        MaskPart(shape=Brush(points=((0.1, 0.2), (0.3, 0.2)), radius=0.1), op="subtract"),
        MaskPart(shape=LuminanceRange(low=0.5), op="intersect", invert=True),
    ),
    controls={"exposure": -0.5},
)
FULL = Recipe(
    "lightroom",
    {"exposure": 0.5},
    7,
    curves={"curve": ((0, 0.1), (0.5, 0.5), (1, 0.9)), "curve_red": IDENTITY},
    crop=Crop(left=0.1, angle=2.5),
    locals=(SKY, LocalAdjustment(name="nothing", parts=SKY.parts)),
)


def test_curves_crops_and_local_adjustments_are_part_of_it() -> None:
    assert FULL.parts == ("exposure", "curve", "crop", "local:sky")
    assert Recipe.from_json(FULL.to_json()) == FULL == pickle.loads(pickle.dumps(FULL))
    assert hash(Recipe.from_json(FULL.to_json())) == hash(FULL)
    for part in FULL.parts:
        assert set(FULL.without(part).parts) == set(FULL.parts) - {part}
    assert not FULL.is_empty
    assert Recipe("lightroom", crop=Crop(), curves={"curve": IDENTITY}).is_empty
    with pytest.raises(RecipeError, match="Unknown curve"):
        Recipe("iea", curves=FULL.curves).check(IEA)
    with pytest.raises(RecipeError, match="cannot crop"):
        Recipe("iea", crop=FULL.crop).check(IEA)
    with pytest.raises(RecipeError, match="Unknown control 'exposure'"):
        Recipe("iea", locals=FULL.locals).check(IEA)
    with pytest.raises(RecipeError, match="share a name"):
        Recipe("lightroom", locals=(SKY, SKY))


def test_their_effects_fold_like_those_of_sliders() -> None:
    toolset = Toolset("lightroom", ())
    recipe = Recipe("lightroom").apply([Effect(curves=FULL.curves), Effect(local=SKY), Effect(crop=FULL.crop)], toolset)
    assert recipe.parts == ("curve", "crop", "local:sky")
    darker = SKY.model_copy(update={"controls": {"exposure": -2.0}})
    recipe = recipe.apply([Effect(local=darker)], toolset)
    assert recipe.locals == (darker,)
    gone = [
        Effect(curves={"curve": IDENTITY}),
        Effect(crop=Crop()),
        Effect(local=SKY.model_copy(update={"controls": {}})),
    ]
    assert recipe.apply(gone, toolset).is_empty
