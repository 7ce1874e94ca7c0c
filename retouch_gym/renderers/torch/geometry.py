"""Crop and straighten on tensors: see `retouch_gym.renderers.lightroom.geometry`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from retouch_gym.adjustments.local import Crop
from retouch_gym.renderers.lightroom.geometry import crop_box


def crop_and_straighten(photos: Tensor, crop: Crop) -> Tensor:
    """Turn photos about their centre and cut the same rectangle out of each; differentiable in the photos.

    Args:
        photos: (B, C, H, W).
        crop: What is kept.

    Returns:
        (B, C, h, w): a slice of the photos if there is no angle, otherwise samples of the Catmull–Rom cubic, kept
        within the darkest and brightest value of each photo.
    """
    height, width = photos.shape[2:]
    left, top, kept_width, kept_height = crop_box(crop, width, height)
    if crop.angle == 0:
        return photos[:, :, top : top + kept_height, left : left + kept_width]
    turn = math.radians(crop.angle)
    cos, sin = math.cos(turn), math.sin(turn)
    # Places need float64: in a large photo a float32 leaves a share of a pixel few digits.
    x = torch.arange(kept_width, dtype=torch.float64, device=photos.device) + (left + 0.5 - width / 2)
    y = torch.arange(kept_height, dtype=torch.float64, device=photos.device)[:, None] + (top + 0.5 - height / 2)
    columns, across = _taps(cos * x + sin * y + width / 2 - 0.5, width)
    rows, down = _taps(cos * y - sin * x + height / 2 - 0.5, height)
    flat = photos.flatten(2)
    turned = torch.zeros((*photos.shape[:2], kept_height, kept_width), dtype=photos.dtype, device=photos.device)
    for row, vertical in zip(rows, down, strict=True):
        for column, horizontal in zip(columns, across, strict=True):
            turned = turned + (vertical * horizontal).to(photos.dtype) * flat[:, :, row * width + column]
    low, high = photos.amin(dim=(1, 2, 3), keepdim=True), photos.amax(dim=(1, 2, 3), keepdim=True)
    return torch.minimum(torch.maximum(turned, low), high)


def _taps(at: Tensor, n: int) -> tuple[list[Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Indices of the four samples about each place on a line of n samples that is mirrored at its ends; weights."""
    floor = at.floor()
    t = at - floor
    u = 1 - t
    first, last = -0.5 * t * u * u, -0.5 * u * t * t
    before = 1 + t * t * (1.5 * t - 2.5)
    return [_mirror(floor.long() + i, n) for i in (-1, 0, 1, 2)], (first, before, 1 - first - before - last, last)


def _mirror(i: Tensor, n: int) -> Tensor:
    if n == 1:
        return torch.zeros_like(i)
    period = 2 * (n - 1)
    i = i.abs() % period
    return torch.where(i < n, i, period - i)
