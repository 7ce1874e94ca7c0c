"""3-D LUTs: what they hold, how far they are off, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageFilter
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retouch_gym import Recipe
from retouch_gym.adjustments import Crop, LinearGradient, LocalAdjustment, MaskPart
from retouch_gym.errors import ImageError, RecipeError, RendererError
from retouch_gym.export import cube_error, export_cube, read_cube, to_cube
from retouch_gym.renderers.base import Renderer
from retouch_gym.renderers.native import NativeRenderer
from retouch_gym.testing import NoisePhoto, TinyRenderer
from retouch_gym.tools.iea import IEA, SLIDERS
from retouch_gym.types import Image

COLORS = tuple(name for name in SLIDERS if name not in ("sharpness", "vignette", "grain"))
TYPICAL = Recipe("iea", {"exposure": 20, "contrast": 30, "saturation": 20, "temperature": 15})
MASK = (MaskPart(shape=LinearGradient(x0=0, y0=0, x1=0, y1=1)),)


class Shading(Renderer):
    """A renderer to which everything depends on the place, whatever the recipe says."""

    name = "shading"
    toolsets = frozenset({"iea"})

    def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        return [np.asarray(photo // 2 + (np.arange(photo.shape[1]) % 2)[:, None], np.uint8) for photo in photos]


def recipes() -> st.SearchStrategy[Recipe]:
    values = {name: st.integers(int(IEA.controls[name].low), 100) for name in COLORS}
    return st.builds(Recipe, st.just("iea"), st.fixed_dictionaries({}, optional=values))


def colors(levels: int = 52) -> Image:
    """All colours of a lattice whose steps are whole levels, as a photo."""
    axis = np.linspace(0, 255, levels).round().astype(np.uint8)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(levels, -1, 3)


def test_no_edit_is_the_identity() -> None:
    lut = read_cube(to_cube(Recipe("iea"), 17))
    steps = np.linspace(0, 1, 17, dtype=np.float32)
    assert np.allclose(lut.table, np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1), atol=1e-6)
    photo = NoisePhoto(3, 40, 50).load()
    assert np.array_equal(lut.apply(photo), photo)


@settings(max_examples=25, deadline=None)
@given(recipes())
def test_where_the_lattice_is_exact_so_is_the_lut(recipe: Recipe) -> None:
    lattice = colors(16)
    rendered = NativeRenderer().render([lattice], [recipe])[0]
    assert np.array_equal(read_cube(to_cube(recipe, 16)).apply(lattice), rendered)


@pytest.mark.parametrize("toolset", ["iea", "iea-compat"])
def test_the_error_falls_with_the_size_and_is_stated(toolset: str) -> None:
    recipe, photo = Recipe(toolset, dict(TYPICAL.controls)), NoisePhoto(1, 64, 96).load()
    small, usual = (cube_error(recipe, photo, size) for size in (5, 33))
    assert usual.mean < small.mean
    assert usual.mean < 0.5
    assert 0 < usual.maximum <= 6
    lut = read_cube(to_cube(recipe, 33))
    difference = np.abs(lut.apply(photo).astype(int) - NativeRenderer().render([photo], [recipe])[0])
    assert (usual.mean, usual.maximum) == (pytest.approx(difference.mean()), difference.max())


def test_a_renderer_of_floats_needs_no_interpolation() -> None:
    recipe = Recipe("lightroom", {"exposure": 0.4, "contrast": 20, "hsl_blue_saturation": 30})
    levels = np.linspace(0, 1, 9, dtype=np.float32)
    lattice = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(9, -1, 3)
    exact = NativeRenderer().render_float([lattice], [recipe])[0].reshape(9, 9, 9, 3)
    assert np.allclose(read_cube(to_cube(recipe, 9)).table, exact, atol=1e-6)
    error = cube_error(recipe, NoisePhoto(2, 60, 80).load())
    assert error.mean < 0.3
    assert error.maximum <= 4


def test_the_text_is_as_other_programs_read_it() -> None:
    lines = to_cube(Recipe("iea", {"temperature": 40}), 3, TinyRenderer()).splitlines()
    assert lines[:4] == ['TITLE "retouch-gym iea"', "LUT_3D_SIZE 3", "DOMAIN_MIN 0 0 0", "DOMAIN_MAX 1 1 1"]
    rows = [[float(word) for word in line.split()] for line in lines[4:]]
    assert len(rows) == 27
    # Red changes fastest, and 40 of temperature adds 25.6 levels to red and takes them from blue.
    assert rows[0] == pytest.approx([26 / 255, 0, 0], abs=1e-6)
    assert rows[1] == pytest.approx([153.5 / 255, 0, 0], abs=0.002)
    assert rows[3] == pytest.approx([26 / 255, 0.5, 0], abs=0.002)


def test_another_program_gets_the_same_picture() -> None:
    """Pillow's own 3-D LUT, whose table has red fastest too, within its coarser arithmetic."""
    photo = NoisePhoto(5, 50, 70).load()
    text = to_cube(TYPICAL, 17)
    rows = [tuple(float(word) for word in line.split()) for line in text.splitlines() if line[0].isdigit()]
    other = PIL.Image.fromarray(photo).filter(PIL.ImageFilter.Color3DLUT(17, rows))
    assert np.abs(np.asarray(other).astype(int) - read_cube(text).apply(photo)).max() <= 1


