"""Kernels of planes, one float a pixel: what luma detail adds, the guided filter's last step, white noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from retouch_gym.renderers._compile import inline, kernel

f32 = np.float32
u64 = np.uint64

CHUNK = 4096
ONE = f32(1.0)

Plane = NDArray[np.float32]


@kernel
def mix_guided(plane: Plane, guide: Plane, slope: Plane, offset: Plane, amount: float, out: Plane) -> None:
    """The guided filter's line at each pixel: out = plane + amount · (slope · guide + offset − plane)."""
    share = f32(amount)
    for i in range(plane.size):
        k = u64(i)
        out[k] = plane[k] + share * (slope[k] * guide[k] + offset[k] - plane[k])


@inline
def _add_clarity(z: Plane, slope: Plane, offset: Plane, amount: Any, out: Plane, begin: int, end: int) -> None:
    for i in range(begin, end):
        k = u64(i)
        x = z[k]
        out[k] += amount * f32(4.0) * x * (ONE - x) * (x - (slope[k] * x + offset[k]))


@inline
def _add_sharpening(
    z: Plane, smooth: Plane, edges: Plane, amounts: tuple[Any, Any, Any], out: Plane, begin: int, end: int
) -> None:
    amount, per_contrast, edge = amounts
    if edges.size > 0:
        for i in range(begin, end):
            k = u64(i)
            h = z[k] - smooth[k]
            e = edges[k] + f32(1e-4)
            out[k] += amount * h / (ONE + per_contrast * abs(h)) * e / (e + edge)
    else:
        for i in range(begin, end):
            k = u64(i)
            h = z[k] - smooth[k]
            out[k] += amount * h / (ONE + per_contrast * abs(h))


@kernel
def add_detail(
    y: Plane,
    z: Plane,
    smooth: Plane,
    base: tuple[Plane, Plane],
    fine: tuple[Plane, Plane],
    amounts: tuple[float, float, float, float, float],
    out: Plane,
) -> None:
    """What luma detail adds, from filtered planes; an empty one leaves its part out. See `detail.luma_detail`.

    Args:
        y: Luma.
        z: Luma after noise reduction.
        smooth: Gaussian of z, for texture.
        base: Slope and offset of the guided filter, for clarity.
        fine: Gaussian of z, for sharpening, and the mean contrast around, for its masking.
        amounts: Of texture, clarity and sharpening; what detail divides by, per contrast; what masking adds.
        out: Written; may be y unless that is z.
    """
    texture, clarity = f32(amounts[0]), f32(amounts[1])
    sharpening = (f32(amounts[2]), f32(amounts[3]), f32(amounts[4]))
    for begin in range(0, y.size, CHUNK):
        end = min(begin + CHUNK, y.size)
        for i in range(begin, end):
            k = u64(i)
            out[k] = z[k] - y[k]
        if smooth.size > 0:
            for i in range(begin, end):
                k = u64(i)
                out[k] += texture * (z[k] - smooth[k])
        if base[0].size > 0:
            _add_clarity(z, base[0], base[1], clarity, out, begin, end)
        if fine[0].size > 0:
            _add_sharpening(z, fine[0], fine[1], sharpening, out, begin, end)


@kernel
def fill_noise(key: int, normal: NDArray[np.float32], out: Plane) -> None:
    """White noise, a function of the key and the pixel's index alone: see `effects.white_noise`."""
    for i in range(out.size):
        x = u64(key) + u64(i + 1) * u64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> u64(30))) * u64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> u64(27))) * u64(0x94D049BB133111EB)
        x = x ^ (x >> u64(31))
        out[u64(i)] = normal[x & u64(4095)]
