"""Point curves on tensors, differentiable in their inputs and in the points: see `retouch_gym.adjustments.curves`.

The cubics are evaluated as they are, not read from a table: points may lie closer together than a table's entries.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from retouch_gym.errors import RendererError


def evaluate_curves(curves: Sequence[Tensor], x: Tensor) -> Tensor:
    """Each photo under its own curve.

    Args:
        curves: B tensors of points (input, output), each (N, 2) with N ≥ 2 of its own, inputs rising.
        x: Encoded values (B, C, H, W).

    Returns:
        Encoded values of the same shape, 0..1.

    Raises:
        RendererError: If there is not one curve per photo, or a shape is not (N, 2).
    """
    if len(curves) != len(x) or any(points.ndim != 2 or points.shape[1] != 2 or len(points) < 2 for points in curves):
        shapes = [tuple(points.shape) for points in curves]
        raise RendererError(f"Expected {len(x)} tensors of curve points (N ≥ 2, 2), one per photo, got {shapes}.")
    # In float64, because points may be close; only then as precise as the photos.
    points = [curve.to(device=x.device, dtype=torch.float64) for curve in curves]
    segments = max(len(curve) for curve in points) - 1
    starts, widths, cubics = (
        torch.stack(parts).to(x.dtype) for parts in zip(*(_cubics(p, segments) for p in points), strict=True)
    )
    low, high = (torch.stack([p[end, 0] for p in points]).to(x.dtype).view(-1, 1) for end in (0, -1))
    flat = x.flatten(1)
    at = torch.minimum(torch.maximum(flat, low), high)
    k = (torch.searchsorted(starts.detach(), at.detach(), right=True) - 1).clamp(min=0)
    t = (at - starts.gather(1, k)) / widths.gather(1, k)
    a, b, c, d = (coefficient.gather(1, k) for coefficient in cubics.unbind(1))
    return (a + t * (b + t * (c + t * d))).clamp(0, 1).view_as(x)


def _cubics(points: Tensor, segments: int) -> tuple[Tensor, Tensor, Tensor]:
    """A curve as cubics of t in 0..1, the way through each segment.

    Args:
        points: (N, 2), float64.
        segments: How many to return; those beyond N − 1 begin at infinity.

    Returns:
        Where segments begin (segments,), how wide they are (segments,), coefficients (4, segments) of 1, t, t², t³.
    """
    px, py = points.unbind(1)
    steps, rises = px.diff(), py.diff()
    tangents = _tangents(steps, rises / steps)
    first, last = steps * tangents[:-1], steps * tangents[1:]
    cubic = torch.stack([py[:-1], first, 3 * rises - 2 * first - last, first + last - 2 * rises])
    spare = segments - len(steps)
    pad = torch.nn.functional.pad
    return pad(px[:-1], (0, spare), value=torch.inf), pad(steps, (0, spare), value=1.0), pad(cubic, (0, spare))


def _tangents(steps: Tensor, slopes: Tensor) -> Tensor:
    """Slopes at the points: harmonic means inside, 0 where the curve turns, one-sided at the ends."""
    before, after = slopes[:-1], slopes[1:]
    first, second = 2 * steps[1:] + steps[:-1], steps[1:] + 2 * steps[:-1]
    same = before * after > 0
    # Divisors of what is not taken are 1: a division by 0 there would spoil the gradient here.
    one = torch.ones_like(before)
    inner = (first + second) / (first / torch.where(same, before, one) + second / torch.where(same, after, one))
    return torch.cat([slopes[:1], torch.where(same, inner, torch.zeros_like(inner)), slopes[-1:]])