class TestWhatIsNoColorMap:
    @pytest.mark.parametrize(
        ("recipe", "left_out"),
        [
            (Recipe("iea", {"exposure": 9, "sharpness": 30, "grain": 4}), ("grain = 4", "sharpness = 30")),
            (Recipe("iea", {"exposure": 9, "vignette": -30}), ("vignette = -30",)),
            (Recipe("iea", {"exposure": 9}, crop=Crop(left=0.2)), ("crop",)),
            (
                Recipe("iea", {"exposure": 9}, locals=(LocalAdjustment(name="a", parts=MASK, controls={"tint": 1}),)),
                ("local:a",),
            ),
        ],
    )
    def test_it_is_named_refused_and_left_out_on_request(self, recipe: Recipe, left_out: tuple[str, ...]) -> None:
        with pytest.raises(RecipeError, match=re.escape("; ".join(left_out))):
            to_cube(recipe, 5)
        exported = export_cube(recipe, 5)
        assert exported.left_out == left_out
        plain = to_cube(Recipe("iea", {"exposure": 9}), 5)
        assert [line for line in exported.text.splitlines() if not line.startswith("#")] == plain.splitlines()
        assert all(f"# Left out, for it is no colour map: {part}" in exported.text for part in left_out)
        assert to_cube(recipe, 5, partial=True) == exported.text

    def test_a_setting_of_something_off_is_not_worth_a_word(self) -> None:
        recipe = Recipe("lightroom", {"sharpening_radius": 2, "vignette_feather": 9, "noise_color": 5})

        class Copying(TinyRenderer):
            toolsets = frozenset({"lightroom"})

        assert export_cube(recipe, 4, Copying()).left_out == ("noise_color = 5",)

    def test_a_renderer_that_looks_at_places_is_found_out(self) -> None:
        with pytest.raises(RecipeError, match="no colour map to renderer 'shading'"):
            to_cube(TYPICAL, 5, Shading())


class TestReading:
    def test_comments_domains_and_blank_lines(self) -> None:
        rows = "\n".join(f"{r} {g} {b}" for b in (0, 2) for g in (0, 2) for r in (0, 2))
        lut = read_cube(f'\ufeff# of another program\nTITLE "x y"\n\nLUT_3D_SIZE 2\nDOMAIN_MAX 2 2 2\n{rows}\n')
        assert (lut.title, lut.size, lut.high) == ("x y", 2, (2.0, 2.0, 2.0))
        photo = colors(6)
        assert np.array_equal(lut.apply(photo), photo)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no LUT_3D_SIZE"),
            ("LUT_1D_SIZE 4\n0 0 0", "line 1: 'LUT_1D_SIZE' is not known"),
            ("LUT_3D_SIZE 999", "'999'; expected 2..256"),
            ("LUT_3D_SIZE two", "'two'; expected 2..256"),
            ("LUT_3D_SIZE 2\n0 0 0", "1 rows of colours, but LUT_3D_SIZE 2 wants 8"),
            ("LUT_3D_SIZE 2\n0 0", "line 2: '0 0'; expected three numbers"),
            ("LUT_3D_SIZE 2\nnan 0 0", "expected finite numbers"),
            ("LUT_3D_SIZE 2\nDOMAIN_MAX 0 1 1\n" + "0 0 0\n" * 8, "should be below DOMAIN_MAX"),
        ],
    )
    def test_what_is_no_lut_is_refused(self, text: str, message: str) -> None:
        with pytest.raises(RecipeError, match=re.escape(message)):
            read_cube(text)

    @settings(max_examples=100, deadline=None)
    @given(
        st.text(max_size=200)
        | st.lists(st.sampled_from(["LUT_3D_SIZE", "2\n0", "1", ".", "-", "e", "nan", "TITLE", "#"])).map(" ".join)
    )
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        try:
            lut = read_cube(text)
        except RecipeError:
            return
        assert lut.table.shape == (lut.size, lut.size, lut.size, 3)


def test_wrong_sizes_toolsets_and_photos_are_refused() -> None:
    for size in (1, 0, -3, 66):
        with pytest.raises(RecipeError, match=rf"size = {size} is outside 2\.\.65"):
            to_cube(TYPICAL, size)
    with pytest.raises(RendererError, match="cannot render toolset 'nothing'"):
        to_cube(Recipe("nothing"), 4)
    with pytest.raises(ImageError, match="expected a uint8 array"):
        read_cube(to_cube(TYPICAL, 2)).apply(np.zeros((4, 4), np.uint8))
