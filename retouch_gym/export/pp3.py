"""Recipes of the toolset ``lightroom`` as RawTherapee's edit files (``.pp3``), and back.

`docs/engines.md` says which control stands where, and how close the program then comes. White balance is written for
photos that are no raw files: RawTherapee's is absolute, a recipe's relative to the photo as it was taken.
"""

from __future__ import annotations

from retouch_gym.errors import RecipeError, RendererError
from retouch_gym.export.report import Exported, Imported
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.engines.pp3 import write_pp3
from retouch_gym.renderers.engines.pp3_read import read_pp3


def export_pp3(recipe: Recipe, *, size: tuple[int, int] | None = None) -> Exported:
    """A recipe as RawTherapee's edit file, with a list of what RawTherapee does not have.

    Args:
        recipe: A recipe of the toolset ``lightroom``.
        size: Width and height of the photo in pixels, which a crop needs.

    Raises:
        RecipeError: If the recipe is of another toolset, or has an unknown control or a value out of range.
    """
    try:
        text, left_out = write_pp3(recipe, size)
    except RendererError as error:
        raise RecipeError(str(error)) from None
    return Exported(text, left_out)


def import_pp3(text: str, *, size: tuple[int, int] | None = None) -> Imported:
    """The recipe in an edit file that `export_pp3` or RawTherapee wrote, with a list of what a recipe does not have.

    Args:
        text: The file's text.
        size: Width and height of the photo in pixels, which a crop needs.

    Raises:
        RecipeError: If the text is no edit file.
    """
    recipe, left_out = read_pp3(text, size)
    return Imported(recipe, left_out)


def to_pp3(recipe: Recipe, *, size: tuple[int, int] | None = None, partial: bool = False) -> str:
    """A recipe as the text of RawTherapee's edit file.

    Args:
        recipe: See `export_pp3`.
        size: See `export_pp3`.
        partial: Leave out what RawTherapee does not have, instead of refusing.

    Raises:
        RecipeError: See `export_pp3`; and if something would be left out.
    """
    exported = export_pp3(recipe, size=size)
    return exported.text if partial else exported.whole()


def from_pp3(text: str, *, size: tuple[int, int] | None = None, partial: bool = False) -> Recipe:
    """The recipe in an edit file.

    Args:
        text: See `import_pp3`.
        size: See `import_pp3`.
        partial: Leave out what a recipe does not have, instead of refusing.

    Raises:
        RecipeError: See `import_pp3`; and if something would be left out.
    """
    imported = import_pp3(text, size=size)
    return imported.recipe if partial else imported.whole()
