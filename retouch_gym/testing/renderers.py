"""Checks of a renderer."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np

from retouch_gym.adjustments.local import Crop
from retouch_gym.errors import ImageError, RendererError, ToolError
from retouch_gym.images import is_image
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import Renderer, get_renderer
from retouch_gym.renderers.lightroom.geometry import crop_box
from retouch_gym.testing.doubles import NoisePhoto
from retouch_gym.tools.toolset import Toolset, get_toolset
from retouch_gym.types import Image


def check_renderer(
    renderer: str | Renderer,
    toolset: str | Toolset = "iea",
    *,
    identity: bool = True,
    agrees_with: str | Renderer | None = None,
    max_delta_e: float = 1.0,
    samples: int = 6,
) -> None:
    """Check that a renderer keeps the contract of `Renderer`, on drawn recipes and photos of odd sizes.

    An empty recipe gives the source back; the same input gives the same bytes, alone, in a batch and from a
    pickled copy; results are new photos of the shape that the crop leaves and the source is not written to,
    even when it is a read-only or non-contiguous array; a foreign toolset, unequal lengths and arrays that are
    no photos are refused.

    Args:
        renderer: Name or object.
        toolset: Toolset of the recipes.
        identity: Whether an empty recipe gives the source exactly; False for a compatible mode.
        agrees_with: Another renderer to compare with.
        max_delta_e: Largest mean ΔE (CIE 1976) to it, over each photo.
        samples: How many recipes to draw.

    Raises:
        AssertionError: Saying what is broken.
    """
    engine, tools = get_renderer(renderer), get_toolset(toolset)
    assert tools.name in engine.toolsets, f"{engine.name} does not list toolset {tools.name!r}: {engine.toolsets}"
    photos = [NoisePhoto(seed, 17 + 3 * seed, 40 - 5 * seed).load() for seed in range(samples)]
    recipes = [_draw(tools, seed) for seed in range(samples)]
    before = [photo.copy() for photo in photos]
    together = engine.render(photos, recipes)
    _check_shapes(engine, photos, recipes, together)
    assert _equal(photos, before), f"{engine.name} writes into the photos it is given."
    assert _equal(together, engine.render(photos, recipes)), f"{engine.name} is not deterministic."
    alone = [engine.render([photo], [recipe])[0] for photo, recipe in zip(photos, recipes, strict=True)]
    assert _equal(together, alone), f"{engine.name} renders a batch differently from its photos alone."
    copy = pickle.loads(pickle.dumps(engine))
    assert _equal(together, copy.render(photos, recipes)), f"A pickled {engine.name} renders differently."
    _check_layouts(engine, photos, recipes, together)
    if identity:
        untouched = engine.render(photos, [Recipe(tools.name)] * len(photos))
        assert _equal(untouched, photos), f"{engine.name}: an empty recipe does not give the source back."
        writable = all(image is not photo for image, photo in zip(untouched, photos, strict=True))
        assert writable, f"{engine.name}: an empty recipe hands out the source itself instead of a copy."
    _check_errors(engine, photos[0], recipes[0])
    if agrees_with is not None:
        other = get_renderer(agrees_with)
        for recipe, mine, theirs in zip(recipes, together, other.render(photos, recipes), strict=True):
            error = mean_delta_e(mine, theirs)
            assert error <= max_delta_e, (
                f"{engine.name} and {other.name} differ by a mean ΔE of {error:.2f} > {max_delta_e} on {recipe}."
            )


def mean_delta_e(a: Image, b: Image) -> float:
    """Mean CIE 1976 colour difference of two uint8 (H, W, 3) sRGB photos of the same shape."""
    first, second = (cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab) for image in (a, b))
    return float(np.linalg.norm(first - second, axis=2).mean())


def _draw(toolset: Toolset, seed: int) -> Recipe:
    rng = np.random.default_rng(seed)
    recipe = Recipe(toolset.name, seed=seed)
    for index in rng.permutation(len(toolset.tools))[: 1 + 2 * seed].tolist():
        tool = toolset.tools[index]
        effect = tool.parse(tool.sample(rng))
        with contextlib.suppress(ToolError):  # what needs something before it, such as a mask, is left out
            recipe = recipe.apply([effect], toolset)
    return recipe


def _equal(first: Sequence[Image], second: Sequence[Image]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def _check_shapes(
    engine: Renderer, photos: Sequence[Image], recipes: Sequence[Recipe], images: Sequence[Image]
) -> None:
    assert len(images) == len(photos), f"{engine.name} returned {len(images)} photos for {len(photos)}."
    for photo, recipe, image in zip(photos, recipes, images, strict=True):
        assert is_image(image), f"{engine.name} returned no uint8 (H, W, 3) array."
        width, height = crop_box(recipe.crop or Crop(), photo.shape[1], photo.shape[0])[2:]
        assert image.shape == (height, width, 3), (
            f"{engine.name} returned {image.shape} for a photo of {photo.shape}; with this crop it has "
            f"{(height, width, 3)}: {recipe}."
        )
        assert not np.shares_memory(image, photo), f"{engine.name} returned a view of its input."


def _check_layouts(
    engine: Renderer, photos: Sequence[Image], recipes: Sequence[Recipe], expected: Sequence[Image]
) -> None:
    frozen = [photo.copy() for photo in photos]
    for photo in frozen:
        photo.flags.writeable = False
    assert _equal(engine.render(frozen, recipes), expected), f"{engine.name} renders read-only photos differently."
    strided = [np.asfortranarray(photo) for photo in photos]
    assert _equal(engine.render(strided, recipes), expected), f"{engine.name} renders strided photos differently."


def _check_errors(engine: Renderer, photo: Image, recipe: Recipe) -> None:
    foreign = Recipe("no-such-toolset", {"exposure": 1})
    _must_raise(RendererError, partial(engine.render, [photo], [foreign]), f"{engine.name}: a foreign toolset")
    _must_raise(RendererError, partial(engine.render, [photo], [recipe, recipe]), f"{engine.name}: unequal lengths")
    no_photos: tuple[Any, ...] = (photo.astype(np.float32), photo[:, :, 0], photo[:0])
    for bad in no_photos:
        what = f"{engine.name}: an array {bad.dtype} {bad.shape}"
        _must_raise(ImageError, partial(engine.render, [bad], [recipe]), what)


def _must_raise(expected: type[Exception], action: Callable[[], object], what: str) -> None:
    try:
        action()
    except expected:
        return
    raise AssertionError(f"{what} was taken; expected {expected.__name__}.")
