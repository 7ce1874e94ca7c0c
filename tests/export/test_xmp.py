"""Lightroom's XMP: what goes out comes back, real files are read, and nothing is lost in silence."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retouch_gym import Recipe
from retouch_gym.adjustments import (
    Brush,
    Crop,
    LinearGradient,
    LocalAdjustment,
    LuminanceRange,
    MaskPart,
    RadialGradient,
)
from retouch_gym.errors import RecipeError
from retouch_gym.export import export_xmp, from_xmp, to_xmp
from retouch_gym.renderers.lightroom.geometry import largest_crop
from retouch_gym.renderers.lightroom.masks import mask_of
from retouch_gym.testing import NoisePhoto
from retouch_gym.tools.base import Control
from retouch_gym.tools.lightroom_controls import CONTROLS, CURVES, LOCAL

CRS = "{http://ns.adobe.com/camera-raw-settings/1.0/}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
DECIMALS = {"exposure": 2, "sharpening_radius": 1}
UNHELD_LOCALLY = ("vibrance", "noise_color")
SHARE = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)


def values(control: Control, low: float | None = None, high: float | None = None) -> st.SearchStrategy[float]:
    """Values other than the default, at the format's precision."""
    step = 10 ** DECIMALS.get(control.name, 0)
    bottom, top = control.low if low is None else low, control.high if high is None else high
    whole = st.integers(round(bottom * step), round(top * step))
    return whole.map(lambda value: value / step if step > 1 else value).filter(lambda value: value != control.default)


def global_controls() -> st.SearchStrategy[dict[str, float]]:
    return st.dictionaries(st.sampled_from(CONTROLS), st.none(), max_size=12).flatmap(
        lambda chosen: st.fixed_dictionaries({control.name: values(control) for control in chosen})
    )


def curves() -> st.SearchStrategy[dict[str, tuple[tuple[float, float], ...]]]:
    level = st.integers(0, 255).map(lambda value: value / 255)
    curve = st.dictionaries(level, level, min_size=2, max_size=16).map(lambda points: tuple(sorted(points.items())))
    return st.dictionaries(st.sampled_from(CURVES), curve)


def crops() -> st.SearchStrategy[Crop]:
    edge = st.tuples(SHARE, SHARE).filter(lambda pair: pair[0] < pair[1])
    return st.builds(lambda x, y: Crop(left=x[0], right=x[1], top=y[0], bottom=y[1]), edge, edge)


def masks() -> st.SearchStrategy[tuple[MaskPart, ...]]:
    place = st.integers(-1000, 2000).map(lambda thousandths: thousandths / 1000)
    radius = st.integers(1, 1000).map(lambda thousandths: thousandths / 1000)
    shape = st.builds(LinearGradient, x0=place, y0=place, x1=place, y1=place) | st.builds(
        RadialGradient, x=place, y=place, radius_x=radius, radius_y=radius, feather=SHARE
    )
    first = st.builds(MaskPart, shape=shape, invert=st.booleans())
    later = first | st.builds(MaskPart, shape=shape, op=st.sampled_from(["subtract", "intersect"]))
    return st.tuples(first, st.lists(later, max_size=3)).map(lambda parts: (parts[0], *parts[1]))


def local_controls() -> st.SearchStrategy[dict[str, float]]:
    held = [control for control in LOCAL if control.name not in UNHELD_LOCALLY]
    drawn = {control.name: values(control, high=min(control.high, 100)) for control in held}
    return st.fixed_dictionaries({}, optional=drawn).filter(bool)


def local_adjustments() -> st.SearchStrategy[tuple[LocalAdjustment, ...]]:
    one = st.tuples(masks(), local_controls(), SHARE)
    return st.lists(one, max_size=2).map(
        lambda drawn: tuple(
            LocalAdjustment(name=f"mask {index}", parts=parts, controls=controls, amount=amount)
            for index, (parts, controls, amount) in enumerate(drawn)
        )
    )


