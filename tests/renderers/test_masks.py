"""Masks: each shape where its definition says, at every size, joined in order."""

from __future__ import annotations

import base64
import io
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retouch_gym.adjustments import (
    Brush,
    ColorRange,
    LinearGradient,
    LocalAdjustment,
    LuminanceRange,
    MaskImage,
    MaskPart,
    RadialGradient,
    Shape,
)
from retouch_gym.errors import ImageError, RecipeError
from retouch_gym.renderers.lightroom.masks import mask_image_of, mask_of

GREY = np.full((120, 200, 3), 128, np.uint8)

SHAPES: dict[str, Shape] = {
    "linear": LinearGradient(x0=0.2, y0=0.1, x1=0.7, y1=0.9),
    "radial": RadialGradient(x=0.6, y=0.4, radius_x=0.3, radius_y=0.25, angle=30, feather=0.6),
    "hard radial": RadialGradient(x=0.5, y=0.5, radius_x=0.3, radius_y=0.3, feather=0),
    "luminance": LuminanceRange(low=0.3, high=0.6, feather=0.3),
    "color": ColorRange(red=0.4, green=0.5, blue=0.6, tolerance=0.1, feather=0.4),
    "brush": Brush(points=((0.1, 0.2), (0.5, 0.6), (0.9, 0.3)), radius=0.15),
    "image": mask_image_of(np.linspace(0, 1, 64 * 48).reshape(48, 64)),
}


def adjust(*parts: MaskPart | Shape, amount: float = 1.0) -> LocalAdjustment:
    wrapped = tuple(part if isinstance(part, MaskPart) else MaskPart(shape=part) for part in parts)
    return LocalAdjustment(name="here", parts=wrapped, controls={"exposure": 1.0}, amount=amount)


def smooth_photo(height: int, width: int) -> np.ndarray[Any, Any]:
    """A photo without fine detail: its thumbnail's tones are its tones."""
    y, x = np.mgrid[:height, :width]
    u, v = (x + 0.5) / width, (y + 0.5) / height
    channels = [0.5 + 0.4 * np.sin(3 * u + 2 * v), 0.2 + 0.6 * u, 0.9 - 0.7 * v]
    return np.rint(np.stack(channels, axis=2) * 255).astype(np.uint8)


@pytest.mark.parametrize("name", SHAPES)
def test_the_mask_of_a_thumbnail_is_the_thumbnail_of_the_mask(name: str) -> None:
    photo = smooth_photo(480, 640)
    thumbnail = cv2.resize(photo, (80, 60), interpolation=cv2.INTER_AREA)
    mask = adjust(SHAPES[name])
    large = cv2.resize(mask_of(mask, photo), (80, 60), interpolation=cv2.INTER_AREA)
    apart = np.abs(mask_of(mask, thumbnail) - large)
    assert apart.mean() < 0.005
    assert apart.max() < (0.35 if name == "hard radial" else 0.06)


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (3, 2), (700, 300)])
@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_fits_every_photo(name: str, size: tuple[int, int]) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    mask = mask_of(adjust(SHAPES[name]), photo)
    assert mask.shape == size
    assert mask.dtype == np.float32
    assert mask.min() >= 0
    assert mask.max() <= 1
    assert np.isfinite(mask).all()


@pytest.mark.parametrize("name", sorted(SHAPES.keys() - {"hard radial"}))
def test_falls_have_no_steps(name: str) -> None:
    values = np.sort(mask_of(adjust(SHAPES[name]), smooth_photo(600, 800)).ravel())
    # Tones come in 8 bits; places do not.
    assert np.diff(values).max() < (0.03 if name in ("luminance", "color") else 0.005)


def test_inversion_is_the_complement() -> None:
    for shape in SHAPES.values():
        photo = smooth_photo(50, 70)
        plain, inverted = (mask_of(adjust(MaskPart(shape=shape, invert=i)), photo) for i in (False, True))
        assert np.allclose(plain + inverted, 1, atol=1e-6)


def test_parts_join_in_order() -> None:
    photo = smooth_photo(60, 90)
    a, b, c = (mask_of(adjust(SHAPES[name]), photo) for name in ("linear", "radial", "brush"))
    parts = [MaskPart(shape=SHAPES["linear"]), MaskPart(shape=SHAPES["radial"], op="subtract")]
    assert np.allclose(mask_of(adjust(*parts), photo), a * (1 - b), atol=1e-6)
    parts.append(MaskPart(shape=SHAPES["brush"]))
    assert np.allclose(mask_of(adjust(*parts), photo), np.maximum(a * (1 - b), c), atol=1e-6)
    parts[1] = MaskPart(shape=SHAPES["radial"], op="intersect", invert=True)
    assert np.allclose(mask_of(adjust(*parts[:2]), photo), a * (1 - b), atol=1e-6)


