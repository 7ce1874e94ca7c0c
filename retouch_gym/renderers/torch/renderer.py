"""The renderer of name ``torch``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from retouch_gym.adjustments.curves import IDENTITY
from retouch_gym.adjustments.local import LocalAdjustment
from retouch_gym.errors import RendererError
from retouch_gym.images import check_image
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import Renderer
from retouch_gym.renderers.lightroom.masks import mask_of
from retouch_gym.renderers.lightroom.settings import DEFAULTS, TOOLSET, settings_of
from retouch_gym.renderers.torch.pipeline import Local, render_tensor
from retouch_gym.types import Image


class TorchRenderer(Renderer):
    """Renders the toolset ``lightroom`` on batched tensors, within one level of the specification.

    Photos of one size and crop are stacked, whatever their recipes. On a CPU they are not by default: it would gain
    nothing there (photos of 64 × 64 took 1.5 ms each, stacked or not), and PyTorch computes the last values of a
    tensor by other instructions, so that a photo could differ by a level from itself in another stack.

    Args:
        device: Where PyTorch computes, for instance ``"cpu"`` or ``"cuda"``.
        dtype: `torch.float32`, or `torch.float64`, which is slower and as exact as the specification.
        stack_bytes: Stack up to as many bytes of photos; 0 renders one at a time, None is 0 on a CPU and 64 MiB
            elsewhere, for which a recipe of every stage needs some 4 GiB (14 times the photos as float32).

    Raises:
        RendererError: If the device is not there, or the dtype is another one.
    """

    name = "torch"
    toolsets = frozenset({TOOLSET})

    def __init__(
        self,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        stack_bytes: int | None = None,
    ) -> None:
        if dtype not in (torch.float32, torch.float64):
            raise RendererError(f"dtype {dtype} is too coarse for 8 bits; use torch.float32 or torch.float64.")
        self.dtype = dtype
        try:
            self.device = torch.device(device)
            # Some numbers are found in float64, which not every device has.
            torch.empty(0, device=self.device, dtype=torch.float64)
        except (RuntimeError, AssertionError, TypeError) as error:
            raise RendererError(f"Device {str(device)!r} cannot be used: {error}. Try 'cpu'.") from error
        self.stack_bytes = (0 if self.device.type == "cpu" else 1 << 26) if stack_bytes is None else stack_bytes

    def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        """Render each photo with its recipe. See `Renderer.render`."""
        if len(photos) != len(recipes):
            raise RendererError(f"Got {len(photos)} photos and {len(recipes)} recipes; pass one recipe per photo.")
        for recipe in recipes:
            settings_of(recipe)
        sources = [check_image(photo, f"photos[{index}]") for index, photo in enumerate(photos)]
        done: dict[int, Image] = {}
        for indices in self._batches(sources, recipes):
            batch = self._render([sources[i] for i in indices], [recipes[i] for i in indices])
            done.update(zip(indices, batch, strict=True))
        return [done[index] for index in range(len(photos))]

    def _batches(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> Iterator[list[int]]:
        """Indices of photos that are rendered together."""
        alike: dict[object, list[int]] = {}
        for index, (photo, recipe) in enumerate(zip(photos, recipes, strict=True)):
            crop = tuple(recipe.crop.model_dump().values()) if recipe.crop else None
            alike.setdefault((photo.shape, crop), []).append(index)
        for indices in alike.values():
            size = max(1, self.stack_bytes // photos[indices[0]].size)
            yield from (indices[start : start + size] for start in range(0, len(indices), size))

    def _render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        stack = np.stack(photos)
        try:
            with torch.inference_mode():
                levels = torch.from_numpy(stack).to(self.device).permute(0, 3, 1, 2).contiguous()
                encoded = render_tensor(
                    levels.to(self.dtype) / 255,
                    self._controls([recipe.controls for recipe in recipes]),
                    curves=self._curves(recipes),
                    locals_=self._locals(photos, recipes),
                    crop=recipes[0].crop,
                    seeds=[recipe.seed for recipe in recipes],
                )
                rounded = torch.round(255 * encoded).to(torch.uint8).permute(0, 2, 3, 1)
                images = rounded.contiguous().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise RendererError(f"{stack.shape} photos do not fit on {self.device}: {error}. Use 'cpu'.") from error
        return [np.array(image) for image in images]

    def _controls(self, controls: Sequence[Mapping[str, float]]) -> dict[str, Tensor]:
        """The controls that any photo changes: (B,) each."""
        names = {name for values in controls for name, value in values.items() if value != DEFAULTS[name]}
        # In float64: some steps of the specification are found from the exact value.
        return {
            name: torch.tensor(
                [values.get(name, DEFAULTS[name]) for values in controls], dtype=torch.float64, device=self.device
            )
            for name in sorted(names)
        }

    def _curves(self, recipes: Sequence[Recipe]) -> dict[str, list[Tensor]]:
        """The curves that any photo has, straight for the others."""
        names = sorted({name for recipe in recipes for name in recipe.curves})
        return {
            name: [torch.tensor(recipe.curves.get(name, IDENTITY), dtype=torch.float64) for recipe in recipes]
            for name in names
        }

    def _locals(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Local]:
        """The first local adjustment of every photo, the second, and so on; an empty mask where there is none."""
        rounds = max(len(recipe.locals) for recipe in recipes)
        result = []
        for index in range(rounds):
            turn = [recipe.locals[index] if index < len(recipe.locals) else None for recipe in recipes]
            masks = np.stack([_mask(adjustment, photo) for adjustment, photo in zip(turn, photos, strict=True)])
            controls = self._controls([adjustment.controls if adjustment else {} for adjustment in turn])
            result.append(Local(torch.from_numpy(masks[:, None]).to(self.device), controls))
        return result


def _mask(adjustment: LocalAdjustment | None, photo: Image) -> np.ndarray:
    return np.zeros(photo.shape[:2], np.float32) if adjustment is None else mask_of(adjustment, photo)
