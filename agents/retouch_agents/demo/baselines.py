"""What an agent has to beat: doing nothing, a constant, a classic automatic correction, and the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from retouch_gym.datasets.base import Dataset
from retouch_gym.evaluation.evaluate import Policy
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.types import Action, Image, ToolCall


def recipe_calls(recipe: Recipe) -> tuple[ToolCall, ...]:
    """The plan that leads to a recipe of integer sliders."""
    return tuple(ToolCall(name, {"value": value}) for name, value in recipe.controls.items())


def untouched() -> Policy:
    """Finish at once."""
    return lambda observations: [(ToolCall("finish"),) for _ in observations]


def constant(recipe: Recipe) -> Policy:
    """The same recipe for every photo."""
    return lambda observations: [recipe_calls(recipe) for _ in observations]


def mean_recipe(dataset: Dataset, kind: str, count: int = 400) -> Recipe:
    """Mean of the sliders of the first `count` training recipes of a kind, rounded to integers."""
    recipes: list[Recipe] = []
    for index in range(len(dataset)):
        task = dataset[index]
        if task.kind == kind and task.recipe is not None:
            recipes.append(task.recipe)
        if len(recipes) == count:
            break
    names = sorted({name for recipe in recipes for name in recipe.controls})
    means = {name: round(float(np.mean([recipe[name] for recipe in recipes]))) for name in names}
    return Recipe(recipes[0].toolset, {name: value for name, value in means.items() if value})


def auto_levels(image: Image, cutoff: float = 0.5) -> Image:
    """Stretch each channel so that `cutoff` percent of its values clip at either end (Pillow's autocontrast)."""
    stretched = PIL.ImageOps.autocontrast(PIL.Image.fromarray(image), cutoff=cutoff)
    return np.asarray(stretched, dtype=np.uint8)


def prepared(actions: Sequence[Action]) -> Policy:
    """Actions made beforehand, one per observation, in order."""
    remaining = iter(actions)

    def play(observations: Sequence[Mapping[str, Any]]) -> list[Action]:
        return [next(remaining) for _ in observations]

    return play
