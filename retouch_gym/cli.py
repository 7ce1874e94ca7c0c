"""The command line: ``retouch-gym``.

Other packages add commands through the entry point group ``retouch_gym.commands``; they are imported
only when they are called, so that ``--help`` loads no framework.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from retouch_gym.chat.formats import ANSWER_FORMATS
from retouch_gym.datasets.base import DATASETS
from retouch_gym.envs.registration import ENV_IDS
from retouch_gym.errors import ConfigurationError, RecipeError, RetouchError
from retouch_gym.export.cube import FloatRenderer, cube_error
from retouch_gym.export.files import Options, encode_recipe, load_recipe, write_text
from retouch_gym.images import DeepImage, load_image, read_photo, save_image, to_8_bits
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import RENDERERS, Renderer, get_renderer
from retouch_gym.rewards.base import REWARDS
from retouch_gym.tools.toolset import TOOLSETS, get_toolset
from retouch_gym.types import Image
from retouch_gym.users.base import USERS

COMMAND_GROUP = "retouch_gym.commands"
"""Entry point group of commands that other packages add: plain functions that typer can take."""

EXTRAS = {"retouch_agents": "agents", "retouch_reward_models": "reward-models"}
"""Which extra of retouch-gym brings what a package needs."""


app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Retouch photos by instruction: render, export and import recipes, list what there is, run agents.",
)


def plugin_entries() -> dict[str, EntryPoint]:
    """The commands that installed packages offer, by name. Nothing is imported."""
    return {entry.name: entry for entry in entry_points(group=COMMAND_GROUP)}


def load_plugin(entry: EntryPoint) -> typer.Typer:
    """Import the command behind an entry point.

    Raises:
        ConfigurationError: If something that it needs is not installed.
    """
    try:
        function = entry.load()
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(entry.module.partition(".")[0])
        cure = f"pip install 'retouch-gym[{extra}]'" if extra else f"install what {entry.module!r} needs"
        raise ConfigurationError(f"The command {entry.name!r} needs {error.name!r}: {cure}.") from error
    single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    single.command(entry.name)(function)
    return single


def _add_plugin(entry: EntryPoint) -> None:
    def run(context: typer.Context) -> None:
        load_plugin(entry)(context.args, prog_name=f"{context.command_path}")

    # Everything after the name, --help too, belongs to the plug-in, which is not imported before it is called.
    passed_on = {"allow_extra_args": True, "ignore_unknown_options": True}
    described = app.command(entry.name, help=_summary(entry), add_help_option=False, context_settings=passed_on)
    described(run)


def _summary(entry: EntryPoint) -> str:
    """First line of the function's docstring, read from its source so that nothing heavy is imported."""
    package, *inside = entry.module.split(".")
    try:
        # Only the top-level package is looked up: finding a submodule would import its parents.
        spec = importlib.util.find_spec(package)
        folder = next(iter(spec.submodule_search_locations or ())) if spec else ""
        source = Path(folder, *inside).with_suffix(".py").read_text(encoding="utf-8")
        functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    except (ImportError, OSError, StopIteration, SyntaxError, ValueError):
        functions = []
    texts = [ast.get_docstring(function) or "" for function in functions if function.name == entry.attr]
    return next((text.splitlines()[0] for text in texts if text), f"Provided by {entry.module}.")


_RecipeArgument = Annotated[str, typer.Argument(help="File with the recipe (.json, .xmp, .pp3), or its JSON itself.")]
_PhotoOption = Annotated[
    Path | None, typer.Option(help="The photo that the recipe is for: what is turned or cropped needs its size.")
]
_PartialOption = Annotated[bool, typer.Option("--partial", help="Go on without what has no place; it is listed.")]
_RendererOption = Annotated[str, typer.Option(help="Name or module:attribute of the renderer.")]


@app.command()
def render(
    photo: Annotated[Path, typer.Argument(help="The photo to edit.")],
    recipe: _RecipeArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write; .png keeps every pixel.")],
    renderer: _RendererOption = "native",
    bits: Annotated[int, typer.Option(help="Bits per channel: 8, or 16 in a .png or .tif.")] = 8,
    partial: _PartialOption = False,
) -> None:
    """Apply a recipe to a photo."""
    if bits not in (8, 16):
        raise ConfigurationError(f"--bits {bits}: photos have 8 or 16 bits per channel.")
    source = read_photo(photo).pixels
    edit = _read_recipe(recipe, (source.shape[1], source.shape[0]), partial)
    engine = get_renderer(renderer)
    image = engine.render([to_8_bits(source)], [edit])[0] if bits == 8 else _render_deep(source, edit, engine)
    save_image(image, out)
    typer.echo(f"{out}: {image.shape[1]}×{image.shape[0]}")


