"""The part of a recipe that is a pure colour map as a 3-D LUT (``.cube``), for any program that takes one.

A colour map gives every pixel a colour that depends on the pixel's own colour alone. What looks at the neighbours
(sharpening, noise reduction, texture, clarity, dehaze), at the place (vignette, local adjustments, crop) or at chance
(grain) is none, and no LUT can hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from retouch_gym.errors import RecipeError
from retouch_gym.export.report import Exported
from retouch_gym.images import check_image
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import Renderer, get_renderer
from retouch_gym.tools.lightroom_controls import DETAIL, EFFECTS
from retouch_gym.types import Image

SPATIAL = frozenset(
    {
        *("sharpness", "vignette", "grain"),
        *("texture", "clarity", "dehaze"),
        *(control.name for control in (*DETAIL, *EFFECTS)),
    }
)
"""Controls that are no colour map, of every toolset of the package."""

MAX_SIZE = 65
"""Most lattice points along an edge."""

_CHUNK = 1 << 18


@runtime_checkable
class FloatRenderer(Protocol):
    """A renderer that renders the toolset ``lightroom`` with more than 8 bits, as the native one does."""

    def render_float(self, photos: Sequence[NDArray[Any]], recipes: Sequence[Recipe]) -> list[NDArray[Any]]:
        """Render uint16 photos, or float32 ones in 0..1, to arrays of the same type."""
        ...


@dataclass(frozen=True, eq=False)
class Lut:
    """A 3-D LUT.

    Args:
        table: float32 (N, N, N, 3): what becomes of red, green and blue, in this order; usually 0..1.
        low: Input that the first lattice point stands for, per channel.
        high: Input that the last lattice point stands for, per channel.
        title: What it is called.
    """

    table: NDArray[np.float32]
    low: tuple[float, float, float] = (0.0, 0.0, 0.0)
    high: tuple[float, float, float] = (1.0, 1.0, 1.0)
    title: str = ""

    @property
    def size(self) -> int:
        """Lattice points along an edge."""
        return int(self.table.shape[0])

    def apply(self, photo: Image) -> Image:
        """The photo through the LUT, with trilinear interpolation, rounded once at the end.

        Args:
            photo: uint8 (H, W, 3).

        Raises:
            ImageError: If the photo is something else.
        """
        pixels = check_image(photo).reshape(-1, 3)
        out = np.empty_like(pixels)
        for start in range(0, len(pixels), _CHUNK):
            part = slice(start, start + _CHUNK)
            out[part] = np.rint(
                np.float32(255) * np.clip(self._look_up(pixels[part].astype(np.float32) / np.float32(255)), 0, 1)
            )
        return out.reshape(photo.shape)

    def _look_up(self, colors: NDArray[np.float32]) -> NDArray[np.float32]:
        low, high = np.array(self.low, np.float32), np.array(self.high, np.float32)
        at = np.clip((colors - low) / (high - low), 0, 1) * np.float32(self.size - 1)
        corner = np.minimum(at.astype(np.intp), self.size - 2)
        share = (at - corner)[:, :, None]
        table = self.table
        r, g, b = corner.T
        found = np.zeros_like(colors)
        for i in (0, 1):
            for j in (0, 1):
                for k in (0, 1):
                    weight = _weight(share[:, 0], i) * _weight(share[:, 1], j) * _weight(share[:, 2], k)
                    found += weight * table[r + i, g + j, b + k]
        return found


@dataclass(frozen=True)
class CubeError:
    """How far applying a LUT is from rendering.

    Args:
        mean: Mean absolute difference over pixels and channels, in levels of 255.
        maximum: Largest difference, in levels of 255.
    """

    mean: float
    maximum: int


def color_part(recipe: Recipe) -> tuple[Recipe, tuple[str, ...]]:
    """The part of a recipe that is a colour map, and the names of the parts that are none.

    A setting of something that is off (the radius of no sharpening) is dropped without a word.
    """
    dropped = [name for name in recipe.controls if name in SPATIAL]
    idle = {name for name in dropped if _amount(name) in SPATIAL and not recipe[_amount(name)]}
    controls = {name: value for name, value in recipe.controls.items() if name not in SPATIAL}
    left_out = [f"{name} = {recipe[name]:g}" for name in dropped if name not in idle]
    left_out += ["crop"] if recipe.crop else []
    left_out += [f"local:{local.name}" for local in recipe.locals]
    return Recipe(recipe.toolset, controls, 0, recipe.curves), tuple(left_out)


def export_cube(recipe: Recipe, size: int = 33, renderer: str | Renderer = "native") -> Exported:
    """The colour map of a recipe as the text of a ``.cube`` file, with a list of what is no colour map.

    A renderer that renders 8-bit colours only has the lattice points between them interpolated.

    Args:
        recipe: A recipe of any toolset that the renderer knows.
        size: Lattice points along an edge, 2..65. 17, 33 and 65 are read everywhere.
        renderer: What renders the lattice.

    Raises:
        RecipeError: If the size is out of range, or what is left of the recipe is still no colour map.
        RendererError: If the renderer cannot render the recipe.
    """
    mapped, left_out = color_part(recipe)
    table = _render_lattice(mapped, size, get_renderer(renderer))
    return Exported(_write(Lut(table, title=f"retouch-gym {recipe.toolset}"), left_out), left_out)


def to_cube(recipe: Recipe, size: int = 33, renderer: str | Renderer = "native", *, partial: bool = False) -> str:
    """The colour map of a recipe as the text of a ``.cube`` file. See `export_cube`.

    Raises:
        RecipeError: As `export_cube`; and, unless `partial`, if a part of the recipe is no colour map.
        RendererError: If the renderer cannot render the recipe.
    """
    exported = export_cube(recipe, size, renderer)
    return exported.text if partial else exported.whole()


def cube_error(recipe: Recipe, photo: Image, size: int = 33, renderer: str | Renderer = "native") -> CubeError:
    """How far the LUT of a recipe is from rendering the recipe's colour map, on a photo.

    Args:
        recipe: See `export_cube`. What is no colour map counts on neither side.
        photo: uint8 (H, W, 3).
        size: See `export_cube`.
        renderer: See `export_cube`.

    Raises:
        RecipeError: See `export_cube`.
        RendererError: See `export_cube`.
        ImageError: If the photo is no photo.
    """
    engine = get_renderer(renderer)
    mapped, _ = color_part(recipe)
    exact = engine.render([photo], [mapped])[0]
    through = read_cube(export_cube(recipe, size, engine).text).apply(photo)
    difference = np.abs(through.astype(np.int16) - exact)
    return CubeError(float(difference.mean()), int(difference.max()))


def read_cube(text: str) -> Lut:
    """Inverse of `export_cube`; reads the 3-D LUTs of other programs too.

    Raises:
        RecipeError: If the text is no 3-D LUT in the ``.cube`` format: the line, and what was expected.
    """
    size, title = 0, ""
    domain = {"DOMAIN_MIN": (0.0, 0.0, 0.0), "DOMAIN_MAX": (1.0, 1.0, 1.0)}
    rows: list[tuple[float, float, float]] = []
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        word, _, rest = line.strip().partition(" ")
        if not word or word.startswith("#"):
            continue
        if word == "TITLE":
            title = rest.strip().strip('"')
        elif word == "LUT_3D_SIZE":
            size = _read_size(rest.strip(), number)
        elif word in domain:
            domain[word] = _triple(rest.split(), number)
        elif word[0].isalpha() and word.lower() not in ("nan", "inf"):
            raise RecipeError(f".cube, line {number}: {word[:30]!r} is not known; only 3-D LUTs are read.")
        else:
            rows.append(_triple(line.split(), number))
    if not size or len(rows) != size**3:
        wanted = f"LUT_3D_SIZE {size} wants {size**3}" if size else "no LUT_3D_SIZE says how many there should be"
        raise RecipeError(f".cube: {len(rows)} rows of colours, but {wanted}.")
    low, high = domain["DOMAIN_MIN"], domain["DOMAIN_MAX"]
    if not all(first < last for first, last in zip(low, high, strict=True)):
        raise RecipeError(f".cube: DOMAIN_MIN {low} should be below DOMAIN_MAX {high}.")
    # Red changes fastest in the file.
    table = np.array(rows, dtype=np.float32).reshape(size, size, size, 3).transpose(2, 1, 0, 3)
    return Lut(np.ascontiguousarray(table), low, high, title)


def _render_lattice(recipe: Recipe, size: int, renderer: Renderer) -> NDArray[np.float32]:
    """What becomes of the lattice's colours: (size, size, size, 3), 0..1."""
    if not 2 <= size <= MAX_SIZE:
        raise RecipeError(f"size = {size} is outside 2..{MAX_SIZE}.")
    if isinstance(renderer, FloatRenderer) and recipe.toolset == "lightroom":
        levels = np.linspace(0, 1, size, dtype=np.float32)
        return _render_map(_lattice(levels), recipe, renderer.name, renderer.render_float)
    return _render_between(recipe, size, renderer)


