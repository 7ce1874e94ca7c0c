"""Everything that looks at one channel of one pixel, on tensors: see `retouch_gym.renderers.lightroom.tone`.

Colours are (B, 3, H, W), values of sliders (B, 1, 1, 1) and v/100. Both sides of a formula that depends on a slider's
sign are computed and one is taken, so that the photos of a batch may differ; at 0 the gradient is that of one side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from retouch_gym.renderers.lightroom.settings import BASIC_TONE
from retouch_gym.renderers.lightroom.tone import LUMA, MAGENTA, SHOULDER, TOE, WARMTH, ZONES
from retouch_gym.renderers.torch.controls import Controls
from retouch_gym.renderers.torch.curves import evaluate_curves

CHANNEL_CURVES = ("curve_red", "curve_green", "curve_blue")


def decode(encoded: Tensor) -> Tensor:
    """Encoded to linear light."""
    curved = ((encoded.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(encoded <= 0.04045, encoded / 12.92, curved)


def encode(linear: Tensor) -> Tensor:
    """Inverse of `decode`, without an upper limit."""
    curved = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, curved)


def channels(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """R, G and B of colours in dimension 1, each (B, 1, …)."""
    return rgb[:, 0:1], rgb[:, 1:2], rgb[:, 2:3]


def luma(rgb: Tensor) -> Tensor:
    """Luma of colours in dimension 1: (B, 1, …)."""
    # No matrix product: PyTorch may round its factors to 10 bits on a GPU.
    red, green, blue = channels(rgb)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def channel_gains(controls: Controls) -> Tensor:
    """Factors of linear R, G and B, white balance times exposure: (B, 3, 1, 1)."""
    warmth, magenta = WARMTH / 100 * controls["temperature"], MAGENTA / 100 * controls["tint"]
    balance = torch.exp2(torch.cat([warmth, -magenta, -warmth], dim=1))
    return balance / luma(balance) * torch.exp2(controls["exposure"])


def highlights(e: Tensor, v: Tensor) -> Tensor:
    """What highlights make of encoded values, which may lie beyond 1."""
    u = (e - SHOULDER).clamp(min=0)
    below = v.clamp(max=0)
    down = below * u * u / (1 - below * u)
    up = 0.9 * v * u * u * (1 - e).clamp(min=0) / (1 - SHOULDER) ** 2
    return e + torch.where(v < 0, down, up)


def shadows(e: Tensor, v: Tensor) -> Tensor:
    """What shadows make of encoded values."""
    return e + (torch.exp2(1.5 * v) - 1) * e * (1 - e / TOE).clamp(min=0) ** 2


def whites(e: Tensor, v: Tensor) -> Tensor:
    """What whites make of encoded values."""
    square = e * e
    return e * (1 + 0.6 * v * square / (1 + square))


def blacks(e: Tensor, v: Tensor) -> Tensor:
    """What blacks make of encoded values."""
    return e + 0.12 * v * (1 - e).clamp(min=0) ** 3


def contrast(e: Tensor, v: Tensor) -> Tensor:
    """What contrast makes of encoded values in 0..1."""
    return e + 0.9 * v * e * (1 - e) * (2 * e - 1)


def zone(e: Tensor, v: Tensor, low: float, high: float, height: float) -> Tensor:
    """What a zone of the parametric curve makes of encoded values in 0..1."""
    t = ((e - low) / (high - low)).clamp(0, 1)
    return e + v * height * 16 * (t * (1 - t)) ** 2


_BEFORE_THE_CLIP = {"highlights": highlights, "shadows": shadows, "whites": whites, "blacks": blacks}
assert (*_BEFORE_THE_CLIP, "contrast") == BASIC_TONE


def tone_curves(encoded: Tensor, controls: Controls, curves: Mapping[str, Sequence[Tensor]]) -> Tensor:
    """Encoded values after exposure to encoded values in 0..1: sliders, the parametric curve, then point curves.

    Args:
        encoded: (B, 3, H, W), 0 or more.
        controls: The sliders.
        curves: Points (N, 2) of every photo by the curve's name.
    """
    e = encoded
    for name, function in _BEFORE_THE_CLIP.items():
        if controls.has(name):
            e = function(e, controls[name] / 100)
    e = e.clamp(0, 1)
    if controls.has("contrast"):
        e = contrast(e, controls["contrast"] / 100)
    for name, (low, high, height) in ZONES.items():
        if controls.has(name):
            e = zone(e, controls[name] / 100, low, high, height)
    if "curve" in curves:
        e = evaluate_curves(curves["curve"], e)
    if any(name in curves for name in CHANNEL_CURVES):
        e = torch.cat(
            [
                evaluate_curves(curves[name], channel) if name in curves else channel
                for name, channel in zip(CHANNEL_CURVES, channels(e), strict=True)
            ],
            dim=1,
        )
    return e.clamp(0, 1)
