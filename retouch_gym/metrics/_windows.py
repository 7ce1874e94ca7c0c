"""SSIM over 7 × 7 windows, by sums that slide down the columns and are added up along the rows.

With n = 49, S the sum over a window and n·S(xy) − S(x)·S(y) the n² = 2401-fold covariance, everything up to the
last fraction is a whole number below 2^31: the variances of flat windows lose nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retouch_gym.compiling import inline, kernel

WINDOW = 7
"""Side of the window in pixels."""

f32 = np.float32
i32 = np.int32
u64 = np.uint64

_AREA = i32(WINDOW * WINDOW)


@inline
def _add_row(a: NDArray[np.uint8], b: NDArray[np.uint8], start: int, sums: NDArray[np.int32], stride: int) -> None:
    """Add one row of a, b, a² + b² and a·b to the column sums."""
    second, third, fourth = u64(stride), u64(2 * stride), u64(3 * stride)
    for i in range(stride):
        k = u64(i)
        x, y = i32(a[u64(start) + k]), i32(b[u64(start) + k])
        sums[k] = i32(sums[k] + x)
        sums[k + second] = i32(sums[k + second] + y)
        sums[k + third] = i32(sums[k + third] + i32(i32(x * x) + i32(y * y)))
        sums[k + fourth] = i32(sums[k + fourth] + i32(x * y))


@inline
def _slide(a: NDArray[np.uint8], b: NDArray[np.uint8], start: int, sums: NDArray[np.int32], stride: int) -> None:
    """Add the row at `start` to the column sums and take away the one seven rows above it."""
    second, third, fourth = u64(stride), u64(2 * stride), u64(3 * stride)
    old = u64(start - WINDOW * stride)
    for i in range(stride):
        k = u64(i)
        x, y = i32(a[u64(start) + k]), i32(b[u64(start) + k])
        p, q = i32(a[old + k]), i32(b[old + k])
        squares = i32(i32(i32(x * x) + i32(y * y)) - i32(i32(p * p) + i32(q * q)))
        sums[k] = i32(sums[k] + i32(x - p))
        sums[k + second] = i32(sums[k + second] + i32(y - q))
        sums[k + third] = i32(sums[k + third] + squares)
        sums[k + fourth] = i32(sums[k + fourth] + i32(i32(x * y) - i32(p * q)))


@inline
def _along(sums: NDArray[np.int32], offset: int, out: NDArray[np.int32], n: int) -> None:
    """Sums of seven neighbours of one channel, three values apart."""
    for i in range(n):
        k = u64(offset + i)
        two = i32(sums[k] + sums[k + u64(3)])
        four = i32(i32(sums[k + u64(6)] + sums[k + u64(9)]) + i32(sums[k + u64(12)] + sums[k + u64(15)]))
        out[u64(offset + i)] = i32(i32(two + four) + sums[k + u64(18)])


@inline
def _add_similarities(
    w: NDArray[np.int32], stride: int, totals: NDArray[np.float64], n: int, c1: float, c2: float
) -> None:
    """Add the SSIM of n windows, from their four sums, to one total per column: one for all would be a chain."""
    k1, k2 = f32(c1), f32(c2)
    second, third, fourth = u64(stride), u64(2 * stride), u64(3 * stride)
    for i in range(n):
        k = u64(i)
        x, y = w[k], w[k + second]
        product = i32(x * y)
        squares = i32(i32(x * x) + i32(y * y))
        covariance = i32(i32(_AREA * w[k + fourth]) - product)
        variances = i32(i32(_AREA * w[k + third]) - squares)
        above = (f32(2.0) * f32(product) + k1) * (f32(2.0) * f32(covariance) + k2)
        totals[k] += above / ((f32(squares) + k1) * (f32(variances) + k2))


@kernel
def similarity_sum(a: NDArray[np.uint8], b: NDArray[np.uint8], width: int, c1: float, c2: float) -> float:
    """Sum of the SSIM of all windows that lie inside the photo, over the three channels.

    Args:
        a: uint8 (3 · height · width,), R G B interleaved, at least 7 × 7 pixels.
        b: As large.
        width: Pixels per row.
        c1: C1 · n², the constant beside squared means.
        c2: C2 · n · (n − 1), the constant beside sample variances.
    """
    stride = 3 * width
    height = a.size // stride
    n = stride - 3 * (WINDOW - 1)
    sums = np.zeros(4 * stride, np.int32)
    windows = np.empty(4 * stride, np.int32)
    totals = np.zeros(n, np.float64)
    for y in range(height):
        if y < WINDOW:
            _add_row(a, b, y * stride, sums, stride)
        else:
            _slide(a, b, y * stride, sums, stride)
        if y >= WINDOW - 1:
            for plane in range(4):
                _along(sums, plane * stride, windows, n)
            _add_similarities(windows, stride, totals, n, c1, c2)
    return float(totals.sum())