def _render_between(recipe: Recipe, size: int, renderer: Renderer) -> NDArray[np.float32]:
    """The lattice from the 8-bit colours about its points, with trilinear interpolation."""
    places = np.linspace(0, 255, size)
    below = np.floor(places + 1e-9).astype(np.uint8)
    levels, index = np.unique(np.concatenate([below, np.ceil(places - 1e-9).astype(np.uint8)]), return_inverse=True)
    table = _render_map(_lattice(levels), recipe, renderer.name, renderer.render).astype(np.float32) / np.float32(255)
    share = (places - below).astype(np.float32)
    for axis in range(3):
        first, second = (np.take(table, half, axis) for half in (index[:size], index[size:]))
        along = share.reshape([size if a == axis else 1 for a in range(4)])
        table = np.asarray(first + along * (second - first), dtype=np.float32)
    return np.ascontiguousarray(table)


def _lattice(levels: NDArray[Any]) -> NDArray[Any]:
    """All colours of these levels as a photo, red slowest."""
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1)
    return grid.reshape(len(levels), -1, 3)


def _render_map(colors: NDArray[Any], recipe: Recipe, name: str, render: Callable[..., list[Any]]) -> NDArray[Any]:
    """The rendered colours as a cube, checked to be the same wherever a colour is.

    The controls of the package's toolsets are known; a renderer of other toolsets may have other spatial ones.
    """
    rendered = render([colors], [recipe])[0]
    order = np.random.default_rng(0).permutation(colors.shape[0] * colors.shape[1])
    shuffled = np.ascontiguousarray(colors.reshape(-1, 3)[order].reshape(colors.shape))
    again = render([shuffled], [recipe])[0]
    same = again.shape == rendered.shape == colors.shape
    if not same or not np.allclose(again.reshape(-1, 3), rendered.reshape(-1, 3)[order], rtol=0, atol=1e-5):
        raise RecipeError(
            f"The recipe ({', '.join(recipe.parts)}) is no colour map to renderer {name!r}: the same colours come out "
            "differently elsewhere. Leave out what looks at neighbours or places."
        )
    n = colors.shape[0]
    return np.asarray(rendered.reshape(n, n, n, 3))


