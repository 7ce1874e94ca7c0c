"""Sharpness: a separable blur in exact arithmetic, blended with the photo row by row.

Weights are whole 256ths that sum to one, so every intermediate is a whole number below 2^24 and float32
holds it exactly, in any order of summation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retouch_gym.renderers._compile import fma, inline, kernel

RADIUS = 8
"""Largest reach of the blur, in pixels."""

f32 = np.float32
u64 = np.uint64

_PAD = 3 * RADIUS
_SLOTS = 2 * RADIUS + 1
_UNIT = f32(1.0 / 65536.0)


@inline
def _reflect(i: int, n: int) -> int:
    """Index i of a line of n samples that is mirrored at its end samples."""
    if n == 1:
        return 0
    while i < 0 or i >= n:
        i = -i if i < 0 else 2 * (n - 1) - i
    return i


@inline
def _blur_down(
    rows: NDArray[np.float32], line: NDArray[np.float32], y: int, height: int, length: int, weights: NDArray[np.float32]
) -> None:
    """Weighted sum of the rows around y, mirrored at the first and the last."""
    base = (y % _SLOTS) * length
    for i in range(length):
        line[u64(_PAD + i)] = weights[0] * rows[u64(base + i)]
    for k in range(1, RADIUS, 2):  # two pairs of rows per pass over the line: half the traffic
        near, far = weights[k], weights[k + 1]
        if near == f32(0.0):
            break
        above = (_reflect(y - k, height) % _SLOTS) * length
        below = (_reflect(y + k, height) % _SLOTS) * length
        far_above = (_reflect(y - k - 1, height) % _SLOTS) * length
        far_below = (_reflect(y + k + 1, height) % _SLOTS) * length
        for i in range(length):
            inner = rows[u64(above + i)] + rows[u64(below + i)]
            outer = rows[u64(far_above + i)] + rows[u64(far_below + i)]
            line[u64(_PAD + i)] = fma(near, inner, fma(far, outer, line[u64(_PAD + i)]))


@inline
def _mirror_ends(line: NDArray[np.float32], width: int) -> None:
    for k in range(1, RADIUS + 1):
        left, right = _reflect(-k, width), _reflect(width - 1 + k, width)
        for c in range(3):
            line[_PAD - 3 * k + c] = line[_PAD + 3 * left + c]
            line[_PAD + 3 * (width - 1 + k) + c] = line[_PAD + 3 * right + c]


@inline
def _blur_along(line: NDArray[np.float32], out: NDArray[np.float32], length: int, weights: NDArray[np.float32]) -> None:
    """Weighted sum along the line, as a tree: one chain of nine additions would wait for itself."""
    w0, w1, w2, w3, w4 = weights[0], weights[1], weights[2], weights[3], weights[4]
    w5, w6, w7, w8 = weights[5], weights[6], weights[7], weights[8]
    for i in range(length):
        j = u64(i + _PAD)
        a = fma(w1, line[j - u64(3)] + line[j + u64(3)], w0 * line[j])
        b = fma(w2, line[j - u64(6)] + line[j + u64(6)], w3 * (line[j - u64(9)] + line[j + u64(9)]))
        c = fma(w4, line[j - u64(12)] + line[j + u64(12)], w5 * (line[j - u64(15)] + line[j + u64(15)]))
        d = fma(w6, line[j - u64(18)] + line[j + u64(18)], w7 * (line[j - u64(21)] + line[j + u64(21)]))
        e = fma(w8, line[j - u64(24)] + line[j + u64(24)], a)
        out[u64(i)] = (b + c) + (d + e)


@kernel
def sharpen(
    source: NDArray[np.uint8],
    out: NDArray[np.uint8],
    width: int,
    weights: NDArray[np.float32],
    strength: float,
    compat: bool,
) -> None:
    """Write source + strength · (source − blur); strength −1 writes the blur itself.

    Args:
        source: uint8 (3 · height · width,), R G B interleaved; not written.
        out: As large, written.
        width: Pixels per row.
        weights: float32 (9,), weights of the blur in 256ths from the centre outwards.
        strength: How far to step away from the blur.
        compat: Round the blur to 8 bits first, as the published editor does.
    """
    length = 3 * width
    height = source.size // length
    alpha, beta = f32(1.0 + strength), f32(-strength)
    rows = np.empty(_SLOTS * length, np.float32)
    line = np.empty(length + 2 * _PAD, np.float32)
    blurred = np.empty(length, np.float32)
    loaded = 0
    for y in range(height):
        while loaded < min(y + RADIUS + 1, height):
            slot = (loaded % _SLOTS) * length
            for i in range(length):
                rows[u64(slot + i)] = f32(source[u64(loaded * length + i)])
            loaded += 1
        _blur_down(rows, line, y, height, length, weights)
        _mirror_ends(line, width)
        _blur_along(line, blurred, length, weights)
        start = y * length
        for i in range(length):
            blur = np.floor(blurred[u64(i)] * _UNIT + f32(0.5)) if compat else blurred[u64(i)] * _UNIT
            level = np.rint(fma(f32(source[u64(start + i)]), alpha, blur * beta))
            out[u64(start + i)] = np.uint8(np.int32(min(max(level, f32(0.0)), f32(255.0))))
