from __future__ import annotations

import os
import pickle
import shutil
import stat
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from retouch_gym import datasets
from retouch_gym.adjustments import Crop, LinearGradient, LocalAdjustment, MaskPart
from retouch_gym.errors import ImageError, RendererError
from retouch_gym.images import fit, load_image
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import get_renderer
from retouch_gym.renderers.engines import darktable, rawtherapee
from retouch_gym.renderers.engines.darktable import DarktableRenderer
from retouch_gym.renderers.engines.engine import EngineRenderer
from retouch_gym.renderers.engines.rawtherapee import RawTherapeeRenderer
from retouch_gym.renderers.engines.support import PARTS, support_rows
from retouch_gym.renderers.lightroom.reference import render_reference
from retouch_gym.testing import NoisePhoto
from retouch_gym.testing.renderers import mean_delta_e
from retouch_gym.tools.lightroom_controls import CONTROLS
from retouch_gym.types import Image

DOCS = Path(__file__).parents[2] / "docs" / "engines.md"
ENGINES = (RawTherapeeRenderer, DarktableRenderer)
BRIGHTER = Recipe("lightroom", {"exposure": 1})

needs_rawtherapee = pytest.mark.skipif(shutil.which("rawtherapee-cli") is None, reason="rawtherapee is not installed")
needs_darktable = pytest.mark.skipif(shutil.which("darktable-cli") is None, reason="darktable is not installed")


@pytest.fixture
def photo() -> Image:
    return NoisePhoto(3, 24, 18).load()