def _write(lut: Lut, left_out: Sequence[str]) -> str:
    head = [f'TITLE "{lut.title}"', *(f"# Left out, for it is no colour map: {part}" for part in left_out)]
    head += [f"LUT_3D_SIZE {lut.size}", "DOMAIN_MIN 0 0 0", "DOMAIN_MAX 1 1 1"]
    rows = lut.table.transpose(2, 1, 0, 3).reshape(-1, 3)
    return "\n".join([*head, *(f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in rows.tolist()), ""])


def _read_size(text: str, line: int) -> int:
    if not text.isdecimal() or not 2 <= int(text[:9]) <= 256:
        raise RecipeError(f".cube, line {line}: LUT_3D_SIZE {text[:30]!r}; expected 2..256.")
    return int(text)


def _triple(words: Sequence[str], line: int) -> tuple[float, float, float]:
    try:
        r, g, b = (float(word) for word in words)
    except ValueError:
        raise RecipeError(f".cube, line {line}: {' '.join(words)[:60]!r}; expected three numbers.") from None
    if not np.isfinite((r, g, b)).all():
        raise RecipeError(f".cube, line {line}: {' '.join(words)[:60]!r}; expected finite numbers.")
    return r, g, b


def _weight(share: NDArray[np.float32], end: int) -> NDArray[np.float32]:
    return share if end else np.float32(1) - share


def _amount(name: str) -> str:
    """The control without which another does nothing."""
    stem, _, what = name.partition("_")
    return f"{stem}_amount" if what and stem != "noise" else name
