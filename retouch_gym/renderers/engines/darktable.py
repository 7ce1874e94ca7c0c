"""Rendering by darktable."""

from __future__ import annotations

from pathlib import Path

from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.engines.darktable_xmp import DARKTABLE, modules_of, write_darktable_xmp
from retouch_gym.renderers.engines.engine import EngineRenderer
from retouch_gym.renderers.engines.process import Programs
from retouch_gym.renderers.lightroom.geometry import crop_and_straighten
from retouch_gym.types import Image

SUPPORT = DARKTABLE
"""How each part of a recipe is rendered."""


class DarktableRenderer(EngineRenderer):
    """Renders the toolset ``lightroom`` by ``darktable-cli`` (4.2 or newer), through an ``.xmp`` file.

    See `EngineRenderer` for the arguments and `SUPPORT` for what it can do. A run takes about a second whatever the
    size of the photo, most of it to start the program.
    """

    name = "darktable"
    command = "darktable-cli"
    install = "sudo apt-get install darktable"
    support = SUPPORT

    def _develop(self, job: tuple[Image, Recipe], folder: Path, program: str, programs: Programs) -> Image:
        image, recipe = job
        modules = modules_of(recipe)
        if modules:
            (folder / "edit.xmp").write_text(write_darktable_xmp(modules))
            core = ["--configdir", "config", "--cachedir", "cache", "--library", ":memory:", "--disable-opencl"]
            arguments = ["in.png", "edit.xmp", "out.png", "--apply-custom-presets", "false", "--core", *core]
            environment = {"HOME": str(folder), "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
            programs.run([program, *arguments], folder, environment)
            image = self.read(folder / "out.png")
        # The program's own crop loses pixels at the far edges. All it does here looks at single pixels, so that
        # a crop may as well come last.
        return crop_and_straighten(image, recipe.crop) if recipe.crop else image