def test_a_mask_that_starts_by_taking_away_starts_from_the_whole_photo() -> None:
    photo = smooth_photo(60, 90)
    whole = mask_of(adjust(SHAPES["radial"]), photo)
    assert np.allclose(mask_of(adjust(MaskPart(shape=SHAPES["radial"], op="subtract")), photo), 1 - whole)
    assert np.array_equal(mask_of(adjust(MaskPart(shape=SHAPES["radial"], op="intersect")), photo), whole)


def test_the_amount_scales_the_whole() -> None:
    photo = smooth_photo(60, 90)
    full = mask_of(adjust(SHAPES["linear"], SHAPES["radial"]), photo)
    assert np.allclose(mask_of(adjust(SHAPES["linear"], SHAPES["radial"], amount=0.3), photo), 0.3 * full)
    assert not mask_of(adjust(SHAPES["linear"], amount=0), photo).any()


def test_a_linear_gradient_falls_between_its_lines() -> None:
    across = mask_of(adjust(LinearGradient(x0=0.25, y0=0.5, x1=0.75, y1=0.5)), GREY)
    assert (across == across[:1]).all()
    assert (across[0, :50] == 1).all()
    assert (across[0, 150:] == 0).all()
    assert across[0, 99:101].mean() == pytest.approx(0.5, abs=1e-3)
    assert (np.diff(across[0]) <= 0).all()
    assert (mask_of(adjust(LinearGradient(x0=0.5, y0=0.5, x1=0.5, y1=0.5)), GREY) == 1).all()


def test_lines_stand_upright_on_a_slanted_gradient() -> None:
    photo = np.zeros((100, 300, 3), np.uint8)
    mask = mask_of(adjust(LinearGradient(x0=0, y0=0, x1=1, y1=1)), photo)
    down, across = np.gradient(mask.astype(np.float64))
    assert np.allclose(down[40:60, 140:160] * 300, across[40:60, 140:160] * 100, rtol=1e-2)


def test_a_radial_gradient_is_an_ellipse() -> None:
    flat = RadialGradient(x=0.5, y=0.5, radius_x=0.25, radius_y=0.25, feather=0.5)
    mask = mask_of(adjust(flat), GREY)
    assert (mask[60, 76:124] == 1).all()
    assert mask[60, 49] == 0
    assert mask[60, 62] == pytest.approx(0.5, abs=0.03)
    assert np.array_equal(mask, mask[::-1, ::-1])
    square = np.zeros((101, 101, 3), np.uint8)
    wide = {"x": 0.5, "y": 0.5, "radius_x": 0.4, "radius_y": 0.1, "feather": 0.2}
    turned = mask_of(adjust(RadialGradient(**wide, angle=90)), square)
    assert np.allclose(turned, mask_of(adjust(RadialGradient(**wide)), square).T, atol=1e-5)
    clockwise = mask_of(adjust(RadialGradient(**wide, angle=30)), square)
    assert clockwise[50 + 15, 50 + 26] == 1
    assert clockwise[50 - 15, 50 + 26] == 0


def test_a_hard_edge_is_one_pixel_soft() -> None:
    disc = mask_of(adjust(RadialGradient(x=0.5, y=0.5, radius_x=0.3, radius_y=0.5, feather=0)), GREY)
    assert disc.mean() == pytest.approx(np.pi * 60 * 60 / GREY[:, :, 0].size, rel=1e-3)
    assert 0 < np.count_nonzero((disc > 0) & (disc < 1)) < 600


def test_ranges_of_luminance() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    mask = mask_of(adjust(LuminanceRange(low=0.4, high=0.6, feather=0.1)), ramp)[0]
    assert (mask[102:154] == 1).all()
    assert not mask[:76].any()
    assert not mask[179:].any()
    assert mask[153 + 13] == pytest.approx(0.5, abs=0.05)
    exact = mask_of(adjust(LuminanceRange(low=100 / 255, high=100 / 255, feather=0)), ramp)[0]
    assert np.flatnonzero(exact > 1e-6).tolist() == [100]
    assert (mask_of(adjust(LuminanceRange()), ramp) == 1).all()
    green, blue = np.array([[[0, 255, 0]]], np.uint8), np.array([[[0, 0, 255]]], np.uint8)
    bright = adjust(LuminanceRange(low=0.5))
    assert mask_of(bright, green) == 1
    assert mask_of(bright, blue) == 0


