"""From a recipe back to the calls that make it."""

from __future__ import annotations

from collections.abc import Iterator

from retouch_gym.errors import RecipeError, ToolError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.tools.base import Effect, LocalChange
from retouch_gym.tools.toolset import Toolset
from retouch_gym.types import ToolCall


def plan_of(recipe: Recipe, toolset: Toolset) -> tuple[ToolCall, ...]:
    """A plan that makes a recipe out of an empty one, for instance to learn from.

    The calls come in the order of the tools, those of local adjustments last. The seed is not part of a plan.

    Raises:
        RecipeError: If the tools cannot make it: a recipe of another toolset or out of range, a fraction where a
            tool takes whole numbers, a part that no tool sets, a mask that begins with a subtraction, or more
            calls than a plan holds.
    """
    recipe.check(toolset)
    calls = [
        ToolCall(tool.name, arguments)
        for effect in (Effect(recipe.controls, curves=recipe.curves, crop=recipe.crop), *_locals(recipe))
        for tool in toolset.tools
        for arguments in tool.express(effect)
    ]
    try:
        made = Recipe(recipe.toolset, seed=recipe.seed).apply(toolset.parse_plan(calls), toolset)
    except ToolError as error:
        raise RecipeError(f"The recipe cannot be written as calls of {toolset.name!r}: {error}") from error
    if made != recipe:
        lost = [part for part in recipe.parts if made.without(part) == made]
        raise RecipeError(
            f"The recipe cannot be written as calls of {toolset.name!r}: no tool sets "
            f"{', '.join(lost) or 'a local adjustment'} as it is."
        )
    return tuple(calls)


def _locals(recipe: Recipe) -> Iterator[Effect]:
    """The shapes of local adjustments one by one, each adjustment's controls and amount with its first shape."""
    for local in recipe.locals:
        first, *others = local.parts
        amount = None if local.amount == 1 else local.amount
        yield Effect(change=LocalChange(local.name, first, anew=True, controls=local.controls, amount=amount))
        for part in others:
            yield Effect(change=LocalChange(local.name, part))