def recipes() -> st.SearchStrategy[Recipe]:
    crop = st.none() | crops()
    return st.builds(Recipe, st.just("lightroom"), global_controls(), st.just(0), curves(), crop, local_adjustments())


def gradient(name: str = "sky", **controls: float) -> LocalAdjustment:
    return LocalAdjustment(
        name=name, parts=(MaskPart(shape=LinearGradient(x0=0, y0=0, x1=0, y1=1)),), controls=controls
    )


class TestRoundTrip:
    @settings(max_examples=150, deadline=None)
    @given(recipes())
    def test_a_recipe_comes_back(self, recipe: Recipe) -> None:
        assert from_xmp(to_xmp(recipe)) == recipe
        assert from_xmp(to_xmp(recipe, preset='A "good" <one> & more')) == recipe

    @settings(max_examples=60, deadline=None)
    @given(crops(), st.integers(-450, 450), st.tuples(st.integers(40, 8000), st.integers(40, 8000)))
    def test_a_straightened_crop_comes_back_or_is_shrunk(self, crop: Crop, tenths: int, size: tuple[int, int]) -> None:
        recipe = Recipe("lightroom", crop=crop.model_copy(update={"angle": tenths / 10}))
        exported = export_xmp(recipe, size=size)
        back = from_xmp(exported.text, partial=True).crop
        if exported.left_out:
            assert "turned photo" in exported.left_out[0]
            return
        assert back is not None
        for side in ("left", "top", "right", "bottom", "angle"):
            assert getattr(back, side) == pytest.approx(getattr(recipe.crop, side), abs=1e-5 * max(size) / min(size))

    @pytest.mark.parametrize("angle", [-30, -4.2, 1, 45])
    def test_a_photo_that_is_only_straightened_is_cropped_as_lightroom_crops_it(self, angle: float) -> None:
        exported = export_xmp(Recipe("lightroom", crop=Crop(angle=angle)), size=(600, 400))
        assert "shrunk to" in exported.left_out[0]
        crop = from_xmp(exported.text).crop
        assert crop is not None
        assert crop.model_dump() == pytest.approx(largest_crop(600, 400, angle).model_dump(), abs=1e-5)

    def test_every_control_is_written_and_read_by_itself(self) -> None:
        for control in CONTROLS:
            for value in {control.low, control.high} - {control.default}:
                recipe = Recipe("lightroom", {control.name: value})
                text = to_xmp(recipe)
                assert from_xmp(text) == recipe
                assert text.count("crs:") == to_xmp(Recipe("lightroom")).count("crs:")

    @pytest.mark.parametrize("op", ["subtract", "intersect"])
    def test_an_inverted_shape_taken_away_is_an_intersection(self, op: str) -> None:
        other = {"subtract": "intersect", "intersect": "subtract"}[op]
        shape = RadialGradient(x=0.5, y=0.5, radius_x=0.2, radius_y=0.2)
        first = gradient().parts[0]
        written, read = (
            LocalAdjustment(name="m", parts=(first, MaskPart(shape=shape, **join)), controls={"exposure": 1})
            for join in ({"op": op, "invert": True}, {"op": other})
        )
        assert from_xmp(to_xmp(Recipe("lightroom", locals=(written,)))).locals == (read,)
        photo = NoisePhoto(0).load()
        assert np.allclose(mask_of(read, photo), mask_of(written, photo))

    @pytest.mark.parametrize(("op", "invert", "inverted"), [("subtract", False, True), ("intersect", True, True)])
    def test_a_mask_that_begins_with_the_whole_photo_reads_as_added(
        self, op: str, invert: bool, inverted: bool
    ) -> None:
        shape = LinearGradient(x0=0, y0=0, x1=0, y1=1)
        written = LocalAdjustment(name="m", parts=(MaskPart(shape=shape, op=op, invert=invert),), controls={"tint": 5})
        read = from_xmp(to_xmp(Recipe("lightroom", locals=(written,)))).locals[0]
        assert read.parts == (MaskPart(shape=shape, invert=inverted),)
        photo = NoisePhoto(0).load()
        assert np.allclose(mask_of(read, photo), mask_of(written, photo))

    def test_numbers_are_rounded_as_lightroom_rounds(self) -> None:
        recipe = Recipe("lightroom", {"exposure": 0.123456, "contrast": 12.4, "sharpening_radius": 1.26, "tint": -0.2})
        rounded = Recipe("lightroom", {"exposure": 0.12, "contrast": 12, "sharpening_radius": 1.3})
        assert from_xmp(to_xmp(recipe)) == rounded

    @settings(max_examples=60, deadline=None)
    @given(st.integers(-1800, 1800), st.tuples(st.integers(500, 8000), st.integers(500, 8000)), SHARE, SHARE)
    def test_a_turned_ellipse_comes_back(self, tenths: int, size: tuple[int, int], across: float, down: float) -> None:
        radii = {"radius_x": 0.05 + across, "radius_y": 0.05 + down}
        shape = RadialGradient(x=0.4, y=0.7, angle=tenths / 10, **radii)
        local = LocalAdjustment(name="m", parts=(MaskPart(shape=shape),), controls={"exposure": 1})
        back = from_xmp(to_xmp(Recipe("lightroom", locals=(local,)), size=size)).locals[0].parts[0].shape
        spread = max(size) / min(size)
        assert back.model_dump(exclude={"kind"}) == pytest.approx(shape.model_dump(exclude={"kind"}), abs=2e-6 * spread)

    def test_an_ellipse_is_the_one_that_lightroom_draws(self) -> None:
        """Of a photo of 9504 × 6336: Lightroom's corners, and the half axes in pixels that it rendered, as measured."""
        width, height = 9504, 6336
        corners = 'crs:Top="-0.045582" crs:Left="-0.056408" crs:Bottom="0.9708" crs:Right="1.062771"'
        mask = f'<rdf:li crs:What="Mask/CircularGradient" {corners} crs:Angle="24.348422" crs:MaskValue="1"/>'
        drawn = LocalAdjustment(
            name="m",
            parts=(MaskPart(shape=RadialGradient(x=0.5, y=0.5, radius_x=1, radius_y=1)),),
            controls={"tint": 1},
        )
        text = to_xmp(Recipe("lightroom", locals=(drawn,)))
        text = re.sub(r"<rdf:li\s+crs:What=\"Mask.*?/>", mask, text, flags=re.DOTALL)
        shape = from_xmp(text, size=(width, height)).locals[0].parts[0].shape
        assert isinstance(shape, RadialGradient)
        assert (shape.radius_x * width, shape.radius_y * height) == pytest.approx((6172.8, 740.8), abs=0.5)
        assert shape.angle == pytest.approx(24.348422)