@app.command("export")
def export_recipe(
    recipe: _RecipeArgument,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Where to write. .xmp is Lightroom's, .pp3 RawTherapee's, .cube a LUT, or .json."
        ),
    ],
    preset: Annotated[
        str | None, typer.Option(help=".xmp: write a preset of this name; without it, a sidecar for a raw file.")
    ] = None,
    lattice: Annotated[int, typer.Option(help=".cube: lattice points along an edge, 2..65.")] = 33,
    renderer: _RendererOption = "native",
    photo: _PhotoOption = None,
    partial: _PartialOption = False,
) -> None:
    """Write a recipe for other software: Lightroom, RawTherapee, a 3-D LUT.

    What the format cannot hold is refused by name, or left out with --partial.

    With --photo, a LUT's error on that photo is told.
    """
    source = load_image(photo) if photo else None
    size = None if source is None else (source.shape[1], source.shape[0])
    edit = _read_recipe(recipe, size, partial)
    exported = encode_recipe(edit, out, Options(size, preset, lattice, renderer))
    _tell(exported.left_out, f"{out.name} cannot hold", partial)
    write_text(exported.text, out)
    typer.echo(f"{out}: {len(exported.text)} characters")
    if source is not None and out.suffix.lower() == ".cube":
        error = cube_error(edit, source, lattice, renderer)
        typer.echo(f"on {photo}: {error.mean:.2f} levels of 255 off in the mean, {error.maximum} at most")


@app.command("import")
def import_recipe(
    file: Annotated[
        Path, typer.Argument(help="The file to read: .xmp, .pp3, .json, or a .dng or .jpg with its settings.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the recipe, as .json.")],
    photo: _PhotoOption = None,
    partial: _PartialOption = False,
) -> None:
    """Read what other software wrote, as a recipe.

    What a recipe cannot hold is refused by name, or left out with --partial.
    """
    if out.suffix.lower() != ".json":
        raise RecipeError(f"{out.name!r}: a recipe is imported as .json; use 'export' for other formats.")
    source = load_image(photo) if photo else None
    size = None if source is None else (source.shape[1], source.shape[0])
    recipe = _read_recipe(str(file), size, partial)
    write_text(recipe.to_json() + "\n", out)
    typer.echo(f"{out}: {', '.join(recipe.parts) or 'nothing asked for'}")


@app.command()
def envs() -> None:
    """List the environment ids that gymnasium.make() knows once retouch_gym is imported."""
    for env_id in ENV_IDS:
        typer.echo(env_id)


@app.command()
def info() -> None:
    """Show versions, and everything with a short name that comes with the package."""
    console = Console()
    console.print(f"retouch-gym {version('retouch-gym')}, gymnasium {gymnasium.__version__}")
    table = Table("kind", "name", "where")
    known = {
        "toolset": TOOLSETS,
        "dataset": DATASETS,
        "reward": REWARDS,
        "renderer": RENDERERS,
        "user": USERS,
        "answer format": ANSWER_FORMATS,
    }
    for kind, names in known.items():
        for name, path in names.items():
            table.add_row(kind, name, path)
    console.print(table)


def _render_deep(source: Image | DeepImage, recipe: Recipe, engine: Renderer) -> DeepImage:
    """The photo rendered with 16 bits."""
    if not isinstance(engine, FloatRenderer):
        raise ConfigurationError(f"--bits 16: the renderer {engine.name!r} renders 8 bits only; use --renderer native.")
    if recipe.toolset != "lightroom":
        raise ConfigurationError(f"--bits 16: recipes of toolset {recipe.toolset!r} are of 8 bits; leave it out.")
    pixels = source if source.dtype == np.uint16 else source.astype(np.uint16) * np.uint16(257)
    return np.asarray(engine.render_float([pixels], [recipe])[0], dtype=np.uint16)


def _read_recipe(text: str, size: tuple[int, int] | None, partial: bool) -> Recipe:
    """The recipe of a file, or of JSON itself, checked against its toolset."""
    if text.lstrip().startswith("{"):
        recipe = Recipe.from_json(text)
    else:
        imported = load_recipe(text, size)
        _tell(imported.left_out, f"A recipe cannot hold of {text!r}", partial)
        recipe = imported.recipe
    return recipe.check(get_toolset(recipe.toolset))


def _tell(left_out: Sequence[str], what: str, partial: bool) -> None:
    """List what was left out, or refuse it."""
    if left_out and not partial:
        raise RecipeError(f"{what}: {'; '.join(left_out)}. Pass --partial to go on without.")
    for part in left_out:
        typer.echo(f"left out: {part}", err=True)


for _entry in plugin_entries().values():
    _add_plugin(_entry)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; an error of retouch-gym becomes one line on stderr and exit code 2.

    Args:
        arguments: What follows the program's name; None takes it from `sys.argv`.
    """
    try:
        return app(arguments, prog_name="retouch-gym")
    except RetouchError as error:
        message = " ".join(str(error).split())
        typer.echo(f"retouch-gym: {message}", err=True)
        sys.exit(2)
