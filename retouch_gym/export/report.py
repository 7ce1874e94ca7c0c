"""What came of writing or reading a format: the result, and everything that the format or the recipe cannot hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from retouch_gym.errors import RecipeError
from retouch_gym.recipes.recipe import Recipe


@dataclass(frozen=True)
class Exported:
    """A recipe in another format.

    Args:
        text: The file's text.
        left_out: What of the recipe is not in it, one sentence or name each.
    """

    text: str
    left_out: tuple[str, ...] = ()

    def whole(self) -> str:
        """The text.

        Raises:
            RecipeError: If something was left out.
        """
        _refuse(self.left_out, "The format cannot hold")
        return self.text


@dataclass(frozen=True)
class Imported:
    """A recipe from another format.

    Args:
        recipe: The recipe.
        left_out: What of the file is not in it, one sentence or name each.
    """

    recipe: Recipe
    left_out: tuple[str, ...] = ()

    def whole(self) -> Recipe:
        """The recipe.

        Raises:
            RecipeError: If something was left out.
        """
        _refuse(self.left_out, "A recipe cannot hold")
        return self.recipe


def _refuse(left_out: Sequence[str], what: str) -> None:
    if left_out:
        raise RecipeError(f"{what}: {'; '.join(left_out)}. Pass partial=True to go without.")
