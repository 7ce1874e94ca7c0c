from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retouch_gym.adjustments import Crop, LinearGradient, LocalAdjustment, MaskPart
from retouch_gym.errors import RecipeError
from retouch_gym.export.pp3 import export_pp3, from_pp3, import_pp3, to_pp3
from retouch_gym.images import load_image, save_image
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.engines.rawtherapee import SUPPORT
from retouch_gym.testing import NoisePhoto
from retouch_gym.tools.base import Control
from retouch_gym.tools.lightroom_controls import CONTROLS
from retouch_gym.types import Image

needs_rawtherapee = pytest.mark.skipif(shutil.which("rawtherapee-cli") is None, reason="rawtherapee is not installed")

SIZE = (640, 480)
# What the program keeps in whole numbers that are coarser than the slider's.
STEPS = {"contrast": 5, "vibrance": 2, "dehaze": 2, "vignette_roundness": 2}
# Controls without which others of their group change nothing.
OWNERS = {
    "sharpening": {"sharpening_amount": 40},
    "vignette": {"vignette_amount": -30},
    "grain": {"grain_amount": 10},
    "bw": {"black_and_white": 1},
    "grading": {f"grading_{zone}_saturation": 20 for zone in ("shadows", "midtones", "highlights", "global")},
}


def recipe_with(name: str, value: float) -> Recipe:
    """A recipe in which the control does something."""
    return Recipe("lightroom", {**OWNERS.get(name.split("_")[0], {}), name: value})


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_a_control_comes_back_from_the_file_or_is_refused(control: Control) -> None:
    step = STEPS.get(control.name, 1 if control.integer else 0.25)
    values = np.arange(control.low, control.high + step / 2, step)
    for value in (*values[:: max(1, len(values) // 12)].tolist(), control.high):
        recipe = recipe_with(control.name, value)
        exported = export_pp3(recipe)
        if value != control.default and not SUPPORT[control.name].takes(value):
            assert any(reason.startswith(f"{control.name} = {value:g}") for reason in exported.left_out)
            with pytest.raises(RecipeError, match=control.name):
                to_pp3(recipe)
            continue
        # Owners may be refused; a control at its default is not stored.
        back = from_pp3(exported.text)
        assert back.controls.get(control.name, control.default) == value


def test_curves_and_crops_come_back() -> None:
    recipe = Recipe(
        "lightroom",
        {"exposure": 0.35, "curve_lights": 20, "curve_shadows": -7, "hsl_aqua_hue": 12, "hsl_red_luminance": -33},
        curves={"curve": ((0, 0.02), (0.3, 0.25), (1, 1)), "curve_blue": ((0, 0), (0.5, 0.625), (1, 0.9))},
        crop=Crop(left=0.125, top=0.25, right=0.75, bottom=0.875, angle=-3.5),
    )
    assert from_pp3(to_pp3(recipe, size=SIZE), size=SIZE) == recipe


def test_a_crop_needs_the_size_of_the_photo() -> None:
    recipe = Recipe("lightroom", {"exposure": 1}, crop=Crop(left=0.5))
    with pytest.raises(RecipeError, match="size of the photo"):
        to_pp3(recipe)
    assert from_pp3(to_pp3(recipe, partial=True)) == Recipe("lightroom", {"exposure": 1})
    with pytest.raises(RecipeError, match="size of the photo"):
        from_pp3(to_pp3(recipe, size=SIZE))


def test_what_cannot_be_held_is_named() -> None:
    mask = MaskPart(shape=LinearGradient(x0=0, y0=0, x1=1, y1=1))
    sky = LocalAdjustment(name="sky", parts=(mask,), controls={"exposure": -1})
    exported = export_pp3(Recipe("lightroom", {"whites": 10, "shadows": -5, "contrast": 20}, locals=(sky,)))
    shadows, whites, local = exported.left_out
    assert "shadows = -5" in shadows
    assert "whites = 10" in whites
    assert "'sky'" in local
    assert from_pp3(exported.text) == Recipe("lightroom", {"contrast": 20})


def test_recipes_that_are_none_of_ours_are_refused() -> None:
    with pytest.raises(RecipeError, match="iea"):
        to_pp3(Recipe("iea", {"exposure": 1}))
    with pytest.raises(RecipeError, match="exposure = 9"):
        to_pp3(Recipe("lightroom", {"exposure": 9}))


def test_settings_without_a_counterpart_are_reported() -> None:
    text = "[Exposure]\nCompensation=0.5\nBrightness=12\nHLThing=0\n\n[EPD]\nEnabled=true\n\n[Retinex]\nEnabled=false\n"
    imported = import_pp3(text)
    assert imported.recipe == Recipe("lightroom", {"exposure": 0.5})
    assert imported.left_out == ("[Exposure] Brightness = 12", "[EPD] (no counterpart)")
    with pytest.raises(RecipeError, match="Brightness"):
        from_pp3(text)


def test_values_beyond_a_range_are_read_as_its_end_and_reported() -> None:
    imported = import_pp3("[Exposure]\nCompensation=11\n")
    assert imported.recipe["exposure"] == 5
    assert "exposure 11 is beyond -5..5" in imported.left_out[0]


def test_a_switched_off_section_says_nothing() -> None:
    assert from_pp3("[Vibrance]\nEnabled=false\nPastels=40\nSaturated=40\n").is_empty


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Compensation=1",
        "[Exposure\n",
        "[Exposure]\nCompensation=much\n",
        "[Exposure]\nCompensation=nan\n",
        "[Exposure]\nCurve=1;0;x;1;1;\n",
        "[Exposure]\nCurve=1;0;1e99;\n",
        "[Rotation]\nDegree=inf\n",
        "[White Balance]\nEnabled=true\nSetting=Custom\nTemperature=5000\nGreen=-1\n",
        "[Crop]\nEnabled=true\nX=nan\nY=0\nW=1\nH=1\n",
        "a\n" * 600_000,
    ],
)
def test_files_that_are_broken_are_refused(text: str) -> None:
    with pytest.raises(RecipeError):
        import_pp3(text, size=SIZE)


SECTIONS = (
    "Exposure",
    "White Balance",
    "Crop",
    "Rotation",
    "HSV Equalizer",
    "Vibrance",
    "Black & White",
    "DEFAULT",
    "x",
)
KEYS = ("Enabled", "Compensation", "Curve", "Temperature", "Green", "X", "W", "Degree", "HCurve", "Pastels", "Setting")
VALUES = st.one_of(
    st.sampled_from(["true", "Custom", "2;0.25;0.5;0.75;1;2;3;4;", "4;0;0;1;1;", "-1", "1e300", "nan", ""]), st.text()
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(SECTIONS), st.dictionaries(st.sampled_from(KEYS), VALUES)), max_size=5))
def test_any_text_is_read_or_refused(blocks: list[tuple[str, dict[str, str]]]) -> None:
    text = "".join(f"[{name}]\n" + "".join(f"{k}={v}\n" for k, v in keys.items()) for name, keys in blocks)
    try:
        imported = import_pp3(text, size=SIZE)
    except RecipeError:
        return
    assert to_pp3(imported.recipe, size=SIZE, partial=True)


