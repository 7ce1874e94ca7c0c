"""Vignette and grain on tensors: see `retouch_gym.renderers.lightroom.effects`.

Colours are (B, 3, H, W), controls (B, 1, 1, 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from retouch_gym.renderers.lightroom.effects import GRAIN_STRENGTH, white_noise
from retouch_gym.renderers.torch.controls import Controls
from retouch_gym.renderers.torch.detail import convolve, gaussian_weights
from retouch_gym.renderers.torch.tone import luma


def apply_vignette(rgb: Tensor, controls: Controls) -> Tensor:
    """Darker or brighter corners."""
    amount = controls["vignette_amount"] / 100
    change = amount * vignette_falloff(rgb, controls)
    return rgb + change * torch.where(amount < 0, rgb, 1 - rgb)


def vignette_falloff(rgb: Tensor, controls: Controls) -> Tensor:
    """How much of the vignette there is at each pixel: 0..1, (B, 1, H, W)."""
    height, width = rgb.shape[2:]
    roundness = controls["vignette_roundness"] / 100
    p = 2 - 6 * roundness.clamp(max=0)
    longest = max(height, width) / 2

    def axis(n: int) -> Tensor:
        half = n / 2 + roundness.clamp(min=0) * (longest - n / 2)
        at = torch.arange(n, dtype=rgb.dtype, device=rgb.device) + 0.5 - n / 2
        return (at.abs() / half) ** p

    # The root has no slope at 0, the middle of a photo with odd sides.
    q = (axis(height).transpose(2, 3) + axis(width)).clamp(min=torch.finfo(rgb.dtype).tiny)
    center = 0.5 + 0.9 / 100 * controls["vignette_midpoint"]
    half = 0.02 + 0.9 / 100 * controls["vignette_feather"]
    t = ((q ** (1 / p) - center + half) / (2 * half)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def apply_grain(rgb: Tensor, controls: Controls, seeds: Sequence[int]) -> Tensor:
    """Grain on R, G and B alike; black and white stay clean. Noise is a constant that each photo's seed gives."""
    height, width = rgb.shape[2:]
    noise = torch.from_numpy(np.stack([white_noise(height, width, seed) for seed in seeds])[:, None])
    noise = noise.to(device=rgb.device, dtype=rgb.dtype)
    weights, smooth, rough = grain_mix(controls, rgb.dtype)
    grain = smooth * convolve(noise, weights) + rough * noise
    y = luma(rgb)
    return rgb + GRAIN_STRENGTH / 100 * controls["grain_amount"] * 4 * y * (1 - y) * grain


def grain_mix(controls: Controls, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (B, K) of the Gaussian that makes clumps, and factors (B, 1, 1, 1) of clumps and of white noise."""
    weights = gaussian_weights(0.2 + 0.018 * controls.exact("grain_size"))
    rough = controls.exact("grain_roughness").flatten(1) / 200
    deviation = (weights**2).sum(dim=1, keepdim=True)
    smooth = (1 - rough) / deviation
    overlap = weights.amax(dim=1, keepdim=True) ** 2
    total = torch.sqrt((1 - rough) ** 2 + rough**2 + 2 * smooth * rough * overlap)
    smooth, rough = ((factor / total).to(dtype).view(-1, 1, 1, 1) for factor in (smooth, rough))
    return weights.to(dtype), smooth, rough