def test_ranges_of_colour() -> None:
    photo = np.array([[[200, 40, 40], [200, 40, 60], [40, 40, 200]]], np.uint8)
    red = ColorRange(red=200 / 255, green=40 / 255, blue=40 / 255, tolerance=0.02, feather=0.1)
    near = mask_of(adjust(red), photo)[0]
    assert near[0] == 1
    assert 0 < near[1] < 1
    assert near[2] == 0
    assert mask_of(adjust(red.model_copy(update={"tolerance": 0.0, "feather": 0.0})), photo)[0].tolist() == [1, 0, 0]


@pytest.mark.parametrize("kind", ["luminance", "color"])
def test_depth_does_not_matter_to_ranges(kind: str) -> None:
    photo = smooth_photo(40, 50)
    mask = mask_of(adjust(SHAPES[kind]), photo)
    assert np.allclose(mask_of(adjust(SHAPES[kind]), photo.astype(np.uint16) * 257), mask, atol=1e-4)
    assert np.allclose(mask_of(adjust(SHAPES[kind]), photo.astype(np.float32) / 255), mask, atol=1e-4)


def test_brush_strokes_are_round_at_their_ends_and_even_along() -> None:
    stroke = Brush(points=((0.25, 0.5), (0.75, 0.5)), radius=0.1, feather=0.5)
    mask = mask_of(adjust(stroke), GREY)
    assert (mask[51:69, 50:150] == 1).all()
    assert np.ptp(mask[:, 60:140], axis=1).max() < 1e-5
    assert not mask[:39].any()
    assert not mask[:, :29].any()
    dot = mask_of(adjust(Brush(points=((0.5, 0.5),), radius=0.1, feather=0.5)), GREY)
    disc = mask_of(adjust(RadialGradient(x=0.5, y=0.5, radius_x=0.1, radius_y=20 / 120, feather=0.5)), GREY)
    assert np.allclose(dot, disc, atol=1e-4)


def test_where_a_stroke_is_cut_into_pieces_does_not_show() -> None:
    points = [(0.1, 0.1), (0.9, 0.8)]
    finer = [(0.1 + 0.8 * k / 50, 0.1 + 0.7 * k / 50) for k in range(51)]
    photo = np.zeros((400, 600, 3), np.uint8)
    coarse, fine = (mask_of(adjust(Brush(points=tuple(p), radius=0.01)), photo) for p in (points, finer))
    assert np.allclose(coarse, fine, atol=1e-3)


def test_mask_images_are_stretched_over_the_photo() -> None:
    halves = np.zeros((10, 10), np.uint8)
    halves[:, 5:] = 255
    mask = mask_of(adjust(mask_image_of(halves)), GREY)
    assert not mask[:, :85].any()
    assert (mask[:, 115:] == 1).all()
    same = np.random.default_rng(0).integers(0, 256, (120, 200), dtype=np.uint8)
    assert np.array_equal(np.rint(mask_of(adjust(mask_image_of(same)), GREY) * 255), same)


@pytest.mark.parametrize(
    "mask", [np.eye(6, dtype=bool), np.eye(6), np.eye(6, dtype=np.uint8) * 255, np.eye(6, dtype=np.uint16) * 65535]
)
def test_outside_masks_of_every_kind(mask: Any, tmp_path: Path) -> None:
    photo = np.zeros((6, 6, 3), np.uint8)
    assert np.array_equal(mask_of(adjust(mask_image_of(mask)), photo), np.eye(6))
    PIL.Image.fromarray(np.eye(6) > 0).save(tmp_path / "mask.png")
    assert np.array_equal(mask_of(adjust(mask_image_of(tmp_path / "mask.png")), photo), np.eye(6))