def saved_by_the_program(folder: Path, photo: Image, edit: str) -> tuple[Image, str]:
    """What RawTherapee makes of a photo and an edit file, and the edit file that it writes beside."""
    save_image(photo, folder / "in.png")
    (folder / "edit.pp3").write_text(edit)
    command = "rawtherapee-cli -q -a -O out.png -p edit.pp3 -n -b8 -Y -c in.png"
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"]}
    subprocess.run(command.split(), cwd=folder, check=True, timeout=100, env=environment, stdout=subprocess.DEVNULL)
    return load_image(folder / "out.png"), (folder / "out.png.pp3").read_text()


@needs_rawtherapee
def test_the_neutral_file_of_the_program_is_the_empty_recipe(tmp_path: Path) -> None:
    photo = NoisePhoto(1, 30, 40).load()
    image, written = saved_by_the_program(tmp_path, photo, to_pp3(Recipe("lightroom")))
    np.testing.assert_array_equal(image, photo)
    assert len(written) > 10_000
    assert from_pp3(written).is_empty


@needs_rawtherapee
def test_a_file_that_the_program_wrote_is_read(tmp_path: Path) -> None:
    recipe = Recipe(
        "lightroom",
        {"exposure": 0.7, "saturation": 20, "temperature": 30, "tint": -12, "vignette_amount": -40, "bw_red": 10}
        | {"hsl_blue_saturation": -25, "curve_darks": 15, "shadows": 30, "black_and_white": 1, "texture": 20},
        curves={"curve": ((0, 0), (0.25, 0.2), (1, 1))},
        crop=Crop(left=0.25, right=0.75),
    )
    photo = np.full((40, 64, 3), 120, np.uint8)
    image, written = saved_by_the_program(tmp_path, photo, to_pp3(recipe, size=(64, 40)))
    assert image.shape == (40, 32, 3)
    assert from_pp3(written, size=(64, 40)) == recipe
