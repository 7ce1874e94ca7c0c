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
from retouch_gym.cli import load_plugin, main, plugin_entries
from retouch_gym.envs.registration import ENV_IDS
from retouch_gym.errors import ConfigurationError
from retouch_gym.images import load_image, save_image
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
    assert all(name in done.stdout for name in ("render", "envs", "info", *plugin_entries()))


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
