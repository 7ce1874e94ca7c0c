"""The renderer protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retouch_gym.recipes.recipe import Recipe
from retouch_gym.resolve import resolve
from retouch_gym.types import Image, Photo


class Renderer(ABC):
    """Turns photos into edited photos, always from the source, a batch at a time.

    Implementations are deterministic (same photo, recipe and seed: same bytes), stateless to their
    users, picklable, and never write into their input. An empty recipe gives the source back exactly,
    unless the toolset is a compatible mode that says otherwise. Check one with
    `retouch_gym.testing.check_renderer`.

    Attributes:
        name: Short name.
        toolsets: Names of the toolsets whose recipes it can render.
        batch_bytes: How many bytes of photos it renders best at once, where many renders are wanted and each is
            looked at and thrown away.
    """

    name: str
    toolsets: frozenset[str]
    batch_bytes: int = 1 << 28

    @abstractmethod
    def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        """Render each photo with its recipe.

        Args:
            photos: uint8 (H, W, 3) sRGB arrays, sizes may differ.
            recipes: As many recipes, in the same order.

        Returns:
            New arrays, one per photo, of the photo's shape unless the recipe crops.

        Raises:
            RendererError: If a recipe's toolset is not supported, the lengths differ, or the engine fails.
            ImageError: If a photo is not a uint8 (H, W, 3) array.
        """


RENDERERS: Mapping[str, str] = {
    "native": "retouch_gym.renderers.native:NativeRenderer",
    "torch": "retouch_gym.renderers.torch:TorchRenderer",
    "rawtherapee": "retouch_gym.renderers.engines.rawtherapee:RawTherapeeRenderer",
    "darktable": "retouch_gym.renderers.engines.darktable:DarktableRenderer",
}
"""Short names of the renderers that come with the package."""


def get_renderer(renderer: str | Renderer) -> Renderer:
    """The renderer of a short name, a ``"module:attribute"`` string, or itself.

    Raises:
        ConfigurationError: If the name is not known.
    """
    found: Renderer = renderer if isinstance(renderer, Renderer) else resolve(renderer, RENDERERS, "renderer", Renderer)
    return found


@dataclass(frozen=True, eq=False)
class Rendered:
    """A photo that is another photo with a recipe applied, rendered when needed. Implements `Photo`."""

    photo: Photo
    recipe: Recipe
    renderer: str = "native"

    def load(self) -> Image:
        """Load the underlying photo and render it."""
        return get_renderer(self.renderer).render([self.photo.load()], [self.recipe])[0]
