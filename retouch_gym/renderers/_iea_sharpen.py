"""Sharpness: a separable blur in exact arithmetic, blended with the photo row by row.

Weights are whole 256ths that sum to one: the sums down a column fit 16 bits, and the sums of those along a
row stay below 2^24, where float32 is exact in any order of summation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from retouch_gym.compiling import fma, inline, kernel, to_bits

RADIUS = 8
"""Largest reach of the blur, in pixels."""

f32 = np.float32
u16 = np.uint16
u64 = np.uint64

_PAD = 3 * RADIUS
_UNIT = f32(1.0 / 65536.0)
_ROUND = f32(12582912.0)  # 1.5 · 2^23: a small number added to it is rounded into the lowest bits


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
    source: NDArray[np.uint8], sums: NDArray[np.uint16], y: int, height: int, length: int, weights: NDArray[np.uint16]
) -> None:
    """Weighted sum of the rows around y, in 256ths, mirrored at the first and the last."""
    base = y * length
    for i in range(length):
        sums[u64(i)] = u16(weights[0] * source[u64(base + i)])
    # Eight rows at a time: as many as the compiler still checks for overlap before it vectorises.
    for k in (1, 5):
        w1, w2, w3, w4 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        if w1 == 0:
            break
        a1, b1 = _reflect(y - k, height) * length, _reflect(y + k, height) * length
        a2, b2 = _reflect(y - k - 1, height) * length, _reflect(y + k + 1, height) * length
        a3, b3 = _reflect(y - k - 2, height) * length, _reflect(y + k + 2, height) * length
        a4, b4 = _reflect(y - k - 3, height) * length, _reflect(y + k + 3, height) * length
        for i in range(length):
            s1: Any = w1 * (u16(source[u64(a1 + i)]) + u16(source[u64(b1 + i)]))
            s2: Any = w2 * (u16(source[u64(a2 + i)]) + u16(source[u64(b2 + i)]))
            s3: Any = w3 * (u16(source[u64(a3 + i)]) + u16(source[u64(b3 + i)]))
            s4: Any = w4 * (u16(source[u64(a4 + i)]) + u16(source[u64(b4 + i)]))
            sums[u64(i)] = u16(sums[u64(i)] + ((s1 + s2) + (s3 + s4)))


@inline
def _widen(sums: NDArray[np.uint16], line: NDArray[np.float32], width: int) -> None:
    """Sums as float32, mirrored at both ends."""
    for i in range(3 * width):
        line[u64(_PAD + i)] = f32(sums[u64(i)])
    for k in range(1, RADIUS + 1):
        left, right = _reflect(-k, width), _reflect(width - 1 + k, width)
        for c in range(3):
            line[_PAD - 3 * k + c] = line[_PAD + 3 * left + c]
            line[_PAD + 3 * (width - 1 + k) + c] = line[_PAD + 3 * right + c]


@inline
def _blur_along(line: NDArray[np.float32], out: NDArray[np.float32], length: int, weights: NDArray[np.uint16]) -> None:
    """Weighted sum along the line, as a tree: one chain of nine additions would wait for itself."""
    w0, w1, w2, w3, w4 = f32(weights[0]), f32(weights[1]), f32(weights[2]), f32(weights[3]), f32(weights[4])
    w5, w6, w7, w8 = f32(weights[5]), f32(weights[6]), f32(weights[7]), f32(weights[8])
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
    weights: NDArray[np.uint16],
    strength: float,
    compat: bool,
) -> None:
    """Write source + strength · (source − blur); strength −1 writes the blur itself.

    Args:
        source: uint8 (3 · height · width,), R G B interleaved; not written.
        out: As large, written.
        width: Pixels per row.
        weights: uint16 (9,), weights of the blur in 256ths from the centre outwards.
        strength: How far to step away from the blur.
        compat: Round the blur to 8 bits first, as the published editor does.
    """
    length = 3 * width
    height = source.size // length
    alpha, beta = f32(1.0 + strength), f32(-strength)
    sums = np.empty(length, np.uint16)
    line = np.empty(length + 2 * _PAD, np.float32)
    blurred = np.empty(length, np.float32)
    for y in range(height):
        _blur_down(source, sums, y, height, length, weights)
        _widen(sums, line, width)
        _blur_along(line, blurred, length, weights)
        for i in range(length):
            j = u64(y * length + i)
            blur = np.floor(blurred[u64(i)] * _UNIT + f32(0.5)) if compat else blurred[u64(i)] * _UNIT
            level = fma(f32(source[j]), alpha, blur * beta)
            out[j] = np.uint8(to_bits(min(max(level, f32(0.0)), f32(255.0)) + _ROUND))
