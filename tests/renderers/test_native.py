"""The native renderer's contract: batches, layouts, sizes, errors, grain, compilation."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retouch_gym import Recipe
from retouch_gym.compiling import kernel
from retouch_gym.errors import ImageError, RendererError
from retouch_gym.renderers import get_renderer
from retouch_gym.renderers.native import NativeRenderer
from retouch_gym.testing import check_renderer
from retouch_gym.tools.iea import IEA, SLIDERS
from retouch_gym.types import Image

RENDERER = NativeRenderer()
EVERYTHING = dict.fromkeys(SLIDERS, 20)
TOOLSETS = ("iea", "iea-compat")


def noise(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def recipes(toolset: str = "iea") -> st.SearchStrategy[Recipe]:
    values = {
        name: st.integers(int(control.low), int(control.high))
        for name, control in IEA.controls.items()
        if name in SLIDERS
    }
    seeds = st.integers(-(2**70), 2**70)
    return st.builds(Recipe, st.just(toolset), st.fixed_dictionaries({}, optional=values), seeds)


def test_keeps_the_contract_of_a_renderer() -> None:
    check_renderer("native", "iea")
    check_renderer("native", "iea-compat", identity=False)
    assert isinstance(get_renderer("native"), NativeRenderer)
    assert RENDERER.render([], []) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(recipes() | recipes("iea-compat"), min_size=1, max_size=4), st.integers(1, 40), st.integers(1, 40))
def test_any_recipe_renders_alone_as_in_a_batch(drawn: list[Recipe], height: int, width: int) -> None:
    photos = [noise(height, width, seed) for seed in range(len(drawn))]
    before = [photo.copy() for photo in photos]
    batch = RENDERER.render(photos, drawn)
    reverse = RENDERER.render(photos[::-1], drawn[::-1])[::-1]
    copy = pickle.loads(pickle.dumps(RENDERER))
    for photo, recipe, untouched, together, backwards in zip(photos, drawn, before, batch, reverse, strict=True):
        assert together.shape == photo.shape
        assert together.dtype == np.uint8
        assert together.flags.c_contiguous
        assert together.flags.writeable
        assert np.array_equal(photo, untouched)
        assert np.array_equal(together, backwards)
        assert np.array_equal(together, copy.render([photo], [recipe])[0])


def test_nothing_set_is_the_source_itself() -> None:
    photo = noise(33, 47)
    for recipe in (Recipe("iea"), Recipe("iea", {"exposure": 0, "grain": 0}), Recipe("iea", seed=5)):
        image = RENDERER.render([photo], [recipe])[0]
        assert np.array_equal(image, photo)
        assert not np.shares_memory(image, photo)


@pytest.mark.parametrize("toolset", TOOLSETS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1), (2, 2), (3, 31), (5, 33), (7, 1025), (65, 63)])
def test_every_size_renders(toolset: str, shape: tuple[int, int]) -> None:
    """A flat photo stays flat where no slider looks at the place."""
    photo = np.full((*shape, 3), (90, 140, 180), dtype=np.uint8)
    placeless = {name: value for name, value in EVERYTHING.items() if name not in ("vignette", "grain")}
    for sharpness in (-60, 60):
        image = RENDERER.render([photo], [Recipe(toolset, {**placeless, "sharpness": sharpness})])[0]
        assert image.shape == photo.shape
        spread = int((image.max(axis=(0, 1)) - image.min(axis=(0, 1))).max())
        # The compatible mode rounds a row's last columns otherwise, and sharpening widens that.
        assert spread <= (0 if toolset == "iea" else 2)
    everything = RENDERER.render([photo], [Recipe(toolset, EVERYTHING)])[0]
    assert everything.shape == photo.shape


@pytest.mark.parametrize("toolset", TOOLSETS)
def test_place_decides_only_by_row_and_column(toolset: str) -> None:
    """Pixels land where they belong whatever the chunking: a transposed photo renders transposed."""
    photo = noise(96, 64)
    controls = {"exposure": 15, "saturation": 30, "vignette": 60, "sharpness": -40}
    turned = np.ascontiguousarray(photo.transpose(1, 0, 2))
    one, two = RENDERER.render([photo, turned], [Recipe(toolset, controls)] * 2)
    assert int(np.abs(one.astype(int) - two.transpose(1, 0, 2)).max()) <= 1


@pytest.mark.parametrize("toolset", TOOLSETS)
def test_layouts_do_not_matter(toolset: str) -> None:
    photo = noise(40, 60)
    frozen = np.frombuffer(photo.tobytes(), dtype=np.uint8).reshape(photo.shape)
    views = [photo[:, ::-1], photo[::2], photo[:, 5:50], np.asfortranarray(photo), frozen]
    recipe = Recipe(toolset, EVERYTHING)
    for view in views:
        same = RENDERER.render([np.ascontiguousarray(view)], [recipe])[0]
        assert np.array_equal(RENDERER.render([view], [recipe])[0], same)


def test_refuses_what_it_cannot_render() -> None:
    photo = noise(4, 4)
    with pytest.raises(RendererError, match=r"2 photos and 1 recipes"):
        RENDERER.render([photo, photo], [Recipe("iea")])
    with pytest.raises(RendererError, match=r"'darkroom'.*iea, iea-compat, lightroom"):
        RENDERER.render([photo], [Recipe("darkroom", {"exposure": 1})])
    with pytest.raises(RendererError, match=r"Unknown control 'glow'"):
        RENDERER.render([photo], [Recipe("iea", {"glow": 1})])
    with pytest.raises(RendererError, match=r"fade = -1 is outside 0\.\.100"):
        RENDERER.render([photo], [Recipe("iea", {"fade": -1})])
    with pytest.raises(ImageError, match=r"photos\[1\] is float64"):
        RENDERER.render([photo, photo / 255], [Recipe("iea")] * 2)


@pytest.mark.parametrize("toolset", TOOLSETS)
def test_grain_is_normal_noise_of_the_seed(toolset: str) -> None:
    grey = np.full((256, 256, 3), 128, dtype=np.uint8)
    one, again, other = RENDERER.render([grey] * 3, [Recipe(toolset, {"grain": 25}, seed) for seed in (1, 1, 2)])
    assert np.array_equal(one, again)
    # Two seeds share no noise, neither do channels or neighbours; truncation costs half a level.
    difference = one.astype(float) - 128 + (0.5 if toolset == "iea-compat" else 0)
    deviation = 0.075 * 255
    assert abs(difference.mean()) < 0.2
    assert abs(difference.std() - deviation) < 0.15
    shape = difference / deviation
    assert abs((shape**3).mean()) < 0.05
    assert abs((shape**4).mean() - 3) < 0.1
    unlike = [other.astype(float) - 128, np.roll(difference, 1, axis=2), np.roll(difference, 1, axis=1)]
    unlike += [np.roll(difference, 1, axis=0), np.roll(difference, 7, axis=1)]
    for compared in unlike:
        assert abs(np.corrcoef(difference.ravel(), compared.ravel())[0, 1]) < 0.01


def test_grain_grows_with_the_slider_and_seeds_of_any_size_work() -> None:
    grey = np.full((64, 64, 3), 128, dtype=np.uint8)
    values = (5, 10, 20, 30)
    spreads = [RENDERER.render([grey], [Recipe("iea", {"grain": value})])[0].std() for value in values]
    assert spreads == pytest.approx([0.765 * value for value in values], rel=0.05)
    seeds = (0, -1, 1, 2**63, 2**64 - 2, 2**80 + 7)
    images = RENDERER.render([grey] * len(seeds), [Recipe("iea", {"grain": 20}, seed) for seed in seeds])
    assert len({image.tobytes() for image in images}) == len(seeds)


def test_kernels_compile_without_a_place_for_the_cache() -> None:
    """A function that has no file has no place for a cache either."""
    namespace: dict[str, object] = {}
    exec("def triple(x):\n    return 3 * x\n", namespace)
    function = namespace["triple"]
    assert callable(function)
    assert kernel(function)(7) == 21