def program(folder: Path, script: str) -> str:
    """A program that does what the script says."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made, to see what is left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize("engine", ENGINES)
def test_a_missing_program_is_named_with_the_line_that_installs_it(engine: type[EngineRenderer], photo: Image) -> None:
    with pytest.raises(RendererError, match=r"'no-such-program' is not installed.*sudo apt-get install"):
        engine(program="no-such-program").render([photo], [BRIGHTER])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_recipe_that_asks_for_nothing_gives_a_copy_without_a_run(engine: type[EngineRenderer], photo: Image) -> None:
    idle = Recipe(
        "lightroom", {"sharpening_radius": 2, "grain_size": 90, "grading_shadows_hue": 120, "bw_red": 9, "contrast": 0}
    )
    for image in engine(program="no-such-program").render([photo, photo], [Recipe("lightroom"), idle]):
        np.testing.assert_array_equal(image, photo)
        assert not np.shares_memory(image, photo)


def test_a_failing_program_is_quoted_and_leaves_nothing(photo: Image, tmp_path: Path, temporary: Path) -> None:
    broken = program(tmp_path, "echo reading; echo 'no such profile' >&2; exit 3")
    with pytest.raises(RendererError, match=r"failed with status 3.*reading \| no such profile"):
        RawTherapeeRenderer(program=broken).render([photo], [BRIGHTER])
    assert list(temporary.iterdir()) == []


def test_a_program_that_writes_nothing_is_a_failure(photo: Image, tmp_path: Path) -> None:
    with pytest.raises(RendererError, match=r"wrote no photo.*all fine"):
        RawTherapeeRenderer(program=program(tmp_path, "echo all fine")).render([photo], [BRIGHTER])


def test_a_program_that_hangs_is_killed_with_its_children(photo: Image, tmp_path: Path, temporary: Path) -> None:
    child = tmp_path / "child"
    hanging = program(tmp_path, f"sleep 60 & echo $! > {child}; wait")
    start = time.monotonic()
    with pytest.raises(RendererError, match=r"longer than 0\.5 s"):
        RawTherapeeRenderer(program=hanging, timeout=0.5).render([photo], [BRIGHTER])
    assert time.monotonic() - start < 10
    assert list(temporary.iterdir()) == []
    assert is_dead(int(child.read_text()))


def test_one_failure_ends_the_rest_of_the_batch(photo: Image, tmp_path: Path, temporary: Path) -> None:
    script = program(tmp_path, "grep -q Compensation=2 edit.pp3 && { sleep 0.2; exit 1; }; sleep 60")
    recipes = [Recipe("lightroom", {"exposure": value}) for value in (1, 2, 3, 4)]
    start = time.monotonic()
    with pytest.raises(RendererError):
        RawTherapeeRenderer(program=script, workers=2).render([photo] * 4, recipes)
    assert time.monotonic() - start < 10
    assert list(temporary.iterdir()) == []


def test_photos_come_back_in_order_from_folders_of_their_own(tmp_path: Path) -> None:
    copying = program(tmp_path, "test ! -e out.png && sleep 0.0$(($$ % 10)) && cp in.png out.png")
    photos = [NoisePhoto(seed, 8, 9 + seed).load() for seed in range(8)]
    rendered = RawTherapeeRenderer(program=copying, workers=3).render(photos, [BRIGHTER] * 8)
    for image, source in zip(rendered, photos, strict=True):
        np.testing.assert_array_equal(image, source)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_program_does_not_have_is_refused_or_left_out_with_a_warning(
    engine: type[EngineRenderer], photo: Image
) -> None:
    part = MaskPart(shape=LinearGradient(x0=0, y0=0, x1=1, y1=1))
    sky = LocalAdjustment(name="sky", parts=(part,), controls={"exposure": 1})
    recipe = Recipe("lightroom", {"whites": 10, "grain_amount": 5, "grain_size": 70}, locals=(sky,))
    with pytest.raises(RendererError, match=r"grain_amount = 5 .*whites = 10.*'sky'.*on_unsupported='warn'"):
        engine(program="no-such-program").render([photo], [recipe])
    with pytest.warns(UserWarning, match=r"whites = 10.*'sky'.*Rendered without") as warned:
        images = engine(program="no-such-program", on_unsupported="warn").render([photo] * 2, [recipe] * 2)
    assert len(warned) == 1
    np.testing.assert_array_equal(images, [photo] * 2)


@pytest.mark.parametrize("engine", ENGINES)
def test_wrong_arguments_are_refused(engine: type[EngineRenderer], photo: Image) -> None:
    renderer = engine(program="no-such-program")
    with pytest.raises(RendererError, match="iea"):
        renderer.render([photo], [Recipe("iea", {"exposure": 1})])
    with pytest.raises(RendererError, match="exposure = 7"):
        renderer.render([photo], [Recipe("lightroom", {"exposure": 7})])
    with pytest.raises(RendererError, match="1 photos and 2 recipes"):
        renderer.render([photo], [BRIGHTER] * 2)
    with pytest.raises(ImageError):
        renderer.render([photo[:, :, 0]], [BRIGHTER])
    for wrong in (
        {"workers": 0},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"on_unsupported": "ignore"},
    ):
        with pytest.raises(RendererError, match=next(iter(wrong))):
            engine(**wrong)  # type: ignore[arg-type]  # the point of the test


def test_the_renderers_have_names_and_travel() -> None:
    for name in ("rawtherapee", "darktable"):
        assert get_renderer(name).name == name
        copy = pickle.loads(pickle.dumps(get_renderer(name)))
        assert copy.timeout == get_renderer(name).timeout


def test_the_tables_are_complete_and_those_of_the_docs() -> None:
    tables = {"RawTherapee": rawtherapee.SUPPORT, "darktable": darktable.SUPPORT}
    for table in tables.values():
        assert set(table) == set(PARTS)
    assert support_rows(tables) in DOCS.read_text(encoding="utf-8")


@needs_rawtherapee
def test_rawtherapee_agrees_on_exposure_white_balance_and_saturation() -> None:
    sources = photographs()
    limits = {"exposure": 0.1, "temperature": 1.2, "tint": 1.2, "saturation": 2.5}
    for name, limit in limits.items():
        recipe = Recipe("lightroom", {name: 1.5 if name == "exposure" else 40})
        errors = agreement(RawTherapeeRenderer(), sources, recipe)
        assert np.mean(errors) < limit, f"{name}: {errors}"


@needs_darktable
def test_darktable_agrees_on_exposure_and_white_balance() -> None:
    recipe = Recipe("lightroom", {"exposure": -0.8, "temperature": 45, "tint": 20})
    assert max(agreement(DarktableRenderer(), photographs()[:2], recipe)) < 0.1


@needs_rawtherapee
def test_rawtherapee_gives_the_same_bytes_again_alone_and_in_a_batch() -> None:
    photo = photographs()[0]
    controls = {"exposure": 0.4, "clarity": 30, "noise_luminance": 40, "sharpening_amount": 60, "shadows": 20}
    recipes = [Recipe("lightroom", controls), BRIGHTER]
    renderer = RawTherapeeRenderer(workers=2)
    first, second = renderer.render([photo] * 2, recipes), renderer.render([photo] * 2, recipes)
    alone = RawTherapeeRenderer(workers=1).render([np.asfortranarray(photo)], recipes[:1])
    for a, b in zip((*first, first[0]), (*second, *alone), strict=True):
        np.testing.assert_array_equal(a, b)


@needs_darktable
def test_darktable_gives_the_same_bytes_again(photo: Image) -> None:
    renderer = DarktableRenderer()
    recipe = Recipe("lightroom", {"exposure": 0.4, "saturation": 30, "vibrance": -10})
    first, second = renderer.render([photo] * 2, [recipe] * 2)
    np.testing.assert_array_equal(first, second)


@needs_rawtherapee
def test_every_supported_control_changes_a_photo_in_rawtherapee() -> None:
    source = fit(photographs()[0], 128)
    owners = {
        "sharpening": {"sharpening_amount": 60},
        "vignette": {"vignette_amount": -60},
        "bw": {"black_and_white": 1},
    }
    names, plain, changed = [], [], []
    for control in CONTROLS:
        support = rawtherapee.SUPPORT[control.name]
        if support.how == "none":
            continue
        owner = {k: v for k, v in owners.get(control.name.split("_")[0], {}).items() if k != control.name}
        value = control.high if support.takes(control.high) else control.low
        names.append(control.name)
        plain.append(Recipe("lightroom", owner))
        changed.append(Recipe("lightroom", {**owner, control.name: value}))
    rendered = RawTherapeeRenderer().render([source] * len(names), changed)
    bases = RawTherapeeRenderer().render([source] * len(names), plain)
    same = [name for name, a, b in zip(names, rendered, bases, strict=True) if np.array_equal(a, b)]
    # The photo shows no such colours.
    assert all(name.startswith(("hsl_", "bw_")) for name in same), same
    assert len(same) < len(names) / 4


@needs_rawtherapee
def test_rawtherapee_crops_exactly_and_turns_clockwise() -> None:
    source = photographs()[0]
    crop = Crop(left=0.1, top=0.2, right=0.63, bottom=0.77)
    renderer = RawTherapeeRenderer()
    expected = render_reference(source, Recipe("lightroom", crop=crop))
    np.testing.assert_array_equal(renderer.render([source], [Recipe("lightroom", crop=crop)])[0], expected)
    turned = Recipe("lightroom", crop=Crop(left=0.2, top=0.2, right=0.8, bottom=0.8, angle=7))
    other = Recipe("lightroom", crop=Crop(left=0.2, top=0.2, right=0.8, bottom=0.8, angle=-7))
    (image,) = renderer.render([source], [turned])
    assert mean_delta_e(image, render_reference(source, turned)) < 2
    assert mean_delta_e(image, render_reference(source, other)) > 5


@needs_rawtherapee
def test_rawtherapee_refuses_photos_that_are_too_small_for_its_tools(photo: Image) -> None:
    with pytest.raises(RendererError, match=r"clarity \(needs 64 × 64 pixels, the photo has 18 × 24\); noise_color"):
        RawTherapeeRenderer().render([photo], [Recipe("lightroom", {"clarity": 10, "noise_color": 5, "exposure": 1})])


@needs_darktable
def test_darktable_photos_are_cropped_and_turned_exactly() -> None:
    source = photographs()[0]
    crop = Crop(left=0.1, top=0.2, right=1, bottom=0.77)
    recipes = [Recipe("lightroom", crop=crop), Recipe("lightroom", {"exposure": 1}, crop=Crop(left=0.5, angle=12))]
    cropped, both = DarktableRenderer().render([source] * 2, recipes)
    np.testing.assert_array_equal(cropped, render_reference(source, recipes[0]))
    assert mean_delta_e(both, render_reference(source, recipes[1])) < 0.5


@needs_rawtherapee
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (17, 40)])
def test_rawtherapee_takes_photos_of_any_shape(shape: tuple[int, int]) -> None:
    source = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    (image,) = RawTherapeeRenderer().render([source], [BRIGHTER])
    expected = render_reference(source, BRIGHTER).astype(int)
    assert np.abs(image.astype(int) - expected).max() <= 1


def photographs() -> list[Image]:
    """Three of the photographs that come with the package."""
    assets = Path(datasets.__file__).parent / "assets"
    return [fit(load_image(assets / f"{name}.png"), 200) for name in ("flower", "coffee", "china")]


def agreement(renderer: EngineRenderer, sources: list[Image], recipe: Recipe) -> list[float]:
    """Mean ΔE (CIE 1976) to the specification, per photo."""
    rendered = renderer.render(sources, [recipe] * len(sources))
    return [mean_delta_e(a, render_reference(b, recipe)) for a, b in zip(rendered, sources, strict=True)]


def is_dead(pid: int) -> bool:
    """Whether a process has ended, after a moment for the system to notice."""
    for _ in range(50):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    return False
