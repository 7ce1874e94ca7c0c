"""Recipes in files, and the page that tells what each format holds."""

from __future__ import annotations

import re
from pathlib import Path

import PIL.Image
import pytest

from retouch_gym import Recipe
from retouch_gym.errors import RecipeError
from retouch_gym.export import export_cube, export_xmp, to_xmp
from retouch_gym.export.files import MAX_BYTES, WRITERS, Options, encode_recipe, load_recipe, write_text
from retouch_gym.testing import NoisePhoto, TinyRenderer
from retouch_gym.tools.lightroom_controls import CONTROLS, LOCAL

PAGE = Path(__file__).parents[2] / "docs" / "export.md"


class Copying(TinyRenderer):
    """Renders nothing, of the toolset lightroom."""

    toolsets = frozenset({"lightroom"})


def _differing(text: str, neutral: str) -> str:
    """The name of the one setting in which an XMP differs from that of an empty recipe."""
    changed = set(re.findall(r'crs:(\w+)="[^"]*"', "\n".join(set(text.splitlines()) - set(neutral.splitlines()))))
    return f"`{(changed - {'WhiteBalance'}).pop()}`"


def _rows() -> list[str]:
    """The table of the page, from what the writers do."""
    neutral, local = export_xmp(Recipe("lightroom")).text, {control.name for control in LOCAL}
    everything = Recipe("lightroom", {control.name: control.high for control in CONTROLS})
    left_out = {part.partition(" ")[0] for part in export_cube(everything, 2, Copying()).left_out}
    rows = []
    for control in CONTROLS:
        name = _differing(export_xmp(Recipe("lightroom", {control.name: control.high})).text, neutral)
        in_mask = _local_name(control.name) if control.name in local else "—"
        rows.append(f"| `{control.name}` | {name} | {in_mask} | {'—' if control.name in left_out else 'yes'} |")
    return rows


def _local_name(name: str) -> str:
    data = {
        "name": "m",
        "parts": [{"shape": {"kind": "linear", "x0": 0, "y0": 0, "x1": 1, "y1": 1}}],
        "controls": {name: 4 if name == "exposure" else 50},
    }
    text = export_xmp(Recipe.from_dict({"version": 2, "toolset": "lightroom", "locals": [data]})).text
    found = re.search(r"crs:(Local\w+)=", text)
    return f"`{found.group(1)}`" if found else "left out"


def test_the_page_tells_what_each_format_holds() -> None:
    page = PAGE.read_text(encoding="utf-8")
    listed = [line for line in page.splitlines() if re.match(r"\| `\w+` \|", line)]
    assert listed == _rows()
    assert all(f"`{ending}`" in page for ending in WRITERS)


@pytest.mark.parametrize("ending", [".json", ".JSON", ".xmp", ".Xmp", ".pp3"])
def test_a_recipe_is_what_its_file_says(tmp_path: Path, ending: str) -> None:
    recipe, path = Recipe("lightroom", {"exposure": 0.5, "tint": -3}), tmp_path / f"edit{ending}"
    exported = encode_recipe(recipe, path)
    assert exported.left_out == ()
    write_text(exported.text, path)
    imported = load_recipe(path)
    assert (imported.recipe, imported.left_out) == (recipe, ())
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_options_reach_their_formats() -> None:
    recipe = Recipe("iea", {"exposure": 50})
    small = encode_recipe(recipe, "a.cube", Options(lattice=3, renderer=TinyRenderer())).text
    assert "LUT_3D_SIZE 3" in small
    assert 'Name="' not in encode_recipe(Recipe("lightroom"), "a.xmp").text
    assert ">Mine<" in encode_recipe(Recipe("lightroom"), "a.xmp", Options(preset="Mine")).text


def test_settings_are_found_inside_of_a_photo(tmp_path: Path) -> None:
    recipe, photo = Recipe("lightroom", {"exposure": 0.5}), tmp_path / "photo.JPG"
    picture = PIL.Image.fromarray(NoisePhoto(0).load())
    picture.save(photo, "JPEG", xmp=to_xmp(recipe).encode())
    assert load_recipe(photo).recipe == recipe
    picture.save(photo, "JPEG")
    with pytest.raises(RecipeError, match="holds no XMP"):
        load_recipe(photo)
    photo.write_bytes(b"")
    with pytest.raises(RecipeError, match="is empty"):
        load_recipe(photo)


def test_a_file_that_cannot_be_a_recipe_is_refused(tmp_path: Path) -> None:
    binary, large = tmp_path / "photo.xmp", tmp_path / "large.json"
    binary.write_bytes(b"\x89PNG\xff\xfe")
    with large.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for path, message in (
        (binary, "Cannot read the recipe"),
        (large, "larger than"),
        (tmp_path / "none.xmp", "Cannot read"),
        (tmp_path, "Cannot read"),
    ):
        with pytest.raises(RecipeError, match=message):
            load_recipe(path)


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "taken.json"
    folder.mkdir()
    with pytest.raises(RecipeError, match="Cannot write"):
        write_text("{}", folder)
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken.json"]
