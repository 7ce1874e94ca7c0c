"""Local adjustments of the toolset lightroom: how masks and controls of one name come together."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import PIL.Image
import pytest

from retouch_gym import Recipe, ToolCall
from retouch_gym.adjustments import MAX_LOCALS, LocalAdjustment
from retouch_gym.errors import ToolError
from retouch_gym.tools.lightroom import LIGHTROOM

SKY = {"name": "sky", "x0": 0.5, "y0": 0.2, "x1": 0.5, "y1": 0.5}
SUN = {"name": "sky", "x": 0.3, "y": 0.2, "radius_x": 0.1, "radius_y": 0.1}
SHAPES: dict[str, dict[str, Any]] = {
    "linear_gradient": SKY,
    "radial_gradient": SUN,
    "luminance_range": {"name": "sky", "low": 0.7},
    "color_range": {"name": "sky", "red": 0.4, "green": 0.6, "blue": 0.9},
    "brush": {"name": "sky", "points": [[0.1, 0.1], [0.9, 0.2]], "radius": 0.1},
    "mask_image": {"name": "sky"},
}


def png(mode: str = "L", size: tuple[int, int] = (4, 3)) -> str:
    packed = io.BytesIO()
    PIL.Image.new(mode, size).save(packed, "png")
    return base64.b64encode(packed.getvalue()).decode()


SHAPES["mask_image"]["png"] = png()


def after(*calls: tuple[str, dict[str, Any]], recipe: Recipe | None = None) -> Recipe:
    plan = [ToolCall(name, arguments) for name, arguments in calls]
    return (recipe or Recipe("lightroom")).apply(LIGHTROOM.parse_plan(plan), LIGHTROOM).check(LIGHTROOM)


def only(recipe: Recipe) -> LocalAdjustment:
    (local,) = recipe.locals
    return local


@pytest.mark.parametrize("tool", SHAPES)
def test_one_call_is_a_whole_local_edit(tool: str) -> None:
    local = only(after((tool, {**SHAPES[tool], "exposure": -0.8, "invert": True, "amount": 0.5})))
    assert (local.name, local.amount, dict(local.controls)) == ("sky", 0.5, {"exposure": -0.8})
    (part,) = local.parts
    assert (part.op, part.invert) == ("add", True)
    told = {key: value for key, value in SHAPES[tool].items() if key != "name"}
    assert told.items() <= part.shape.model_dump(mode="json").items()


def test_a_call_that_is_repeated_changes_nothing_and_a_shape_is_moved_by_giving_it_again() -> None:
    call = ("linear_gradient", {**SKY, "exposure": -0.8})
    recipe = after(call)
    assert after(call, recipe=recipe) == recipe
    moved = only(after(("linear_gradient", {**SKY, "y1": 0.7}), recipe=recipe))
    assert [part.shape.model_dump()["y1"] for part in moved.parts] == [0.7]
    assert moved.controls == {"exposure": -0.8}


def test_shapes_join_and_what_is_left_out_stays() -> None:
    recipe = after(("linear_gradient", {**SKY, "exposure": -0.8, "amount": 0.5}))
    recipe = after(
        ("radial_gradient", {**SUN, "op": "subtract"}),
        ("luminance_range", {"name": "sky", "low": 0.4, "op": "intersect", "dehaze": 20}),
        ("brush", {**SHAPES["brush"], "op": "add", "invert": True}),
        recipe=recipe,
    )
    local = only(recipe)
    joined = [(part.shape.kind, part.op, part.invert) for part in local.parts]
    assert joined == [
        ("linear", "add", False),
        ("radial", "subtract", False),
        ("luminance", "intersect", False),
        ("brush", "add", True),
    ]
    assert (dict(local.controls), local.amount) == ({"exposure": -0.8, "dehaze": 20}, 0.5)


def test_controls_change_without_the_mask_and_neutral_ones_go() -> None:
    recipe = after(("linear_gradient", {**SKY, "exposure": -0.8, "dehaze": 20}), ("contrast", {"value": 5}))
    changed = after(("adjust_local", {"name": "sky", "dehaze": 0, "amount": 0.25}), recipe=recipe)
    assert only(changed) == only(recipe).model_copy(update={"controls": {"exposure": -0.8}, "amount": 0.25})
    gone = after(("adjust_local", {"name": "sky", "exposure": 0}), recipe=changed)
    assert gone == after(("remove_local", {"name": "sky"}), recipe=recipe) == Recipe("lightroom", {"contrast": 5})


def test_within_a_plan_masks_may_come_before_controls() -> None:
    local = only(
        after(
            ("linear_gradient", SKY),
            ("radial_gradient", {**SUN, "op": "subtract"}),
            ("adjust_local", {"name": "sky", "temperature": -10}),
        )
    )
    assert (len(local.parts), dict(local.controls)) == (2, {"temperature": -10})
    assert after(("linear_gradient", SKY), ("remove_local", {"name": "sky"})).is_empty


def test_order_and_other_adjustments_stay() -> None:
    recipe = after(
        ("linear_gradient", {**SKY, "exposure": -1}),
        ("radial_gradient", {**SUN, "name": "face", "exposure": 1}),
        ("linear_gradient", {**SKY, "exposure": -2}),
    )
    assert [(local.name, local.controls["exposure"]) for local in recipe.locals] == [("sky", -2), ("face", 1)]


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ([("linear_gradient", SKY)], ["'sky'", "sets nothing", "exposure"]),
        ([("linear_gradient", {**SKY, "exposure": 0})], ["'sky'", "sets nothing"]),
        ([("radial_gradient", {**SUN, "op": "subtract", "exposure": 1})], ["op = 'subtract'", "'sky' has no mask yet"]),
        ([("adjust_local", {"name": "sky", "exposure": 1})], ["no local adjustment named 'sky'", "none"]),
        ([("remove_local", {"name": "sky"})], ["no local adjustment named 'sky'"]),
        (
            [("linear_gradient", {**SKY, "tint": 1}), ("adjust_local", {"name": "Sky", "tint": 2})],
            ["named 'Sky'", "there are: 'sky'"],
        ),
        (
            [("linear_gradient", {**SKY, "tint": 1}), *[("radial_gradient", {**SUN, "op": "add"})] * 16],
            ["'sky'", "16", "'replace'"],
        ),
        (
            [("linear_gradient", {**SKY, "name": f"n{i}", "tint": 1}) for i in range(MAX_LOCALS + 1)],
            [f"at most {MAX_LOCALS}"],
        ),
    ],
)
def test_what_does_not_fit_the_recipe_is_refused_with_a_next_step(
    calls: list[tuple[str, dict[str, Any]]], words: list[str]
) -> None:
    with pytest.raises(ToolError) as refused:
        after(*calls)
    assert all(word in str(refused.value) for word in words), refused.value


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("linear_gradient", {**SKY, "y1": 0.2}, ["(x0, y0) and (x1, y1) are both (0.5, 0.2)"]),
        ("linear_gradient", {**SKY, "x0": 3}, ["x0 = 3", "2"]),
        ("linear_gradient", {**SKY, "exposure": 4.5}, ["exposure = 4.5", "4"]),
        ("linear_gradient", {**SKY, "sharpening_radius": 1}, ["unknown argument 'sharpening_radius'"]),
        ("linear_gradient", {**SKY, "op": "union"}, ["op = 'union'", "'subtract'"]),
        ("linear_gradient", {**SKY, "name": "sky!"}, ["name = 'sky!'", "pattern"]),
        ("radial_gradient", {**SUN, "radius_x": 0}, ["radius_x = 0", "0.01"]),
        ("luminance_range", {"name": "a", "low": 0.6, "high": 0.4}, ["low = 0.6 should not be above high = 0.4"]),
        ("color_range", {"name": "a", "red": 255, "green": 0, "blue": 0}, ["red = 255", "1"]),
        ("brush", {"name": "a", "points": [], "radius": 0.1}, ["points = []", "at least 1"]),
        ("brush", {"name": "a", "points": [[0, "a"]], "radius": 0.1}, ["points.0.1 = 'a'", "number"]),
        ("mask_image", {"name": "a", "png": "mask.png"}, ["png = 'mask.png'", "no base64"]),
        ("mask_image", {"name": "a", "png": base64.b64encode(b"GIF89a" * 9).decode()}, ["png = ", "PNG"]),
        ("mask_image", {"name": "a", "png": png("RGB")}, ["png = ", "mode RGB", "grey"]),
        ("mask_image", {"name": "a", "png": png(size=(999, 999))[:-400]}, ["png = ", "damaged"]),
        ("adjust_local", {"name": "sky"}, ["nothing is set", "amount, exposure"]),
        ("adjust_local", {"name": "sky", "amount": 1.5}, ["amount = 1.5", "1"]),
        ("remove_local", {}, ["'name' is missing"]),
    ],
)
def test_a_refusal_names_argument_value_and_bound(tool: str, arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ToolError) as refused:
        LIGHTROOM.parse(ToolCall(tool, arguments))
    message = str(refused.value)
    assert message.startswith(f"{tool}: ")
    assert all(word in message for word in words), message


def test_masks_of_one_and_of_sixteen_bits_are_taken() -> None:
    for mode in ("1", "I;16"):
        assert only(after(("mask_image", {"name": "a", "png": png(mode), "tint": 4}))).parts[0].shape.kind == "image"
    data = bytearray(base64.b64decode(png()))
    data[16:24] = np.array([100_000, 100_000], ">u4").tobytes()
    with pytest.raises(ToolError, match="100000 × 100000 pixels"):
        LIGHTROOM.parse(ToolCall("mask_image", {"name": "a", "png": base64.b64encode(bytes(data)).decode()}))
