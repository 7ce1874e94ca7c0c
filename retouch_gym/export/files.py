"""Recipes in files: the ending chooses the format."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from retouch_gym.errors import RecipeError
from retouch_gym.export.cube import export_cube
from retouch_gym.export.pp3 import export_pp3, import_pp3
from retouch_gym.export.report import Exported, Imported
from retouch_gym.export.xmp import export_xmp, import_xmp
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import Renderer

Size = tuple[int, int]
"""Width and height in pixels."""

PHOTOS = frozenset({".dng", ".jpg", ".jpeg", ".tif", ".tiff"})
"""Endings of photos in which Lightroom's settings are looked for."""

MAX_BYTES = 1 << 25
"""Largest file that is read."""


@dataclass(frozen=True)
class Options:
    """What some formats want to know beyond the recipe.

    Args:
        size: Width and height of the photo, without which turned and pixel-counted crops cannot be told.
        preset: For XMP: name of the preset; None writes a sidecar.
        lattice: For LUTs: lattice points along an edge.
        renderer: For LUTs: what renders the lattice.
    """

    size: Size | None = None
    preset: str | None = None
    lattice: int = 33
    renderer: str | Renderer = "native"


WRITERS: Mapping[str, Callable[[Recipe, Options], Exported]] = {
    ".json": lambda recipe, options: Exported(recipe.to_json() + "\n"),
    ".xmp": lambda recipe, options: export_xmp(recipe, preset=options.preset, size=options.size),
    ".pp3": lambda recipe, options: export_pp3(recipe, size=options.size),
    ".cube": lambda recipe, options: export_cube(recipe, options.lattice, options.renderer),
}
"""How each ending is written."""

READERS: Mapping[str, Callable[[str, Size | None], Imported]] = {
    ".json": lambda text, size: Imported(Recipe.from_json(text)),
    ".xmp": lambda text, size: import_xmp(text, size=size),
    ".pp3": lambda text, size: import_pp3(text, size=size),
}
"""How each ending is read."""


def encode_recipe(recipe: Recipe, path: str | os.PathLike[str], options: Options | None = None) -> Exported:
    """A recipe in the format that a file's ending names. Nothing is written.

    Args:
        recipe: The recipe.
        path: The file: ``.json``, ``.xmp``, ``.pp3`` or ``.cube``.
        options: What the format wants to know.

    Raises:
        RecipeError: If the ending is not known, or the format cannot hold such a recipe.
        RendererError: If a LUT cannot be rendered.
    """
    ending = Path(path).suffix.lower()
    if ending not in WRITERS:
        known = ", ".join(WRITERS)
        raise RecipeError(f"{Path(path).name!r}: recipes are written as {known}; choose one of these endings.")
    return WRITERS[ending](recipe, options or Options())


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write a text file. Replaces it at once, or leaves it as it was.

    Raises:
        RecipeError: If the disk refuses.
    """
    target = Path(path)
    temporary = target.with_name(f".tmp-{os.getpid()}-{target.name}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RecipeError(f"Cannot write {str(path)!r}: {error}") from error


def load_recipe(path: str | os.PathLike[str], size: Size | None = None) -> Imported:
    """Read a recipe; the ending tells the format, and any unknown one is taken for JSON.

    Args:
        path: The file: a recipe in one of the formats, or a photo (`PHOTOS`) into which Lightroom saved its settings.
        size: Width and height of the photo, if known.

    Returns:
        The recipe, with what of the file is not in it.

    Raises:
        RecipeError: If the file cannot be read, is too large, or holds no recipe.
    """
    source, ending = Path(path), Path(path).suffix.lower()
    if ending == ".cube":
        raise RecipeError(f"{str(path)!r} is a LUT, which tells what becomes of each colour but not by which controls.")
    try:
        if ending in PHOTOS:
            return import_xmp(_packet_of(source), size=size)
        if source.stat().st_size > MAX_BYTES:
            raise RecipeError(f"{str(path)!r} is larger than {MAX_BYTES} bytes; is it a recipe?")
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"Cannot read the recipe {str(path)!r}: {error}") from error
    return READERS.get(ending, READERS[".json"])(text, size)


def _packet_of(photo: Path) -> str:
    """The XMP inside of a photo: it stands there as plain text, to be found without knowing the format."""
    with photo.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise RecipeError(f"{str(photo)!r} is empty.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            start = data.find(b"<x:xmpmeta")
            end = data.find(b"</x:xmpmeta>", start)
            if start < 0 or end < 0:
                raise RecipeError(f"{str(photo)!r} holds no XMP; save the metadata to the file in Lightroom first.")
            return data[start : end + len(b"</x:xmpmeta>")].decode("utf-8")