def test_large_outside_masks_are_shrunk() -> None:
    disc = np.hypot(*np.mgrid[-300:300, -400:400]) < 200
    small = mask_image_of(disc, longest=100)
    assert len(small.png) < 5000
    mask = mask_of(adjust(small), np.zeros((600, 800, 3), np.uint8))
    assert np.abs(mask - disc).mean() < 0.01


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((3, 3, 3)), r"float64 \(3, 3, 3\).*mask\[\.\.\., 0\]"),
        (np.zeros((0, 3), np.uint8), "expected"),
        (np.full((3, 3), 7.0), r"7\.\.7.*0\.\.1"),
        (np.full((3, 3), np.nan), "nan"),
        ("nowhere.png", "No mask at"),
    ],
)
def test_what_is_no_mask_is_refused(bad: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        mask_image_of(bad)


def test_a_mask_that_is_too_large_for_a_recipe_says_so() -> None:
    noise = np.random.default_rng(0).integers(0, 65536, (1500, 1500), dtype=np.uint16)
    with pytest.raises(ImageError, match="smaller longest"):
        mask_image_of(noise)


def test_files_that_are_no_masks_are_named(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (4, 4)).save(tmp_path / "colour.png")
    with pytest.raises(ImageError, match=r"colour\.png.*mode RGB"):
        mask_image_of(tmp_path / "colour.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ImageError, match=r"text\.png.*cannot be read"):
        mask_image_of(tmp_path / "text.png")


@pytest.mark.parametrize("name", SHAPES)
def test_memory_stays_near_that_of_the_mask(name: str) -> None:
    photo = np.zeros((2000, 1500, 3), np.uint8)
    adjustment = adjust(SHAPES[name])
    tracemalloc.start()
    mask = mask_of(adjustment, photo)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (2.2 if name == "image" else 1.3) * mask.nbytes


places = st.floats(-1, 2)
shares = st.floats(0, 1)
radii = st.floats(0, 1, exclude_min=True)
SHAPE_STRATEGIES = st.one_of(
    st.builds(LinearGradient, x0=places, y0=places, x1=places, y1=places),
    st.builds(
        RadialGradient,
        x=places,
        y=places,
        radius_x=radii,
        radius_y=radii,
        angle=st.floats(-180, 180),
        feather=shares,
    ),
    st.builds(LuminanceRange, low=shares, high=shares, feather=shares),
    st.builds(ColorRange, red=shares, green=shares, blue=shares, tolerance=shares, feather=shares),
    st.builds(Brush, points=st.lists(st.tuples(places, places), min_size=1, max_size=5), radius=radii, feather=shares),
)
PARTS = st.builds(
    MaskPart, shape=SHAPE_STRATEGIES, op=st.sampled_from(["add", "subtract", "intersect"]), invert=st.booleans()
)


@settings(deadline=None, max_examples=150)
@given(parts=st.lists(PARTS, min_size=1, max_size=4), amount=shares, size=st.sampled_from([(1, 1), (1, 90), (23, 31)]))
def test_whatever_a_recipe_may_hold_is_a_mask(parts: list[MaskPart], amount: float, size: tuple[int, int]) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask = mask_of(adjust(*parts, amount=amount), photo)
    assert mask.shape == size
    assert np.isfinite(mask).all()
    assert mask.min() >= 0
    assert mask.max() <= np.float32(amount)


def png(picture: PIL.Image.Image, kind: str = "png") -> bytes:
    packed = io.BytesIO()
    picture.save(packed, kind)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("no base64!", "base64"),
        (base64.b64encode(b"not a picture").decode(), "begin as a PNG"),
        (base64.b64encode(png(PIL.Image.effect_noise((64, 64), 80))[:900]).decode(), "damaged"),
        (base64.b64encode(png(PIL.Image.new("RGB", (4, 4)))).decode(), "mode RGB; expected grey"),
        (base64.b64encode(png(PIL.Image.new("L", (4, 4)), "bmp")).decode(), "begin as a PNG"),
        (base64.b64encode(png(PIL.Image.new("1", (9000, 9000)))).decode(), "9000 × 9000 pixels"),
    ],
)
def test_bad_mask_images_name_the_adjustment_and_the_cure(data: str, message: str) -> None:
    with pytest.raises(RecipeError, match=rf"(?s)'here'.*{message}.*mask_image_of"):
        mask_of(adjust(MaskImage(png=data)), GREY)


def test_the_photo_is_not_written() -> None:
    photo = smooth_photo(30, 40)
    photo.flags.writeable = False
    for shape in SHAPES.values():
        mask_of(adjust(shape), photo)
        assert not np.shares_memory(mask_of(adjust(shape), photo), photo)
