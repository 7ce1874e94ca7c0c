"""Everything that looks at neighbours, on tensors: see `retouch_gym.renderers.lightroom.detail`.

Planes are (B, 1, H, W), controls (B, 1, 1, 1). Filters are sums of shifted planes and means of boxes rather than
PyTorch's convolutions, which may round to 10 bits on a GPU and to other digits in a larger batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from retouch_gym.renderers.lightroom.detail import (
    CLARITY_EPS,
    CLARITY_STRENGTH,
    COLOR_EPS,
    COLOR_FACTOR,
    COLOR_RADIUS,
    DEHAZE,
    EDGE,
    HALO,
    HAZE,
    NOISE_EPS,
    NOISE_RADIUS,
    TEXTURE_STRENGTH,
    clarity_scale,
    texture_scale,
    veil_scale,
)
from retouch_gym.renderers.lightroom.tone import LUMA
from retouch_gym.renderers.torch.controls import Controls
from retouch_gym.renderers.torch.tone import decode, luma


def gaussian_weights(sigma: Tensor) -> Tensor:
    """Weights exp(−i²/2σ²) for |i| ≤ ⌈3σ⌉, over their sum.

    Differentiable in σ but where ⌈3σ⌉ jumps.

    Args:
        sigma: (B, 1, 1, 1), float64, so that ⌈3σ⌉ is that of the specification.

    Returns:
        (B, K) with the odd K of the largest σ; weights beyond a smaller one's are 0.
    """
    sigma = sigma.flatten(1)
    reach = torch.ceil(3 * sigma.detach())
    radius = int(reach.max())
    i = torch.arange(-radius, radius + 1, dtype=sigma.dtype, device=sigma.device)
    weights = torch.exp(-0.5 * (i / sigma) ** 2) * (i.abs() <= reach)
    return weights / weights.sum(dim=1, keepdim=True)


def constant_weights(sigma: float, like: Tensor) -> Tensor:
    """`gaussian_weights` of one σ for all photos: (1, K)."""
    return gaussian_weights(torch.full((1, 1, 1, 1), sigma, dtype=torch.float64, device=like.device)).to(like.dtype)


def convolve(plane: Tensor, weights: Tensor) -> Tensor:
    """Planes under symmetric weights (B or 1, K) along rows and columns, edges repeated."""
    radius = weights.shape[1] // 2
    for dim, pad in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
        padded = functional.pad(plane, pad, mode="replicate")
        size = plane.shape[dim]
        plane = torch.zeros_like(plane)
        for i in range(weights.shape[1]):
            plane = torch.addcmul(plane, padded.narrow(dim, i, size), weights[:, i].view(-1, 1, 1, 1))
    return plane


def box(plane: Tensor, radius: int) -> Tensor:
    """Mean of the (2 radius + 1)² pixels around each."""
    return convolve(plane, plane.new_full((1, 2 * radius + 1), 1 / (2 * radius + 1)))


def erode(plane: Tensor) -> Tensor:
    """Smallest of the 3 × 3 pixels around each."""
    return -functional.max_pool2d(-functional.pad(plane, (1, 1, 1, 1), mode="replicate"), 3, 1)


def reduce(plane: Tensor, f: int) -> Tensor:
    """Means of f × f blocks, edges repeated to fill the last."""
    if f == 1:
        return plane
    height, width = plane.shape[2:]
    return functional.avg_pool2d(functional.pad(plane, (0, -width % f, 0, -height % f), mode="replicate"), f)


def enlarge(plane: Tensor, f: int, height: int, width: int) -> Tensor:
    """Bilinear enlargement by f, cut to (height, width)."""
    if f == 1:
        return plane
    return functional.interpolate(plane, scale_factor=f, mode="bilinear")[:, :, :height, :width]


def guided(guide: Tensor, plane: Tensor, f: int, radius: int, eps: float) -> Tensor:
    """Guided filter of planes (B, C, H, W): smooth but for the edges of the guide (B, 1, H, W)."""
    height, width = guide.shape[2:]
    g, p = reduce(guide, f), reduce(plane, f)
    mean_g, mean_p = box(g, radius), box(p, radius)
    a = (box(g * p, radius) - mean_g * mean_p) / (box(g * g, radius) - mean_g**2 + eps)
    b = mean_p - a * mean_g
    return enlarge(box(a, radius), f, height, width) * guide + enlarge(box(b, radius), f, height, width)


def haze_veil(encoded: Tensor) -> Tensor:
    """The veil of haze over each pixel of (B, 3, H, W), linear 0..1: (B, 1, H, W)."""
    height, width = encoded.shape[2:]
    dark = decode(encoded.amin(dim=1, keepdim=True).clamp(0, 1))
    f = veil_scale(max(height, width))
    return enlarge(convolve(erode(reduce(dark, f)), constant_weights(2.0, encoded)), f, height, width)


def dehaze(linear: Tensor, veil: Tensor, v: Tensor) -> Tensor:
    """Linear light (B, 3, H, W) without some of its veil where v is above 0, with more of one below."""
    u = DEHAZE * v.clamp(min=0) * veil
    return torch.where(v > 0, (linear - u) / (1 - u), linear - HAZE * v * (1 - linear))


def reduce_color_noise(rgb: Tensor, v: Tensor) -> Tensor:
    """Encoded (B, 3, H, W) with chroma drawn towards its guided smooth by v; luma stays."""
    y = luma(rgb)
    planes = rgb[:, 0::2] - y
    planes = planes + v * (guided(y, planes, COLOR_FACTOR, COLOR_RADIUS, COLOR_EPS) - planes)
    red, blue = planes[:, 0:1], planes[:, 1:2]
    green = -(LUMA[0] * red + LUMA[2] * blue) / LUMA[1]
    return y + torch.cat([red, green, blue], dim=1)


def sharpen(y: Tensor, controls: Controls) -> Tensor:
    """What sharpening adds to luma planes. Its gradient in the radius sees the weights, not their number."""
    h = y - convolve(y, gaussian_weights(controls.exact("sharpening_radius")).to(y.dtype))
    limited = h / (1 + (1 - controls["sharpening_detail"] / 100) * h.abs() / HALO)
    if controls.has("sharpening_masking"):
        edges = convolve(h.abs(), constant_weights(2.0, y)) + 1e-4
        limited = limited * edges / (edges + EDGE / 100 * controls["sharpening_masking"])
    return controls["sharpening_amount"] / 100 * limited


def luma_detail(y: Tensor, controls: Controls) -> Tensor:
    """What noise reduction, texture, clarity and sharpening add to R, G and B alike: planes, from luma planes."""
    height, width = y.shape[2:]
    z = y
    if controls.has("noise_luminance"):
        z = y + controls["noise_luminance"] / 100 * (guided(y, y, 1, NOISE_RADIUS, NOISE_EPS) - y)
    out = z - y
    if controls.has("texture"):
        f, sigma = texture_scale(max(height, width))
        smooth = enlarge(convolve(reduce(z, f), constant_weights(sigma, y)), f, height, width)
        out = out + TEXTURE_STRENGTH / 100 * controls["texture"] * (z - smooth)
    if controls.has("clarity"):
        base = guided(z, z, *clarity_scale(max(height, width)), CLARITY_EPS)
        out = out + CLARITY_STRENGTH / 100 * controls["clarity"] * 4 * z * (1 - z) * (z - base)
    if controls.has("sharpening_amount"):
        out = out + sharpen(z, controls)
    return out
