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

SPACIOUS = ("highlights", "shadows", "clarity", "noise_luminance", "noise_color")
"""Controls whose tools crash, now and then, on photos below 32 pixels a side."""

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

    def _refused(self, recipe: Recipe, photo: Image) -> dict[str, str]:
        reasons = super()._refused(recipe, photo)
        height, width = photo.shape[:2]
        if min(height, width) < SMALLEST:
            for name in SPACIOUS:
                if recipe[name]:
                    reason = f"{name} (needs {SMALLEST} × {SMALLEST} pixels, the photo has {width} × {height})"
                    reasons.setdefault(name, reason)
        return reasons

    def _develop(self, job: tuple[Image, Recipe], folder: Path, program: str, programs: Programs) -> Image:
        photo, recipe = job
        text, _ = write_pp3(recipe, (photo.shape[1], photo.shape[0]))
        (folder / "edit.pp3").write_text(text)
        # -q: no cached files; -a: PNG too; -p: the edit over a neutral one; -n -b8: 8-bit PNG; -Y: overwrite.
        arguments = ["-q", "-a", "-o", "out.png", "-p", "edit.pp3", "-n", "-b8", "-Y", "-c", "in.png"]
        environment = {
            "HOME": str(folder),
            "RT_SETTINGS": str(folder / "settings"),
            "RT_CACHE": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
            "LC_ALL": "C.UTF-8",
        }
        programs.run([program, *arguments], folder, environment)
        return self.read(folder / "out.png")
