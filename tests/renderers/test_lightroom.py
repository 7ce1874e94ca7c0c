"""What every control of the toolset lightroom promises: identity, continuity, direction, range."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retouch_gym.adjustments import Crop, LocalAdjustment, MaskPart, RadialGradient
from retouch_gym.errors import ConfigurationError, ImageError, RendererError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.lightroom.reference import render_reference
from retouch_gym.renderers.native import NativeRenderer
from retouch_gym.testing import check_renderer
from retouch_gym.tools.base import Control
from retouch_gym.tools.lightroom_controls import BLACK_AND_WHITE, CALIBRATION, COLORS, CONTROLS, ZONES
from retouch_gym.types import Image

RENDERER = NativeRenderer()
LUMA = np.array([0.2126, 0.7152, 0.0722])

# Controls that say how another one acts.
MODIFIERS = (
    *(f"sharpening_{what}" for what in ("radius", "detail", "masking")),
    *(f"vignette_{what}" for what in ("midpoint", "roundness", "feather")),
    *("grain_size", "grain_roughness", "grading_balance", "grading_blending"),
    *(f"grading_{zone}_hue" for zone in ZONES),
    *(control.name for control in BLACK_AND_WHITE[1:]),
)
CONTINUOUS = [control for control in CONTROLS if control.name != "black_and_white"]


def noise(height: int = 16, width: int = 20, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def render(photo: Image, controls: dict[str, float], seed: int = 0) -> Image:
    return RENDERER.render([photo], [Recipe("lightroom", controls, seed)])[0]


def render_floats(photo: Image, controls: dict[str, float]) -> np.ndarray:
    floats = (photo / 255).astype(np.float32)
    return np.asarray(RENDERER.render_float([floats], [Recipe("lightroom", controls)])[0], dtype=np.float64)


def luma(image: np.ndarray) -> np.ndarray:
    return np.asarray(image @ LUMA)


def chroma(image: np.ndarray) -> np.ndarray:
    return np.asarray(np.ptp(image, axis=-1))


def test_keeps_the_contract_of_a_renderer() -> None:
    check_renderer("native", "lightroom", samples=7)


def test_threads_change_nothing() -> None:
    photos = [noise(30 + seed, 40, seed) for seed in range(6)]
    recipes = [Recipe("lightroom", {"exposure": 0.1 * seed, "clarity": 30, "grain_amount": 20}) for seed in range(6)]
    one, three = (NativeRenderer(threads).render(photos, recipes) for threads in (1, 3))
    assert all(np.array_equal(a, b) for a, b in zip(one, three, strict=True))
    with pytest.raises(ConfigurationError, match="threads = 0"):
        NativeRenderer(0)


def test_neutral_is_the_source() -> None:
    photo = noise()
    neutral = {control.name: control.default for control in CONTROLS}
    modified = {name: next(c.high for c in CONTROLS if c.name == name) for name in MODIFIERS}
    empty = LocalAdjustment(name="a", parts=(MaskPart(shape=RadialGradient(x=0, y=0, radius_x=1, radius_y=1)),))
    for recipe in (
        Recipe("lightroom"),
        Recipe("lightroom", neutral),
        Recipe("lightroom", modified, seed=9),
        Recipe("lightroom", crop=Crop()),
        Recipe("lightroom", locals=(empty,)),
    ):
        assert np.array_equal(RENDERER.render([photo], [recipe])[0], photo)
        assert np.array_equal(render_reference(photo, recipe), photo)
    deep = np.random.default_rng(0).integers(0, 65536, (9, 7, 3), dtype=np.uint16)
    assert np.array_equal(RENDERER.render_float([deep], [Recipe("lightroom", neutral)])[0], deep)


@pytest.mark.parametrize("control", CONTINUOUS, ids=lambda control: control.name)
def test_leaves_neutral_without_a_jump(control: Control) -> None:
    photo = noise()
    for step in (-1e-3, 1e-3):
        value = control.default + step
        if control.low <= value <= control.high:
            change = np.abs(render_floats(photo, {control.name: value}) - photo / 255).max()
            assert change < 0.2 / 255, f"{control.name} = {value} changes {255 * change:.2f} levels"


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_more_of_it_never_darkens(data: st.DataObject) -> None:
    names = ["exposure", "highlights", "shadows", "whites", "blacks", "vignette_amount"]
    names += [f"curve_{zone}" for zone in ("highlights", "lights", "darks", "shadows")]
    control = data.draw(st.sampled_from([control for control in CONTROLS if control.name in names]))
    photo = noise(seed=data.draw(st.integers(0, 99)))
    low, high = sorted(data.draw(st.tuples(*[st.floats(control.low, control.high)] * 2)))
    tones = {name: st.integers(-100, 100) for name in ("contrast", "highlights", "shadows", "whites", "temperature")}
    others = data.draw(st.fixed_dictionaries({}, optional=tones))
    darker, brighter = (render(photo, {**others, control.name: value}) for value in (low, high))
    assert (brighter >= darker).all()


def test_exposure_doubles_light() -> None:
    levels = np.arange(256, dtype=np.uint8)
    photo = np.stack([levels] * 3, axis=-1)[None]
    brighter = render_floats(photo, {"exposure": 1})[0, :, 0]

    def decode(x: np.ndarray) -> np.ndarray:
        return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)

    assert np.abs(decode(brighter) - np.minimum(2 * decode(levels / 255), 1)).max() < 2e-5


def test_highlights_bring_back_what_exposure_pushed_over() -> None:
    ramp = np.linspace(150, 250, 80).astype(np.uint8)
    photo = np.stack([ramp] * 3, axis=-1)[None]
    over = render(photo, {"exposure": 1.2})
    back = render(photo, {"exposure": 1.2, "highlights": -100})
    assert len(np.unique(over)) < len(np.unique(back))
    assert back.max() < 255


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            ["contrast", "highlights", "shadows", "whites", "blacks", "temperature", "tint", "dehaze"]
            + [f"curve_{zone}" for zone in ("highlights", "lights", "darks", "shadows")]
        ),
        st.integers(-100, 0) | st.integers(0, 100),
    ),
    st.floats(-5, 5),
)
def test_tones_keep_their_order(controls: dict[str, float], exposure: float) -> None:
    controls.pop("dehaze", None)  # looks at neighbours
    ramp = np.stack([np.arange(256, dtype=np.uint8)] * 3, axis=-1)[None]
    steps = np.diff(render_floats(ramp, {**controls, "exposure": exposure})[0], axis=0)
    assert steps.min() >= -1e-6


@pytest.mark.parametrize("seed", range(3))
def test_contrast_and_white_balance_go_where_they_say(seed: int) -> None:
    photo = noise(seed=seed)
    values = (-100, -60, -20, 0, 30, 70, 100)
    bright = photo >= 128
    for before, after in itertools.pairwise(values):
        one, two = (render(photo, {"contrast": value}) for value in (before, after))
        assert (two[bright] >= one[bright]).all()
        assert (two[~bright] <= one[~bright]).all()
        cool, warm = (render(photo, {"temperature": value}) for value in (before, after))
        assert (warm[..., 0] >= cool[..., 0]).all()
        assert (warm[..., 2] <= cool[..., 2]).all()
        green, magenta = (render(photo, {"tint": value}) for value in (before, after))
        assert (magenta[..., 1] <= green[..., 1]).all()
        assert (magenta[..., ::2] >= green[..., ::2]).all()
        hazy, clear = (render(photo, {"dehaze": value}).astype(int) for value in (before, after))
        assert (clear <= hazy).all()


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["saturation", "vibrance", *(f"hsl_{color}_saturation" for color in COLORS)]),
    st.tuples(st.floats(-100, 100), st.floats(-100, 100)),
    st.integers(0, 99),
)
def test_saturation_never_lowers_chroma(name: str, values: tuple[float, float], seed: int) -> None:
    photo = noise(seed=seed)
    less, more = (render_floats(photo, {name: value}) for value in sorted(values))
    assert (chroma(more) - chroma(less)).min() > -1e-5


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["hsl_{}_luminance", "bw_{}"]),
    st.sampled_from(COLORS),
    st.tuples(st.floats(-100, 100), st.floats(-100, 100)),
    st.integers(0, 99),
)
def test_luminance_of_a_band_never_falls(name: str, color: str, values: tuple[float, float], seed: int) -> None:
    photo = noise(seed=seed)
    switch = {"black_and_white": 1.0} if name.startswith("bw") else {}
    less, more = (render_floats(photo, {name.format(color): value, **switch}) for value in sorted(values))
    assert (luma(more) - luma(less)).min() > -1e-5


def test_colour_bands_turn_and_greys_stay() -> None:
    red = np.full((2, 2, 3), (200, 60, 60), dtype=np.uint8)
    towards_orange, towards_magenta = (render(red, {"hsl_red_hue": value})[0, 0].astype(int) for value in (80, -80))
    assert towards_orange[1] > towards_orange[2] + 10
    assert towards_magenta[2] > towards_magenta[1] + 10
    grey = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)
    everything = {control.name: 100 for control in CONTROLS if control.name.startswith("hsl_")}
    assert np.array_equal(render(grey, {**everything, "vibrance": 100, "saturation": 50}), grey)
    assert np.array_equal(render(grey, {"black_and_white": 1, "bw_red": 100, "bw_blue": -100}), grey)
    assert chroma(render(noise(), {"black_and_white": 1, "bw_red": 60})).max() == 0


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(st.sampled_from([c.name for c in CALIBRATION]), st.integers(-100, 100)))
def test_calibration_keeps_white_and_black(controls: dict[str, float]) -> None:
    ends = np.array([[[0, 0, 0], [255, 255, 255]]], dtype=np.uint8)
    assert np.array_equal(render(ends, controls), ends)


def test_grading_tints_its_zone_and_keeps_the_ends() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)
    for zone, where in (("shadows", slice(30, 70)), ("highlights", slice(190, 230)), ("midtones", slice(110, 150))):
        image = render(ramp, {f"grading_{zone}_hue": 240, f"grading_{zone}_saturation": 80})[0].astype(int)
        tint = image[:, 2] - image[:, 0]
        assert tint.min() >= 0
        assert tint[where].mean() > 1.5 * max(tint[:12].mean(), tint[-12:].mean())
        assert (tint[[0, 255]] == 0).all()
        brighter = render(ramp, {f"grading_{zone}_luminance": 50})[0].astype(int)
        assert (brighter >= ramp[0]).all()


@pytest.mark.parametrize("name", ["clarity", "texture", "sharpening_amount", "grain_amount"])
def test_detail_grows_with_its_slider(name: str) -> None:
    photo = np.random.default_rng(0).integers(100, 150, (60, 60, 3), dtype=np.uint8)
    low = next(control.low for control in CONTROLS if control.name == name)
    spreads = [luma(render_floats(photo, {name: value})).std() for value in (low, low / 2, 0, 40, 80, 100)]
    assert all(after >= before for before, after in itertools.pairwise(spreads))
    assert spreads[-1] > 1.05 * spreads[2]


def test_noise_falls_with_its_slider() -> None:
    photo = np.random.default_rng(0).integers(115, 140, (60, 60, 3), dtype=np.uint8)
    grain = [luma(render_floats(photo, {"noise_luminance": value})).std() for value in (0, 30, 60, 100)]
    spots = [chroma(render_floats(photo, {"noise_color": value})).mean() for value in (0, 30, 60, 100)]
    for series in (grain, spots):
        assert all(after < before for before, after in itertools.pairwise(series))
        assert series[-1] < 0.6 * series[0]


def test_edges_survive_noise_reduction_and_clarity_leaves_flats_alone() -> None:
    step = np.full((40, 40, 3), 60, dtype=np.uint8)
    step[:, 20:] = 200
    smoothed = render(step, {"noise_luminance": 100, "noise_color": 100})
    assert np.abs(smoothed.astype(int) - step).max() <= 8
    flat = np.full((30, 30, 3), (90, 140, 70), dtype=np.uint8)
    assert np.array_equal(render(flat, {"clarity": 100, "texture": -100, "sharpening_amount": 150}), flat)


def test_vignette_follows_the_crop_and_its_shape() -> None:
    flat = np.full((60, 90, 3), 128, dtype=np.uint8)
    image = render(flat, {"vignette_amount": -80}).astype(int)
    assert np.array_equal(image, image[::-1, ::-1])
    assert image[30, 45, 0] > 120
    assert image[0, 0, 0] < 60
    cropped = RENDERER.render([flat], [Recipe("lightroom", {"vignette_amount": -80}, crop=Crop(left=0.5, top=0.5))])[0]
    assert cropped.shape == (30, 45, 3)
    assert np.array_equal(cropped, cropped[::-1, ::-1])
    circle = render(flat, {"vignette_amount": -80, "vignette_roundness": 100}).astype(int)
    assert circle[30, 89, 0] == pytest.approx(circle[0, 45, 0] - (circle[0, 45, 0] - circle[30, 89, 0]))
    assert circle[0, 45, 0] > image[0, 45, 0]


def test_grain_is_a_function_of_the_seed() -> None:
    grey = np.full((256, 256, 3), 128, dtype=np.uint8)
    one, again, other = (render(grey, {"grain_amount": 50}, seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert chroma(one).max() == 0
    sizes = [render(grey, {"grain_amount": 50, "grain_size": size, "grain_roughness": 0}) for size in (0, 50, 100)]
    assert [image.std() for image in sizes] == pytest.approx([0.06 * 255] * 3, rel=0.07)
    neighbours = [np.corrcoef(image[:, :-1, 0].ravel(), image[:, 1:, 0].ravel())[0, 1] for image in sizes]
    assert neighbours == sorted(neighbours)


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_extremes_stay_in_range(control: Control) -> None:
    corners = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], np.uint8)
    photos = [corners[None], corners[:1, None], np.tile(corners[None, 2], (1, 4000, 1)), corners[:, None].copy()]
    for value in (control.low, control.high):
        for photo in photos:
            image = render_floats(photo, {control.name: value})
            assert np.isfinite(image).all()
            assert image.min() >= 0
            assert image.max() <= 1
            assert render(photo, {control.name: value}).shape == photo.shape


def test_local_adjustments_act_in_proportion_to_their_mask() -> None:
    photo = noise(40, 40)
    inside = MaskPart(shape=RadialGradient(x=0.5, y=0.5, radius_x=0.25, radius_y=0.25, feather=0.2))

    def local(amount: float, invert: bool = False) -> Image:
        part = inside.model_copy(update={"invert": invert})
        adjustment = LocalAdjustment(name="a", parts=(part,), controls={"exposure": 1}, amount=amount)
        return RENDERER.render([photo], [Recipe("lightroom", locals=(adjustment,))])[0]

    brighter, whole = local(1), render(photo, {"exposure": 1})
    assert np.array_equal(brighter[0], photo[0])
    assert np.abs(brighter[20, 20].astype(int) - whole[20, 20]).max() <= 1
    assert (local(0.5) <= brighter).all()
    assert np.array_equal(local(0), photo)
    assert np.abs(local(1, invert=True)[0].astype(int) - whole[0]).max() <= 1


def test_deep_photos_keep_their_type_and_shades() -> None:
    ramp = np.linspace(0, 65535, 5000).astype(np.uint16).repeat(3).reshape(1, 5000, 3)
    recipe = Recipe("lightroom", {"exposure": 0.3, "contrast": 10})
    deep = RENDERER.render_float([ramp], [recipe])[0]
    assert deep.dtype == np.uint16
    assert len(np.unique(deep[0, :, 0])) > 4000
    source = ramp.copy()
    RENDERER.render_float([ramp], [recipe])
    assert np.array_equal(ramp, source)


def test_refuses_what_it_cannot_render() -> None:
    photo = noise(4, 4)
    with pytest.raises(RendererError, match=r"Unknown control 'glow'"):
        render(photo, {"glow": 1})
    with pytest.raises(RendererError, match=r"exposure = 9 is outside -5\.\.5"):
        render(photo, {"exposure": 9})
    with pytest.raises(RendererError, match=r"Unknown curve 'curve_luma'"):
        RENDERER.render([photo], [Recipe("lightroom", curves={"curve_luma": ((0, 0), (1, 0.5))})])
    part = MaskPart(shape=RadialGradient(x=0, y=0, radius_x=1, radius_y=1))
    adjustment = LocalAdjustment(name="sky", parts=(part,), controls={"grain_amount": 5})
    with pytest.raises(RendererError, match=r"'grain_amount'; local adjustment 'sky'"):
        RENDERER.render([photo], [Recipe("lightroom", locals=(adjustment,))])
    with pytest.raises(RendererError, match=r"toolset 'lightroom'.*'iea'"):
        RENDERER.render_float([photo.astype(np.uint16)], [Recipe("iea", {"exposure": 1})])
    with pytest.raises(RendererError, match=r"1 photos and 0 recipes"):
        RENDERER.render_float([photo.astype(np.uint16)], [])
    for bad, message in ((photo, "uint8"), (photo.astype(np.float32), r"0\.\.255|holds"), (photo[0] / 255, "float64")):
        with pytest.raises(ImageError, match=message):
            RENDERER.render_float([bad], [Recipe("lightroom")])
    hole = np.full((2, 2, 3), np.nan, np.float32)
    with pytest.raises(ImageError, match="nan"):
        RENDERER.render_float([hole], [Recipe("lightroom")])
