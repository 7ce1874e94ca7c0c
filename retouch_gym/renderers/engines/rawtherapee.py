"""Rendering by RawTherapee."""

from __future__ import annotations

from pathlib import Path

from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.engines.engine import EngineRenderer
from retouch_gym.renderers.engines.pp3 import write_pp3
from retouch_gym.renderers.engines.pp3_keys import RAWTHERAPEE
from retouch_gym.renderers.engines.process import Programs
from retouch_gym.types import Image

SUPPORT = RAWTHERAPEE
"""How each part of a recipe is rendered."""


class RawTherapeeRenderer(EngineRenderer):
    """Renders the toolset ``lightroom`` by ``rawtherapee-cli`` (5.9 or newer), through a ``.pp3`` file.

    See `EngineRenderer` for the arguments and `SUPPORT` for what it can do.
    """

    name = "rawtherapee"
    command = "rawtherapee-cli"
    install = "sudo apt-get install rawtherapee"
    support = SUPPORT

    def _develop(self, job: tuple[Image, Recipe], folder: Path, program: str, programs: Programs) -> Path:
        photo, recipe = job
        text, _ = write_pp3(recipe, (photo.shape[1], photo.shape[0]))
        (folder / "edit.pp3").write_text(text)
        out = folder / "out.png"
        # -q: no cached files; -a: PNG too; -p: the edit over a neutral one; -n -b8: 8-bit PNG; -Y: overwrite.
        arguments = ["-q", "-a", "-o", out.name, "-p", "edit.pp3", "-n", "-b8", "-Y", "-c", "in.png"]
        environment = {
            "HOME": str(folder),
            "RT_SETTINGS": str(folder / "settings"),
            "RT_CACHE": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
            "LC_ALL": "C",
        }
        programs.run([program, *arguments], folder, environment)
        return out
