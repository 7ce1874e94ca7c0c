"""Rendering for episodes whose renderers may differ."""

from __future__ import annotations

from collections.abc import Sequence

from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import Renderer
from retouch_gym.types import Image


def render_each(renderers: Sequence[Renderer], photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
    """Render each photo with its recipe by its renderer: one batch per renderer, results in order.

    Args:
        renderers: One per photo; the same object may occur many times.
        photos: uint8 (H, W, 3) sRGB arrays, sizes may differ.
        recipes: One per photo.

    Raises:
        RendererError: If a render fails.
        ImageError: If a photo is no photo.
        ValueError: If the lengths differ.
    """
    batches: dict[int, list[int]] = {}
    for index, (renderer, _, _) in enumerate(zip(renderers, photos, recipes, strict=True)):
        batches.setdefault(id(renderer), []).append(index)
    images: dict[int, Image] = {}
    for batch in batches.values():
        rendered = renderers[batch[0]].render([photos[index] for index in batch], [recipes[index] for index in batch])
        images.update(zip(batch, rendered, strict=True))
    return [images[index] for index in range(len(photos))]
