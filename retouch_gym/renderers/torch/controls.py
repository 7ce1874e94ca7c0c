"""The controls of a batch as tensors, with the defaults of those that are not given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from retouch_gym.errors import RendererError
from retouch_gym.renderers.lightroom.settings import DEFAULTS


class Controls:
    """Values of the controls of B photos, each of shape (B, 1, 1, 1) to go with photos (B, 3, H, W).

    Args:
        given: Control name to values, shape (B,) or (), in the control's own unit.
        photos: The photos, of whose dtype and device the values become.

    Raises:
        RendererError: If a control is unknown or a shape does not fit.
    """

    def __init__(self, given: Mapping[str, Tensor], photos: Tensor) -> None:
        self._count = photos.shape[0]
        self._like = photos
        self._given: dict[str, Tensor] = {}
        for name, value in given.items():
            if name not in DEFAULTS:
                raise RendererError(f"Unknown control {name!r}; toolset 'lightroom' has {', '.join(DEFAULTS)}.")
            if value.shape not in ((), (self._count,)):
                raise RendererError(
                    f"{name} has shape {tuple(value.shape)}; expected one value, or {self._count}, one per photo."
                )
            self._given[name] = value.to(photos.device).expand(self._count).view(-1, 1, 1, 1)

    def __getitem__(self, name: str) -> Tensor:
        """The values of a control: (B, 1, 1, 1), of the photos' dtype."""
        return self.exact(name).to(self._like.dtype)

    def exact(self, name: str) -> Tensor:
        """The same in float64, as precise as they were given."""
        if name in self._given:
            return self._given[name].double()
        shape = (self._count, 1, 1, 1)
        return torch.full(shape, DEFAULTS[name], dtype=torch.float64, device=self._like.device)

    def has(self, *names: str) -> bool:
        """Whether any of the controls was given. What was not given is neutral, and its stage is left out."""
        return any(name in self._given for name in names)

    def changes(self, names: Iterable[str]) -> Tensor:
        """Which photos any of the controls changes: bool (B, 1, 1, 1).

        Rounding of a stage that a photo's neighbours in the batch need shall not touch the photo. Where gradients
        are asked for, every photo goes through: a control at its default has a gradient, too.
        """
        changed = torch.zeros((self._count, 1, 1, 1), dtype=torch.bool, device=self._like.device)
        for name in names:
            if name in self._given:
                value = self._given[name]
                changed = changed | (torch.ones_like(changed) if value.requires_grad else value != DEFAULTS[name])
        return changed
