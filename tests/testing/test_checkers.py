"""The checkers find what breaks a contract. (`check_reward` has its tests beside the rewards.)"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pydantic
import pytest

from retouch_gym import Recipe, Toolset
from retouch_gym.datasets import Dataset
from retouch_gym.renderers import Renderer
from retouch_gym.tasks import Task
from retouch_gym.testing import TinyDataset, TinyRenderer, check_dataset, check_renderer, check_tool, check_toolset
from retouch_gym.tools import Arguments, Control, Effect, SliderTool, Tool
from retouch_gym.types import JSON, Image


class WarmthArguments(Arguments):
    value: int = pydantic.Field(ge=-10, le=10, description="Warmth. 0 = untouched.")


class Warmth(Tool):
    """A correct tool, to be broken in one way at a time."""

    name = "warmth"
    description = "Warmer or cooler."
    arguments = WarmthArguments
    controls = (Control("warmth", -10, 10),)

    def effect(self, arguments: Any) -> Effect:
        return Effect({"warmth": arguments.value})

    def sample(self, rng: np.random.Generator) -> dict[str, JSON]:
        return {"value": int(rng.integers(-10, 10, endpoint=True))}


class UnboundedArguments(Arguments):
    value: int = pydantic.Field(description="Any number.")


class Unbounded(Warmth):
    arguments = UnboundedArguments


class Clamps(Warmth):
    def parse(self, arguments: object) -> Effect:
        value = arguments.get("value", 0) if isinstance(arguments, dict) else 0
        return Effect({"warmth": max(-10, min(10, value if type(value) is int else 0))})


class SamplesOutside(Warmth):
    def sample(self, rng: np.random.Generator) -> dict[str, JSON]:
        return {"value": int(rng.integers(-10, 11)), "extra": 1}


class Moody(Warmth):
    def sample(self, rng: np.random.Generator) -> dict[str, JSON]:
        return {"value": int(np.random.default_rng().integers(-10, 10))}


class OtherControl(Warmth):
    def effect(self, arguments: Any) -> Effect:
        return Effect({"tint": arguments.value})


class DefaultBites(Warmth):
    controls = (Control("warmth", -10, 10, default=5),)


class NoUnit(Warmth):
    controls = (Control("warmth", -10, 10, unit=""),)


class Shouting(Warmth):
    name = "WARMTH"


@pytest.mark.parametrize(
    ("tool", "complaint"),
    [
        (Unbounded(), "no lower bound"),
        (Clamps(), "should have been refused"),
        (SamplesOutside(), "extra"),
        (Moody(), "more than its generator"),
        (OtherControl(), "'tint'"),
        (NoUnit(), "no unit"),
        (Shouting(), "snake case"),
        (SliderTool(Control("x", 5, 5), "?"), r"no range"),
        (SliderTool(Control("x", 0, 5), " "), "description is empty"),
    ],
)
def test_a_broken_tool_is_caught(tool: Tool, complaint: str) -> None:
    with pytest.raises((AssertionError, ValueError), match=complaint):
        check_tool(tool)


def test_a_correct_tool_and_toolset_pass() -> None:
    check_tool(Warmth())
    check_toolset(Toolset("mine", (Warmth(),)))


class WritesInput(TinyRenderer):
    def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        images = super().render(photos, recipes)
        for photo in photos:
            if photo.flags.writeable:
                photo[0, 0] = 0
        return images


class Views(TinyRenderer):
    def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        return [
            photo if recipe.is_empty else image
            for photo, recipe, image in zip(photos, recipes, super().render(photos, recipes), strict=True)
        ]


class Stateful(TinyRenderer):
    """Every other call is a little darker."""

    def __init__(self) -> None:
        self.calls = 0

    def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        self.calls += 1
        return [np.asarray(image - self.calls % 2, np.uint8) for image in super().render(photos, recipes)]


class NeverIdentity(TinyRenderer):
    def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        return [np.asarray(image // 2 * 2, np.uint8) for image in super().render(photos, recipes)]


class TakesForeign(TinyRenderer):
    def _render_one(self, photo: Image, recipe: Recipe) -> Image:
        return super()._render_one(photo, Recipe("iea", recipe.controls))


@pytest.mark.parametrize(
    ("renderer", "complaint"),
    [
        (WritesInput(), "writes into"),
        (Views(), r"itself instead of a copy"),
        (Stateful(), "not deterministic"),
        (NeverIdentity(), "empty recipe"),
        (TakesForeign(), "foreign toolset"),
    ],
)
def test_a_broken_renderer_is_caught(renderer: Renderer, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_renderer(renderer)


def test_renderers_that_disagree_are_caught() -> None:
    class Darker(TinyRenderer):
        def _render_one(self, photo: Image, recipe: Recipe) -> Image:
            return np.asarray(super()._render_one(photo, recipe) // 2, np.uint8)

    check_renderer(TinyRenderer(), agrees_with=TinyRenderer(), max_delta_e=0.0)
    with pytest.raises(AssertionError, match="ΔE"):
        check_renderer(TinyRenderer(), agrees_with=Darker())


class Broken(TinyDataset):
    """A `TinyDataset` that is wrong in one way."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    def id_of(self, index: int) -> str:
        return "tiny/train/0" if self.fault == "ids" and index == 2 else super().id_of(index)

    def index_of(self, task_id: str) -> int:
        if self.fault == "unknown" and "no such" in task_id:
            return 0
        return 1 if self.fault == "inverse" else super().index_of(task_id)

    def __getitem__(self, index: int) -> Task:
        if self.fault == "range":
            return super().__getitem__(index % self.count)
        if self.fault == "eager":
            task = super().__getitem__(index)
            return Task(task.id, task.photo.load(), task.instruction)  # type: ignore[arg-type]
        if self.fault == "swapped":
            return super().__getitem__(0)
        return super().__getitem__(index)


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("ids", "occur twice"),
        ("inverse", "leads to index 1"),
        ("unknown", "unknown id was taken"),
        ("range", "expected IndexError"),
        ("eager", r"without load\(\)"),
        ("swapped", "says its id is"),
    ],
)
def test_a_broken_dataset_is_caught(fault: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_dataset(Broken(fault))


def test_overlapping_splits_are_caught() -> None:
    class Renamed(TinyDataset):
        def id_of(self, index: int) -> str:
            return f"other/{index}"

    other: Dataset = Renamed()
    with pytest.raises(AssertionError, match="share the ids"):
        check_dataset(TinyDataset(), other_splits=[TinyDataset()])
    with pytest.raises(AssertionError, match="share 4 photos"):
        check_dataset(TinyDataset(), other_splits=[other])
