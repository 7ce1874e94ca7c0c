"""What each slider of the default toolset promises: direction, continuity, ends, near inverses."""

from __future__ import annotations

from itertools import pairwise
from typing import TypeAlias

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retouch_gym import Recipe
from retouch_gym.renderers.native import NativeRenderer
from retouch_gym.tools.iea import IEA, ONE_SIDED, SLIDERS
from retouch_gym.types import Image

Levels: TypeAlias = NDArray[np.int64]

RENDERER = NativeRenderer()
ANY = st.integers(-100, 100)
TONES = ("exposure", "brightness", "highlights", "shadows", "whites", "blacks")
SEEDS = st.integers(0, 2**16)

every_slider = pytest.mark.parametrize("slider", list(SLIDERS))
quick = settings(max_examples=25, deadline=None)


def colours(seed: int, low: int = 0, high: int = 255) -> Image:
    """Noise over a smooth ground, with the darkest and lightest levels in it."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8), (30, 20), interpolation=cv2.INTER_LINEAR)
    photo = np.clip(ground.astype(int) + rng.integers(-20, 21, ground.shape), 0, 255)
    photo[0, :2] = [[0] * 3, [255] * 3]
    return (low + photo * (high - low) // 255).astype(np.uint8)


def rendered(photo: Image, **controls: float) -> Levels:
    return RENDERER.render([photo], [Recipe("iea", controls)])[0].astype(np.int64)


def chroma(levels: Levels) -> Levels:
    return np.asarray(levels.max(axis=2) - levels.min(axis=2))


@quick
@given(SEEDS, ANY, ANY, st.sampled_from(TONES), st.sampled_from((*TONES, "contrast", "natural_contrast")), ANY)
def test_brighter_never_darkens_a_pixel(seed: int, a: int, b: int, slider: str, other: str, value: int) -> None:
    photo = colours(seed)
    around = {} if other == slider else {other: value}
    less, more = (rendered(photo, **{slider: v}, **around) for v in sorted((a, b)))
    assert (less <= more).all()


@quick
@given(SEEDS, ANY, ANY, st.sampled_from(["contrast", "natural_contrast"]))
def test_contrast_spreads_from_the_middle(seed: int, a: int, b: int, slider: str) -> None:
    photo = colours(seed)
    less, more = (rendered(photo, **{slider: v}) for v in sorted((a, b)))
    assert (less >= more)[photo < 128].all()
    assert (less <= more)[photo >= 128].all()


@pytest.mark.parametrize(
    ("slider", "black", "white"),
    [
        ("natural_contrast", True, True),
        ("highlights", True, True),
        ("shadows", False, True),
        ("whites", True, False),
        ("blacks", False, True),
    ],
)
def test_ends_that_stay(slider: str, black: bool, white: bool) -> None:
    ends = np.array([[[0] * 3, [255] * 3]], dtype=np.uint8)
    for value in range(-100, 101):
        dark, light = rendered(ends, **{slider: value})[0]
        assert not black or (dark == 0).all()
        assert not white or (light == 255).all()


@quick
@given(ANY, st.sampled_from((*TONES, "contrast", "natural_contrast")), st.integers(0, 100))
def test_order_of_tones_stays(value: int, slider: str, fade: int) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)
    assert (np.diff(rendered(ramp, **{slider: value}, fade=fade)[0, :, 0]) >= 0).all()


@quick
@given(SEEDS, st.integers(0, 100), st.integers(0, 100))
def test_fade_lifts_blacks_and_narrows_the_range(seed: int, a: int, b: int) -> None:
    less, more = (rendered(colours(seed), fade=v) for v in sorted((a, b)))
    assert less.min() <= more.min()
    assert np.ptp(less) >= np.ptp(more)


@quick
@given(SEEDS, ANY, ANY, st.sampled_from(["saturation", "vibrance"]))
def test_colour_grows_and_the_largest_channel_stays(seed: int, a: int, b: int, slider: str) -> None:
    photo = colours(seed)
    less, more = (rendered(photo, **{slider: v}) for v in sorted((a, b)))
    assert (chroma(less) <= chroma(more)).all()
    assert np.array_equal(less.max(axis=2), photo.max(axis=2))
    grey = photo.max(axis=2) == photo.min(axis=2)
    assert np.array_equal(more[grey], photo[grey])


def test_saturation_ends_in_grey_and_in_double() -> None:
    photo = colours(3)
    assert chroma(rendered(photo, saturation=-100)).max() == 0
    doubled = np.minimum(2 * chroma(photo.astype(np.int64)), photo.max(axis=2))
    assert np.abs(chroma(rendered(photo, saturation=100)) - doubled).max() <= 1


@quick
@given(st.integers(1, 100), st.integers(30, 255))
def test_vibrance_favours_muted_colours(value: int, top: int) -> None:
    """The gain of chroma falls as saturation rises, to none for a pure colour."""
    photo = np.array([[[top, top, top * s // 8] for s in range(8)]], dtype=np.uint8)
    before, after = chroma(photo.astype(np.int64))[0], chroma(rendered(photo, vibrance=value))[0]
    assert after[0] == before[0]
    gains = after / before
    assert (np.diff(gains) >= -1.5 / before[1:]).all()  # up to rounding
    assert gains[-1] - 1 == pytest.approx(0.01 * value * (1 - before[-1] / top), abs=1 / before[-1])


@quick
@given(SEEDS, ANY, ANY)
def test_warmer_is_redder_and_less_blue(seed: int, a: int, b: int) -> None:
    cooler, warmer = (rendered(colours(seed), temperature=v) for v in sorted((a, b)))
    assert (cooler[..., :2] <= warmer[..., :2]).all()
    assert (cooler[..., 2] >= warmer[..., 2]).all()


@quick
@given(SEEDS, ANY, ANY)
def test_tint_moves_green_alone(seed: int, a: int, b: int) -> None:
    photo = colours(seed)
    magenta, green = (rendered(photo, tint=v) for v in sorted((a, b)))
    assert (magenta[..., 1] <= green[..., 1]).all()
    assert np.array_equal(green[..., ::2], photo[..., ::2])


@quick
@given(SEEDS, ANY, ANY)
def test_vignette_works_from_the_corners(seed: int, a: int, b: int) -> None:
    photo = colours(seed)
    less, more = (rendered(photo, vignette=v) for v in sorted((a, b)))
    assert (less[0, 0] >= more[0, 0]).all()
    for value, image in zip(sorted((a, b)), (less, more), strict=True):
        assert (image <= photo).all() if value >= 0 else (image >= photo).all()
    height, width = photo.shape[:2]
    assert np.array_equal(more[height // 2, width // 2], photo[height // 2, width // 2])


@quick
@given(SEEDS, ANY, ANY)
def test_sharper_has_more_detail(seed: int, a: int, b: int) -> None:
    photo = colours(seed, 100, 156)
    less, more = (rendered(photo, sharpness=v) for v in sorted((a, b)))
    soft, crisp = (float(np.square(cv2.Laplacian(x.astype(np.float64), cv2.CV_64F)).mean()) for x in (less, more))
    assert soft <= crisp * 1.02 + 2  # rounding is detail too


def test_blur_keeps_the_mean_and_widens() -> None:
    point = np.full((41, 41, 3), 50, dtype=np.uint8)
    point[20, 20] = 250
    grid = np.square(np.arange(41) - 20)
    last = 0.0
    for value in (-10, -20, -40):
        spread = rendered(point, sharpness=value)[..., 0].astype(float) - 50
        variance = float((spread * grid[:, None]).sum() / spread.sum())
        assert variance > last
        last = variance


@every_slider
def test_small_values_do_little(slider: str) -> None:
    """Continuous through 0: one step off neutral changes no value by more than 4 levels."""
    photo = colours(1)
    for value in (-1, 1):
        if value > 0 or slider not in ONE_SIDED:
            assert np.abs(rendered(photo, **{slider: value}) - photo).max() <= 4


@every_slider
def test_neighbouring_values_look_alike(slider: str) -> None:
    """No jump anywhere in the range: a step of the slider moves the mean by less than 2 levels."""
    photo = colours(2)
    control = IEA.controls[slider]
    values = range(int(control.low), int(control.high) + 1)
    images = RENDERER.render([photo] * len(values), [Recipe("iea", {slider: v}) for v in values])
    steps = [float(cv2.absdiff(x, y).mean()) for x, y in pairwise(images)]
    assert max(steps) < 2
    ends = [cv2.absdiff(photo, image).mean() for image in (images[0], images[-1])]
    assert max(ends) > 4
    assert min(ends) > 4 or slider in ONE_SIDED


@quick
@given(
    SEEDS,
    st.integers(-40, 40),
    st.sampled_from(
        ["exposure", "brightness", "contrast", "natural_contrast", "whites", "blacks", "temperature", "tint"]
    ),
)
def test_the_opposite_value_undoes(seed: int, value: int, slider: str) -> None:
    """Midtones come back within rounding, the first rendering's rounding magnified by the second."""
    photo = colours(seed, 105, 150)
    there = rendered(photo, **{slider: value}).astype(np.uint8)
    assert np.abs(rendered(there, **{slider: -value}) - photo).max() <= 2


@quick
@given(
    st.dictionaries(
        st.sampled_from(["exposure", "brightness", "highlights", "fade", "temperature"]), st.integers(0, 60)
    )
)
def test_stays_near_the_published_editor_where_that_has_no_quirk(controls: dict[str, int]) -> None:
    photo = colours(5)
    ours, theirs = RENDERER.render([photo] * 2, [Recipe("iea", controls), Recipe("iea-compat", controls)])
    assert float(cv2.absdiff(ours, theirs).mean()) < 2.5
