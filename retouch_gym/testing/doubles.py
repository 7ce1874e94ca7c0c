"""Small, fast stand-ins for a dataset, a renderer and episodes, for the tests of whatever plugs in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retouch_gym.datasets.base import Dataset
from retouch_gym.errors import DatasetError, ImageError, RendererError
from retouch_gym.images import check_image
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import Rendered, Renderer
from retouch_gym.tasks import Episode, Task, Turn
from retouch_gym.types import Image


class TinyRenderer(Renderer):
    """Renders three sliders of the toolset ``"iea"`` in plain NumPy and ignores the others.

    exposure adds to all channels, temperature to red and from blue, shadows to the dark half; a value of
    100 is 64 levels. Exact and order-free, so that tests can predict pixels.
    """

    name = "tiny"
    toolsets = frozenset({"iea"})

    def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        """See `Renderer.render`."""
        if len(photos) != len(recipes):
            raise RendererError(f"{len(photos)} photos and {len(recipes)} recipes; expected as many of each.")
        return [self._render_one(check_image(photo), recipe) for photo, recipe in zip(photos, recipes, strict=True)]

    def _render_one(self, photo: Image, recipe: Recipe) -> Image:
        if recipe.toolset not in self.toolsets:
            raise RendererError(f"Renderer 'tiny' cannot render toolset {recipe.toolset!r}; it renders 'iea'.")
        shift = np.array([1, 0, -1]) * recipe["temperature"] + recipe["exposure"]
        lifted = np.where(photo < 128, recipe["shadows"], 0)
        return np.clip(np.rint(photo + (shift + lifted) * 0.64), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class NoisePhoto:
    """A photo of smooth seeded noise, computed when needed. Implements `retouch_gym.types.Photo`.

    Args:
        seed: Seed of the noise.
        height: Height in pixels.
        width: Width in pixels.
    """

    seed: int
    height: int = 24
    width: int = 32

    def load(self) -> Image:
        """Compute the pixels, all between 40 and 215 so that small edits do not clip."""
        rng = np.random.default_rng(self.seed)
        low, high = rng.integers(40, 100, 3), rng.integers(150, 200, 3)
        slope = np.linspace(0, 1, self.width)[None, :, None] * np.linspace(0.3, 1, self.height)[:, None, None]
        noise = rng.integers(0, 16, (self.height, self.width, 3))
        return (low + (high - low) * slope + noise).astype(np.uint8)


@dataclass(frozen=True)
class BrokenPhoto:
    """A photo that cannot be read. Implements `retouch_gym.types.Photo`."""

    def load(self) -> Image:
        """Fail.

        Raises:
            ImageError: Always.
        """
        raise ImageError("This photo is broken on purpose.")


class TinyDataset(Dataset):
    """A few tasks on noise photos whose sizes differ, each with a known recipe, its reference and words.

    Args:
        count: Number of tasks.
        renderer: Name of the renderer of the references.
        split: Name of the split; tasks of different splits differ.
    """

    name = "tiny"

    def __init__(
        self, count: int = 4, renderer: str = "retouch_gym.testing.doubles:TinyRenderer", split: str = "train"
    ) -> None:
        self.count = count
        self.renderer = renderer
        self.split = split

    def __len__(self) -> int:
        return self.count

    def id_of(self, index: int) -> str:
        """See `Dataset.id_of`."""
        return f"{self.name}/{self.split}/{index}"

    def index_of(self, task_id: str) -> int:
        """See `Dataset.index_of`."""
        head, _, tail = task_id.rpartition("/")
        if head != f"{self.name}/{self.split}" or not tail.isdecimal() or int(tail) >= self.count:
            last = self.id_of(self.count - 1)
            raise DatasetError(f"No task {task_id!r}; ids run from {self.id_of(0)!r} to {last!r}.")
        return int(tail)

    def __getitem__(self, index: int) -> Task:
        if not 0 <= index < self.count:
            raise IndexError(f"Task {index} of {self.count}.")
        photo = NoisePhoto(sum(self.split.encode()) * 1000 + index, 24 + index, 32 + 2 * index)
        recipe = Recipe("iea", {"exposure": 20 + 5 * index, "temperature": -30 + 4 * index})
        return Task(
            id=self.id_of(index),
            photo=photo,
            instruction="Cooler and brighter, please.",
            answer="Cooler and brighter, please.",
            reference=Rendered(photo, recipe, self.renderer),
            recipe=recipe,
        )


def make_episode(
    task: Task, recipe: Recipe, renderer: Renderer, *, turns: Sequence[Turn] = (), answer: str | None = None
) -> Episode:
    """The episode that ends with this recipe, rendered.

    Args:
        task: The task.
        recipe: The edit at the end.
        renderer: What renders it.
        turns: What the agent did.
        answer: What the agent said.

    Raises:
        RendererError: If the recipe cannot be rendered.
        ImageError: If the task's photo cannot be read.
    """
    source = task.photo.load()
    return Episode(
        task=task,
        source=source,
        image=renderer.render([source], [recipe])[0],
        recipe=recipe,
        renderer=renderer,
        turns=tuple(turns),
        finished=True,
        requests=(task.instruction,),
        answer=answer,
    )
