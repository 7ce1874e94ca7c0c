"""Crops, masks and local adjustments as data."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pydantic
import pytest

from retouch_gym.adjustments import Brush, Crop, LinearGradient, LocalAdjustment, MaskPart, read_crop, read_local
from retouch_gym.errors import RecipeError

FULL: dict[str, Any] = {
    "name": "Sky 1",
    "parts": [
        {"shape": {"kind": "linear", "x0": 0, "y0": 0, "x1": 0, "y1": 0.5}},
        {"shape": {"kind": "radial", "x": 0.5, "y": 0.5, "radius_x": 0.2, "radius_y": 0.1}, "op": "subtract"},
        {"shape": {"kind": "luminance", "low": 0.5}, "op": "intersect", "invert": True},
        {"shape": {"kind": "color", "red": 0, "green": 0.2, "blue": 1}},
        {"shape": {"kind": "brush", "points": [[0.1, 0.1], [0.2, -0.3]], "radius": 0.05}},
        {"shape": {"kind": "image", "png": "iVBORw0KGgo="}},
    ],
    "controls": {"exposure": -0.5, "clarity": 20},
    "amount": 0.7,
}


def changed(**values: Any) -> dict[str, Any]:
    return {**FULL, **values}


def with_shape(**shape: Any) -> dict[str, Any]:
    return changed(parts=[{"shape": shape}])


def test_json_there_and_back() -> None:
    local = read_local(FULL)
    assert read_local(json.loads(local.model_dump_json())) == local
    assert [part.shape.kind for part in local.parts] == ["linear", "radial", "luminance", "color", "brush", "image"]
    crop = read_crop({"left": 0.1, "bottom": 0.9, "angle": -3})
    assert read_crop(json.loads(crop.model_dump_json())) == crop


def test_equal_data_has_equal_hashes_and_pickles() -> None:
    one, two = read_local(FULL), read_local(changed(controls={"clarity": 20, "exposure": -0.5}))
    assert one == two
    assert hash(one) == hash(two)
    assert pickle.loads(pickle.dumps(one)) == one
    assert one != read_local(changed(amount=0.6))
    assert len({Crop(), Crop(angle=0), Crop(angle=1)}) == 2


def test_data_cannot_be_changed() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Crop().__setattr__("angle", 3)
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        read_local(FULL).parts[0].__setattr__("invert", True)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (None, "local adjustment"),
        ([], "local adjustment"),
        (changed(name=""), "name"),
        (changed(name="a/b"), r"name = a/b"),
        (changed(name="x" * 41), "name"),
        (changed(parts=[]), "parts"),
        (changed(parts=FULL["parts"] * 3), "parts"),
        (changed(amount=1.5), r"amount = 1\.5"),
        (changed(amount=float("nan")), "amount"),
        (changed(controls={"exposure": float("inf")}), "exposure"),
        (changed(controls={"exposure": "bright"}), r"controls\.exposure = bright"),
        (changed(colour="blue"), "colour"),
        (changed(parts=[{"shape": FULL["parts"][0]["shape"], "op": "divide"}]), "op = divide"),
        (with_shape(kind="star"), "shape"),
        (with_shape(kind="linear", x0=0, y0=0, x1=3, y1=0), r"x1 = 3"),
        (with_shape(kind="radial", x=0.5, y=0.5, radius_x=0, radius_y=0.1), "radius_x = 0"),
        (with_shape(kind="luminance", low=-0.1), r"low = -0\.1"),
        (with_shape(kind="color", red=256, green=0, blue=0), "red = 256"),
        (with_shape(kind="brush", points=[], radius=0.1), "points"),
        (with_shape(kind="brush", points=[[0.1]], radius=0.1), "points"),
        (with_shape(kind="brush", points=[[0.1, 0.1]] * 257, radius=0.1), "points"),
        (with_shape(kind="image", png=""), "png"),
        (with_shape(kind="image", png="A" * ((1 << 22) + 1)), "png"),
    ],
)
def test_what_is_no_local_adjustment_is_refused_by_name(bad: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_local(bad)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (3, "crop"),
        ({"left": 0.5, "right": 0.5}, r"left 0\.5 should be below right 0\.5"),
        ({"top": 0.9, "bottom": 0.1}, r"top 0\.9 below bottom 0\.1"),
        ({"angle": 46}, "angle = 46"),
        ({"left": -0.1}, r"left = -0\.1"),
        ({"right": "all"}, "right = all"),
        ({"zoom": 2}, "zoom"),
    ],
)
def test_what_is_no_crop_is_refused_by_name(bad: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_crop(bad)


def test_built_in_python_or_read_from_json_is_the_same() -> None:
    built = LocalAdjustment(
        name="a",
        parts=(
            MaskPart(shape=LinearGradient(x0=0, y0=0, x1=1, y1=1)),
            MaskPart(shape=Brush(points=((0, 0), (1, 1)), radius=0.1), op="subtract"),
        ),
        controls={"exposure": 1},
    )
    assert read_local(built.model_dump(mode="json")) == built
