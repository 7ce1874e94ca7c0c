"""The command line, run as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import typer

from retouch_gym import Recipe
from retouch_gym.adjustments import Crop
from retouch_gym.cli import load_plugin, main, plugin_entries
from retouch_gym.envs.registration import ENV_IDS
from retouch_gym.errors import ConfigurationError
from retouch_gym.export import cube_error, read_cube, to_xmp
from retouch_gym.images import load_image, read_photo, save_image
from retouch_gym.renderers.native import NativeRenderer
from retouch_gym.testing import NoisePhoto, TinyRenderer

TINY = "retouch_gym.testing.doubles:TinyRenderer"
RECIPE = Recipe("iea", {"exposure": 20, "temperature": -10})


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    save_image(NoisePhoto(0).load(), tmp_path / "in.png")
    return tmp_path / "in.png"


def greet(name: str, loud: bool = False) -> None:
    """A command of another package."""
    typer.echo(f"HELLO {name}" if loud else f"hello {name}")


@pytest.mark.parametrize("from_file", [True, False])
def test_render_writes_what_the_renderer_renders(tmp_path: Path, photo: Path, from_file: bool) -> None:
    recipe = RECIPE.to_json()
    if from_file:
        (tmp_path / "edit.json").write_text(recipe)
        recipe = str(tmp_path / "edit.json")
    out = tmp_path / "out.png"
    assert run("render", str(photo), recipe, "-o", str(out), "--renderer", TINY) == 0
    assert np.array_equal(load_image(out), TinyRenderer().render([load_image(photo)], [RECIPE])[0])


@pytest.mark.parametrize(
    ("photo_name", "recipe", "message"),
    [
        ("none.png", RECIPE.to_json(), "No photo at"),
        ("in.png", "missing.json", "Cannot read the recipe 'missing.json'"),
        ("in.png", "{exposure: 4}", "Not JSON"),
        ("in.png", json.dumps({"version": 1, "toolset": "eia", "controls": {}}), "Did you mean 'iea'"),
        ("in.png", Recipe("iea", {"exposure": 400}).to_json(), "exposure = 400 is outside"),
    ],
)
def test_an_error_is_one_line_and_exit_code_two(
    tmp_path: Path, photo: Path, photo_name: str, recipe: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.png"
    assert run("render", str(photo.parent / photo_name), recipe, "-o", str(out), "--renderer", TINY) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("retouch-gym: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not out.exists()


def test_a_recipe_of_another_program_renders_too(
    tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lightroom = Recipe("lightroom", {"exposure": 1})
    (tmp_path / "edit.xmp").write_text(to_xmp(lightroom), encoding="utf-8")
    out = tmp_path / "out.png"
    assert run("render", str(photo), str(tmp_path / "edit.xmp"), "-o", str(out), "--renderer", TINY) == 2
    assert "cannot render toolset 'lightroom'" in capsys.readouterr().err
    assert run("render", str(photo), str(tmp_path / "edit.xmp"), "-o", str(out)) == 0
    assert np.array_equal(load_image(out), NativeRenderer().render([load_image(photo)], [lightroom])[0])


def test_sixteen_bits_go_through(tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, out, deep = Recipe("lightroom", {"exposure": 0.5}), tmp_path / "out.tif", tmp_path / "deep.png"
    ramp = np.linspace(20_000, 30_000, 300).astype(np.uint16)
    save_image(np.ascontiguousarray(np.stack([np.tile(ramp, (4, 1))] * 3, axis=-1)), deep)
    assert run("render", str(deep), recipe.to_json(), "-o", str(out), "--bits", "16") == 0
    image = read_photo(out).pixels
    assert image.dtype == np.uint16
    assert len(np.unique(image)) == 300
    assert run("render", str(photo), Recipe("lightroom").to_json(), "-o", str(out), "--bits", "16") == 0
    assert np.array_equal(read_photo(out).pixels, load_image(photo).astype(np.uint16) * 257)
    for arguments, message in (
        (("--bits", "12"), "--bits 12"),
        (("--bits", "16", "--renderer", TINY), "'tiny' renders 8 bits only"),
        (("--bits", "16", "-o", str(tmp_path / "a.jpg")), "holds no 16 bits"),
    ):
        assert run("render", str(photo), recipe.to_json(), "-o", str(out), *arguments) == 2
        assert message in capsys.readouterr().err
    assert run("render", str(photo), RECIPE.to_json(), "-o", str(out), "--bits", "16") == 2
    assert "recipes of toolset 'iea' are of 8 bits" in capsys.readouterr().err


class TestExport:
    def test_a_recipe_goes_to_lightroom_and_back(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        recipe = Recipe("lightroom", {"exposure": 0.35, "hsl_blue_hue": -12}, curves={"curve": ((0, 0.2), (1, 1))})
        source, sidecar, back = (str(tmp_path / name) for name in ("a.json", "a.xmp", "b.json"))
        assert run("export", recipe.to_json(), "-o", source) == 0
        assert run("export", source, "-o", sidecar) == 0
        assert run("import", sidecar, "-o", back) == 0
        assert Recipe.from_json(Path(back).read_text()) == recipe
        assert Path(back).read_text() == Path(source).read_text()
        assert "exposure" in capsys.readouterr().out
        assert run("export", source, "-o", sidecar, "--preset", "Evening") == 0
        assert "Evening" in Path(sidecar).read_text(encoding="utf-8")

    def test_a_recipe_goes_to_rawtherapee_and_back(self, tmp_path: Path) -> None:
        recipe = Recipe("lightroom", {"exposure": 0.5})
        profile, back = str(tmp_path / "a.pp3"), str(tmp_path / "b.json")
        assert run("export", recipe.to_json(), "-o", profile) == 0
        assert run("import", profile, "-o", back) == 0
        assert Recipe.from_json(Path(back).read_text()) == recipe

    def test_what_has_no_place_is_refused_or_told(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "a.cube"
        arguments = ("export", Recipe("iea", {"exposure": 5, "grain": 9}).to_json(), "-o", str(out), "--lattice", "5")
        assert run(*arguments) == 2
        refused = capsys.readouterr().err
        assert refused.count("\n") == 1
        assert "a.cube cannot hold: grain = 9. Pass --partial" in refused
        assert not out.exists()
        assert run(*arguments, "--partial") == 0
        assert capsys.readouterr().err == "left out: grain = 9\n"
        assert read_cube(out.read_text()).size == 5

    def test_the_error_of_a_lut_is_told(self, tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = str(tmp_path / "a.cube")
        assert run("export", RECIPE.to_json(), "-o", out, "--photo", str(photo), "--lattice", "17") == 0
        error = cube_error(RECIPE, load_image(photo), 17)
        assert f"{error.mean:.2f} levels of 255 off in the mean, {error.maximum} at most" in capsys.readouterr().out

    def test_a_straightened_crop_needs_the_photo(
        self, tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        crop = Crop(left=0.3, right=0.7, top=0.3, bottom=0.7, angle=5)
        recipe = Recipe("lightroom", crop=crop).to_json()
        out, back = str(tmp_path / "a.xmp"), str(tmp_path / "b.json")
        assert run("export", recipe, "-o", out) == 2
        assert "needs the photo's width and height" in capsys.readouterr().err
        assert run("export", recipe, "-o", out, "--photo", str(photo)) == 0
        assert run("import", out, "-o", back) == 0
        kept = Recipe.from_json(Path(back).read_text()).crop
        assert kept is not None
        assert kept.model_dump() == pytest.approx(crop.model_dump(), abs=1e-5)

    def test_a_foreign_setting_is_refused_or_told(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        sidecar, out = tmp_path / "a.xmp", tmp_path / "a.json"
        text = to_xmp(Recipe("lightroom", {"exposure": 1}))
        sidecar.write_text(text.replace("crs:HasSettings", 'crs:PerspectiveVertical="12"\n crs:HasSettings'))
        assert run("import", str(sidecar), "-o", str(out)) == 2
        assert "PerspectiveVertical = 12" in capsys.readouterr().err
        assert not out.exists()
        assert run("import", str(sidecar), "-o", str(out), "--partial") == 0
        assert Recipe.from_json(out.read_text()) == Recipe("lightroom", {"exposure": 1})

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("export", RECIPE.to_json(), "-o", "a.xmp"), "Only recipes of the toolset 'lightroom'"),
            (("export", RECIPE.to_json(), "-o", "a.docx"), "'a.docx': recipes are written as .json, .xmp, .pp3, .cube"),
            (("export", RECIPE.to_json(), "-o", "a.cube", "--lattice", "1"), "size = 1 is outside 2..65"),
            (("export", RECIPE.to_json(), "-o", "none/a.json"), "Cannot write 'none/a.json'"),
            (("export", "none.xmp", "-o", "a.json"), "Cannot read the recipe 'none.xmp'"),
            (("import", "none.xmp", "-o", "a.xmp"), "a recipe is imported as .json"),
            (("import", "a.cube", "-o", "a.json"), "'a.cube' is a LUT"),
        ],
    )
    def test_an_error_is_one_line(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        arguments: tuple[str, ...],
        message: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert run(*arguments) == 2
        captured = capsys.readouterr().err
        assert captured.startswith("retouch-gym: ")
        assert captured.count("\n") == 1
        assert message in captured
        assert list(tmp_path.iterdir()) == []


def test_envs_and_info_list_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("envs") == 0
    assert capsys.readouterr().out.split() == list(ENV_IDS)
    assert run("info") == 0
    listed = capsys.readouterr().out
    assert all(word in listed for word in ("iea", "samples", "likeness", "native", "0.1.0"))


def test_help_names_every_command_and_imports_no_plugin() -> None:
    code = (
        "import sys\nfrom retouch_gym.cli import main\n"
        "try:\n    main(['--help'])\nfinally:\n"
        "    print('loaded:', *[name for name in ('torch', 'transformers', 'retouch_agents') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0
    assert done.stdout.rstrip().endswith("loaded:")
    assert all(name in done.stdout for name in ("render", "export", "import", "envs", "info", *plugin_entries()))


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("rendr") == 2
    assert "rendr" in capsys.readouterr().err


class TestPlugins:
    def test_a_plugin_is_called_with_its_own_arguments(self, capsys: pytest.CaptureFixture[str]) -> None:
        entry = EntryPoint("greet", f"{__name__}:greet", "retouch_gym.commands")
        with pytest.raises(SystemExit) as ended:
            load_plugin(entry)(["you", "--loud"])
        assert not ended.value.code
        assert capsys.readouterr().out == "HELLO you\n"

    @pytest.mark.parametrize(
        ("value", "cure"),
        [
            ("retouch_agents.no_such_module:x", r"pip install 'retouch-gym\[agents\]'"),
            ("retouch_reward_models.no_such_module:x", r"pip install 'retouch-gym\[reward-models\]'"),
            ("somebody_elses.module:x", "install what 'somebody_elses.module' needs"),
        ],
    )
    def test_a_missing_package_is_told_with_its_cure(self, value: str, cure: str) -> None:
        with pytest.raises(ConfigurationError, match=cure):
            load_plugin(EntryPoint("demo", value, "retouch_gym.commands"))