class TestWhatIsWritten:
    def test_names_and_spelling_are_lightrooms(self) -> None:
        text = to_xmp(Recipe("lightroom", {"exposure": 0.5, "highlights": -60, "grading_shadows_hue": 210}))
        written = dict(re.findall(r'crs:(\w+)="([^"]*)"', text))
        assert written["Exposure2012"] == "+0.50"
        assert written["Highlights2012"] == "-60"
        assert written["SplitToningShadowHue"] == "210"
        assert written["Contrast2012"] == "0"
        assert written["Sharpness"] == "0"
        assert written["ColorNoiseReduction"] == "0"
        assert written["ConvertToGrayscale"] == "False"
        assert written["ProcessVersion"] == "11.0"
        assert written["HasSettings"] == "True"
        assert "PresetType" not in written

    def test_it_is_xml_in_the_form_that_lightroom_reads(self) -> None:
        root = ElementTree.fromstring(to_xmp(Recipe("lightroom", locals=(gradient(exposure=-2, clarity=30),))))
        correction = root.find(f".//{CRS}MaskGroupBasedCorrections/{RDF}Seq/{RDF}li/{RDF}Description")
        assert correction is not None
        # A local exposure is told in shares of four stops, any other slider in shares of a hundred.
        assert correction.attrib[f"{CRS}LocalExposure2012"] == "-0.5"
        assert correction.attrib[f"{CRS}LocalClarity2012"] == "0.3"
        mask = correction.find(f"{CRS}CorrectionMasks/{RDF}Seq/{RDF}li")
        assert mask is not None
        assert (mask.attrib[f"{CRS}FullY"], mask.attrib[f"{CRS}ZeroY"]) == ("0", "1")

    def test_a_preset_has_a_name_and_an_id_of_its_content(self) -> None:
        one, two = (Recipe("lightroom", {"exposure": value}) for value in (1, 2))
        ids = [re.search(r'crs:UUID="(\w{32})"', to_xmp(recipe, preset="x")) for recipe in (one, one, two)]
        assert all(ids)
        found = [match.group(1) for match in ids if match]
        assert found[0] == found[1] != found[2]

    @pytest.mark.parametrize(
        ("recipe", "message"),
        [
            (Recipe("lightroom", {"grain_amount": 20}, seed=5), "seed = 5"),
            (Recipe("lightroom", crop=Crop(left=0.1, angle=3)), "needs the photo's width and height"),
            (Recipe("lightroom", locals=(gradient(vibrance=20),)), "local:sky: vibrance = 20"),
            (Recipe("lightroom", locals=(gradient(sharpening_amount=120),)), "beyond ±100"),
            (Recipe("lightroom", locals=(_ := gradient(exposure=1), gradient("b", noise_color=1))), "local:b"),
        ],
    )
    def test_what_has_no_place_is_refused_by_name_and_left_out_on_request(self, recipe: Recipe, message: str) -> None:
        with pytest.raises(RecipeError, match=re.escape(message)):
            to_xmp(recipe)
        assert message in "; ".join(export_xmp(recipe).left_out)
        from_xmp(to_xmp(recipe, partial=True))

    @pytest.mark.parametrize(
        "part",
        [
            MaskPart(shape=LuminanceRange(low=0.5)),
            MaskPart(shape=Brush(points=((0.5, 0.5),), radius=0.1)),
            MaskPart(shape=RadialGradient(x=0.5, y=0.5, radius_x=0.1, radius_y=0.2, angle=30)),
        ],
    )
    def test_masks_without_a_place_take_their_adjustment_with_them(self, part: MaskPart) -> None:
        local = LocalAdjustment(name="odd", parts=(part,), controls={"exposure": 1})
        exported = export_xmp(Recipe("lightroom", {"contrast": 5}, locals=(local,)))
        assert len(exported.left_out) == 1
        assert exported.left_out[0].startswith("local:odd: a ")
        assert from_xmp(exported.text) == Recipe("lightroom", {"contrast": 5})

    @pytest.mark.parametrize(
        ("recipe", "message"),
        [
            (Recipe("iea", {"exposure": 20}), "Only recipes of the toolset 'lightroom'"),
            (Recipe("lightroom", {"exposure": 7}), "exposure = 7 is outside -5..5"),
            (Recipe("lightroom", {"sparkle": 7}), "Unknown control 'sparkle'"),
            (Recipe("lightroom", curves={"curve_cyan": ((0, 0), (1, 0.5))}), "Unknown curve 'curve_cyan'"),
            (Recipe("lightroom", locals=(gradient(exposure=4.5),)), "exposure = 4.5 is outside -4..4"),
            (Recipe("lightroom", curves={"curve": ((0.5, 0), (0.5001, 1))}), "less than a level apart"),
        ],
    )
    def test_what_is_no_recipe_of_lightroom_is_refused(self, recipe: Recipe, message: str) -> None:
        with pytest.raises(RecipeError, match=re.escape(message)):
            export_xmp(recipe)
