"""What renderers that run a program have in common."""

from __future__ import annotations

import os
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

import cv2
import numpy as np

from retouch_gym.errors import RendererError
from retouch_gym.images import check_image, is_image
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import Renderer
from retouch_gym.renderers.engines.process import Programs, find_program, tail
from retouch_gym.renderers.engines.support import (
    SupportTable,
    leave_out,
    refused,
    without_idle,
)
from retouch_gym.renderers.lightroom.settings import settings_of
from retouch_gym.types import Image

OnUnsupported: TypeAlias = Literal["raise", "warn"]
"""What to do with parts of a recipe that the program does not have: refuse, or warn and leave them out."""

LONGEST = 86400.0
"""Longest time limit, in seconds."""

_Job: TypeAlias = tuple[Image, Recipe]


class EngineRenderer(Renderer):
    """Renders the toolset ``lightroom`` by a program that is installed on this machine.

    Every photo is a run of the program in a temporary folder of its own, with its settings there too, so that
    neither the user's configuration nor another run has a say; a batch is a pool of such runs. A recipe that asks
    for nothing gives the source back without a run.

    Args:
        workers: Programs at a time; None takes one per core. Each uses one thread.
        timeout: Seconds for one photo.
        program: Name or path of the program; None takes `command`.
        on_unsupported: ``"raise"`` refuses a recipe that asks for what the program does not have, ``"warn"``
            leaves these parts out with a warning that names them.

    Raises:
        RendererError: If an argument is out of range.
    """

    toolsets = frozenset({"lightroom"})
    command: ClassVar[str]
    install: ClassVar[str]
    support: ClassVar[SupportTable]

    def __init__(
        self,
        workers: int | None = None,
        timeout: float = 120.0,
        program: str | None = None,
        on_unsupported: OnUnsupported = "raise",
    ) -> None:
        if workers is not None and workers < 1:
            raise RendererError(f"workers = {workers}; expected at least 1, or None for one per core.")
        if not 0 < timeout <= LONGEST:
            raise RendererError(f"timeout = {timeout}; expected seconds above 0, at most {LONGEST:g}.")
        if on_unsupported not in ("raise", "warn"):
            raise RendererError(f"on_unsupported = {on_unsupported!r}; expected 'raise' or 'warn'.")
        self.workers = workers or os.cpu_count() or 1
        self.timeout = timeout
        self.program = program or self.command
        self.on_unsupported: OnUnsupported = on_unsupported

    def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        """Render each photo with its recipe. See `Renderer.render`.

        Returns:
            New arrays; of the photo's shape, or of the crop's where a recipe crops.

        Raises:
            RendererError: If the lengths differ, a toolset, control or value is unknown or not supported, the
                program is missing (with the line that installs it), fails (with the end of its log), or takes longer
                than `timeout`.
            ImageError: If a photo is not a uint8 (H, W, 3) array.
        """
        if len(photos) != len(recipes):
            raise RendererError(f"Got {len(photos)} photos and {len(recipes)} recipes; pass one recipe per photo.")
        sources = [check_image(photo, f"photos[{index}]") for index, photo in enumerate(photos)]
        wanted: list[Recipe] = []
        warned: set[str] = set()
        for recipe, source in zip(recipes, sources, strict=True):
            supported, left_out = self._supported(recipe, source)
            wanted.append(supported)
            if left_out and left_out not in warned:
                warned.add(left_out)
                warnings.warn(f"{left_out} Rendered without.", UserWarning, stacklevel=2)
        jobs = [(source, recipe) for source, recipe in zip(sources, wanted, strict=True) if not recipe.is_empty]
        rendered = iter(self._run(jobs))
        return [
            source.copy() if recipe.is_empty else next(rendered) for source, recipe in zip(sources, wanted, strict=True)
        ]

    @abstractmethod
    def _develop(self, job: _Job, folder: Path, program: str, programs: Programs) -> Image:
        """Write the edit file beside ``in.png`` in the folder, run the program, and `read` its result."""

    def _refused(self, recipe: Recipe, photo: Image) -> dict[str, str]:
        """Parts of the recipe that the program cannot render on this photo, each with the reason."""
        return refused(recipe, self.support)

    def _supported(self, recipe: Recipe, photo: Image) -> tuple[Recipe, str]:
        """What of the recipe is rendered, and what to warn of."""
        if recipe.toolset not in self.toolsets:
            raise RendererError(
                f"The {self.name} renderer cannot render toolset {recipe.toolset!r}; "
                f"it renders {', '.join(self.toolsets)}."
            )
        settings_of(recipe)
        recipe = without_idle(recipe)
        reasons = self._refused(recipe, photo)
        if not reasons:
            return recipe, ""
        message = f"{self.name} cannot render {'; '.join(reasons.values())}."
        if self.on_unsupported == "raise":
            raise RendererError(f"{message} Leave them out of the recipe, or pass on_unsupported='warn'.")
        return without_idle(leave_out(recipe, reasons)), message

    def _run(self, jobs: Sequence[_Job]) -> list[Image]:
        if not jobs:
            return []
        program = find_program(self.program, self.install)
        programs = Programs(self.workers, self.timeout)

        def render_one(job: _Job, folder: Path) -> Image:
            _write(job[0], folder / "in.png")
            return self._develop(job, folder, program, programs)

        return programs.map(render_one, jobs)

    def read(self, path: Path) -> Image:
        """The photo that the program wrote.

        Raises:
            RendererError: If there is none, with the end of its log.
        """
        decoded = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.exists() else None
        if not is_image(decoded):
            raise RendererError(
                f"{self.program} reported success but wrote no photo. Its last words: {tail(path.parent)}"
            )
        return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _write(photo: Image, path: Path) -> None:
    # The file lives for a moment on the same disk: speed before size.
    if not cv2.imwrite(str(path), cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1]):
        raise RendererError(f"Cannot write {path.name!r} into {str(path.parent)!r}; is the disk full?")
