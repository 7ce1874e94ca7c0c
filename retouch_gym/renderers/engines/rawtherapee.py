"""Rendering by RawTherapee."""

from __future__ import annotations

from pathlib import Path

from retouch_gym.errors import RendererError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.engines.engine import EngineRenderer
from retouch_gym.renderers.engines.pp3 import write_pp3
from retouch_gym.renderers.engines.pp3_keys import RAWTHERAPEE
from retouch_gym.renderers.engines.process import Programs
from retouch_gym.types import Image

SUPPORT = RAWTHERAPEE
"""How each part of a recipe is rendered."""

SPACIOUS = ("highlights", "shadows", "clarity", "noise_luminance", "noise_color")
"""Controls whose tools crashed on photos below 32 pixels a side."""

SMALLEST = 64
"""Fewest pixels of a side that these controls take."""


class RawTherapeeRenderer(EngineRenderer):
    """Renders the toolset ``lightroom`` by ``rawtherapee-cli`` (5.9 or newer), through a ``.pp3`` file.

    See `EngineRenderer` for the arguments and `SUPPORT` for what it can do.
    """

    name = "rawtherapee"
    command = "rawtherapee-cli"
    install = "sudo apt-get install rawtherapee"
    support = SUPPORT

    def _develop(self, job: tuple[Image, Recipe], folder: Path, program: str, programs: Programs) -> Image:
        photo, recipe = job
        _refuse_small(photo, recipe)
        text, _ = write_pp3(recipe, (photo.shape[1], photo.shape[0]))
        (folder / "edit.pp3").write_text(text)
        # -q: no cached files; -a: PNG too; -p: the edit over a neutral one; -n -b8: 8-bit PNG; -Y: overwrite.
        arguments = ["-q", "-a", "-o", "out.png", "-p", "edit.pp3", "-n", "-b8", "-Y", "-c", "in.png"]
        environment = {
            "HOME": str(folder),
            "RT_SETTINGS": str(folder / "settings"),
            "RT_CACHE": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
            "LC_ALL": "C",
        }
        programs.run([program, *arguments], folder, environment)
        return self.read(folder / "out.png")


def _refuse_small(photo: Image, recipe: Recipe) -> None:
    """The program crashes, now and then, where its neighbourhoods are larger than the photo.

    Raises:
        RendererError: If the photo is too small for what the recipe asks.
    """
    asked = [name for name in SPACIOUS if recipe[name]]
    if asked and min(photo.shape[:2]) < SMALLEST:
        raise RendererError(
            f"RawTherapee needs photos of at least {SMALLEST} × {SMALLEST} pixels for {', '.join(asked)}; "
            f"this one has {photo.shape[1]} × {photo.shape[0]}. Enlarge it, or leave them out."
        )
