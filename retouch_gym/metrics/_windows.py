"""SSIM over 7 × 7 windows, by sums that slide down the columns and are added up along the rows.

With n = 49, S the sum over a window and n·S(xy) − S(x)·S(y) the n² = 2401-fold covariance, everything up to the
last fraction is a whole number below 2^31: the variances of flat windows lose nothing. Sums of levels fit 16 bits,
which are handled twice as many at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from retouch_gym.compiling import inline, kernel

WINDOW = 7
"""Side of the window in pixels."""

f32 = np.float32
i32 = np.int32
u16 = np.uint16
u64 = np.uint64

_AREA = i32(WINDOW * WINDOW)


@inline
def _add_row(
    a: NDArray[np.uint8],
    b: NDArray[np.uint8],
    start: int,
    levels: NDArray[np.uint16],
    products: NDArray[np.int32],
    stride: int,
) -> None:
    """Add the row at `start` to the column sums: of a and b, and of a² + b² and a·b."""
    for i in range(stride):
        k = u64(i)
        x, y = i32(a[u64(start) + k]), i32(b[u64(start) + k])
        products[k] = i32(products[k] + i32(i32(x * x) + i32(y * y)))
        products[k + u64(stride)] = i32(products[k + u64(stride)] + i32(x * y))
    for i in range(stride):
        levels[u64(i)] = u16(levels[u64(i)] + a[u64(start + i)])
    for i in range(stride):
        levels[u64(stride + i)] = u16(levels[u64(stride + i)] + b[u64(start + i)])


@inline
def _slide(
    a: NDArray[np.uint8],
    b: NDArray[np.uint8],
    start: int,
    levels: NDArray[np.uint16],
    products: NDArray[np.int32],
    stride: int,
) -> None:
    """`_add_row`, and take away the row seven above."""
    old = start - WINDOW * stride
    for i in range(stride):
        k = u64(i)
        x, y = i32(a[u64(start) + k]), i32(b[u64(start) + k])
        p, q = i32(a[u64(old) + k]), i32(b[u64(old) + k])
        squares = i32(i32(i32(x * x) + i32(y * y)) - i32(i32(p * p) + i32(q * q)))
        products[k] = i32(products[k] + squares)
        products[k + u64(stride)] = i32(products[k + u64(stride)] + i32(i32(x * y) - i32(p * q)))
    for i in range(stride):
        levels[u64(i)] = u16(levels[u64(i)] + a[u64(start + i)] - a[u64(old + i)])
    for i in range(stride):
        levels[u64(stride + i)] = u16(levels[u64(stride + i)] + b[u64(start + i)] - b[u64(old + i)])


@inline
def _along(sums: NDArray[Any], first: int, out: NDArray[Any], n: int) -> None:
    """Sums of seven neighbours of one channel, three values apart."""
    for i in range(n):
        k = u64(first + i)
        four = (sums[k + u64(6)] + sums[k + u64(9)]) + (sums[k + u64(12)] + sums[k + u64(15)])
        out[k] = (sums[k] + sums[k + u64(3)]) + four + sums[k + u64(18)]


@inline
def _add_similarities(
    levels: NDArray[np.uint16],
    products: NDArray[np.int32],
    stride: int,
    totals: NDArray[np.float64],
    constants: tuple[float, float],
) -> None:
    """Add the SSIM of a row of windows to one total per column: one for all would be a chain."""
    c1, c2 = f32(constants[0]), f32(constants[1])
    for i in range(totals.size):
        k = u64(i)
        x, y = i32(levels[k]), i32(levels[k + u64(stride)])
        product = i32(x * y)
        squares = i32(i32(x * x) + i32(y * y))
        covariance = i32(i32(_AREA * products[k + u64(stride)]) - product)
        variances = i32(i32(_AREA * products[k]) - squares)
        above = (f32(2.0) * f32(product) + c1) * (f32(2.0) * f32(covariance) + c2)
        totals[k] += above / ((f32(squares) + c1) * (f32(variances) + c2))


@kernel
def similarity_sum(a: NDArray[np.uint8], b: NDArray[np.uint8], width: int, constants: tuple[float, float]) -> float:
    """Sum of the SSIM of all windows that lie inside the photo, over the three channels.

    Args:
        a: uint8 (3 · height · width,), R G B interleaved, at least 7 × 7 pixels.
        b: As large.
        width: Pixels per row.
        constants: C1 · n², beside squared means, and C2 · n (n − 1), beside sample variances.
    """
    stride = 3 * width
    height = a.size // stride
    n = stride - 3 * (WINDOW - 1)
    levels, level_sums = np.zeros(2 * stride, u16), np.empty(2 * stride, u16)
    products, product_sums = np.zeros(2 * stride, i32), np.empty(2 * stride, i32)
    totals = np.zeros(n, np.float64)
    for y in range(height):
        if y < WINDOW:
            _add_row(a, b, y * stride, levels, products, stride)
        else:
            _slide(a, b, y * stride, levels, products, stride)
        if y >= WINDOW - 1:
            for first in (0, stride):
                _along(levels, first, level_sums, n)
                _along(products, first, product_sums, n)
            _add_similarities(level_sums, product_sums, stride, totals, constants)
    return float(totals.sum())
