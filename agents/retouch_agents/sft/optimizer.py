"""AdamW in full precision, whatever the precision of the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter


class FullPrecisionAdamW:
    """AdamW that keeps float32 copies of the weights of lower precision.

    A step of learning rate 1e-5 is below what bfloat16 resolves (8 bits), so weights that are updated in it stand
    still. Here gradients are added up, clipped and applied in float32, and the model gets the rounded result.
    float32 weights are updated in place, without a copy.

    Args:
        parameters: What is trained; those that need no gradient are passed over.
        lr: Learning rate.
        weight_decay: Decoupled weight decay.
    """

    def __init__(self, parameters: Iterable[Parameter], lr: float, weight_decay: float) -> None:
        self.weights = [weight for weight in parameters if weight.requires_grad]
        self.masters = [
            weight if weight.dtype == torch.float32 else Parameter(weight.detach().float()) for weight in self.weights
        ]
        self.adamw = torch.optim.AdamW(self.masters, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.98))

    @property
    def copies(self) -> list[Tensor]:
        """The float32 copies, for a checkpoint; empty where the model is float32."""
        return [master.detach() for master, _ in self._copied()]

    def load_copies(self, copies: Sequence[Tensor]) -> None:
        """Put `copies` of a checkpoint in place, and their rounded values into the model."""
        with torch.no_grad():
            for (master, weight), copy in zip(self._copied(), copies, strict=True):
                master.copy_(copy)
                weight.copy_(master)

    def collect(self) -> None:
        """Add the gradient of the backward pass that just ended to the float32 sum."""
        for master, weight in self._copied():
            if weight.grad is None:
                continue
            if master.grad is None:
                master.grad = weight.grad.float()
            else:
                master.grad.add_(weight.grad)
            weight.grad = None

    def step(self, lr: float, max_grad_norm: float) -> float:
        """Clip the collected gradient, apply it and forget it; returns its norm before clipping."""
        for group in self.adamw.param_groups:
            group["lr"] = lr
        norm = torch.nn.utils.clip_grad_norm_(self.masters, max_grad_norm)
        self.adamw.step()
        self.adamw.zero_grad()
        with torch.no_grad():
            for master, weight in self._copied():
                weight.copy_(master)
        return float(norm)

    def _copied(self) -> list[tuple[Parameter, Parameter]]:
        pairs = zip(self.masters, self.weights, strict=True)
        return [(master, weight) for master, weight in pairs if master is not weight]
