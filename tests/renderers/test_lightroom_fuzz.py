"""Whatever the tools draw can be rendered."""

from __future__ import annotations

import numpy as np
import pytest

from retouch_gym import Recipe, ToolCall
from retouch_gym.renderers import Renderer, get_renderer
from retouch_gym.testing import NoisePhoto
from retouch_gym.tools.lightroom import LIGHTROOM

PHOTOS = {
    "noise": NoisePhoto(1).load(),
    "black": np.zeros((9, 14, 3), np.uint8),
    "white": np.full((9, 14, 3), 255, np.uint8),
    "red": np.full((7, 5, 3), (255, 0, 0), np.uint8),
    "pixel": np.full((1, 1, 3), (3, 250, 128), np.uint8),
    "line": np.tile(np.arange(0, 250, dtype=np.uint8)[None, :, None], (1, 1, 3)),
}


def drawn(rng: np.random.Generator) -> Recipe:
    """What a plan of one to eight drawn calls makes; calls that need something before them are left out."""
    recipe = Recipe("lightroom", seed=int(rng.integers(1 << 40)))
    for index in rng.choice(len(LIGHTROOM.tools), size=int(rng.integers(1, 9)), replace=False):
        tool = LIGHTROOM.tools[index]
        call = ToolCall(tool.name, tool.sample(rng))
        try:
            recipe = recipe.apply(LIGHTROOM.parse_plan([call]), LIGHTROOM)
        except ValueError:
            continue
    return recipe


@pytest.mark.parametrize(("name", "count"), [("native", 1_000), ("torch", 120)])
def test_no_recipe_crashes_a_renderer(name: str, count: int) -> None:
    renderer: Renderer = get_renderer(name)
    rng = np.random.default_rng(5)
    kinds = list(PHOTOS)
    for number in range(count):
        recipe = drawn(rng).check(LIGHTROOM)
        photo = PHOTOS[kinds[number % len(kinds)]]
        before = photo.copy()
        (image,) = renderer.render([photo], [recipe])
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.size > 0
        assert recipe.crop is not None or image.shape == photo.shape
        assert np.array_equal(photo, before)
