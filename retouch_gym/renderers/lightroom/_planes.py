"""Kernels of planes, one float a pixel: enlarging, the guided filter's last step, luma detail, white noise.

Planes found at a reduced size are enlarged a row at a time where they are used: a row is stretched when it is first
needed, and what lies between two of them is a vectorised mix.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from retouch_gym.compiling import inline, kernel

f32 = np.float32
u64 = np.uint64

ZERO, HALF, ONE = f32(0.0), f32(0.5), f32(1.0)

Plane = NDArray[np.float32]


@inline
def _stretch(small: Plane, row: int, f: int, out: Plane) -> None:
    """A row of a reduced plane at full width."""
    last = np.int32(small.shape[1] - 1)
    per = ONE / f32(f)
    for x in range(out.size):
        p = min(max((f32(np.int32(x)) + HALF) * per - HALF, ZERO), f32(last))
        j = np.int32(p)
        value = small[u64(row), u64(j)]
        out[u64(x)] = value + (p - f32(j)) * (small[u64(row), u64(min(j + np.int32(1), last))] - value)


@inline
def _mix(first: Plane, second: Plane, share: Any, out: Plane) -> None:
    for x in range(out.size):
        k = u64(x)
        out[k] = first[k] + share * (second[k] - first[k])


@inline
def _enlarge_row(small: Plane, f: int, y: int, rows: tuple[Plane, Plane, Plane], held: int) -> int:
    """Row y of the enlarged plane into the first of `rows`.

    The others hold the reduced rows above and below, the upper one, of number `held` (−1 for none), in the second
    where the number is even.

    Returns:
        Number of the upper row that is held now.
    """
    out, even, odd = rows
    if f == 1:
        for x in range(out.size):
            out[u64(x)] = small[u64(y), u64(x)]
        return -1
    last = small.shape[0] - 1
    p = min(max((f32(y) + HALF) / f32(f) - HALF, ZERO), f32(last))
    upper = int(p)
    is_even = upper % 2 == 0
    if upper != held:
        if held < 0:
            _stretch(small, upper, f, even if is_even else odd)
        _stretch(small, min(upper + 1, last), f, odd if is_even else even)
    share = p - f32(upper)
    _mix(even, odd, share if is_even else ONE - share, out)
    return upper


@inline
def _rows(width: int) -> tuple[Plane, Plane, Plane]:
    return np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)


@kernel
def enlarge(small: Plane, f: int, out: Plane) -> None:
    """`detail.enlarge`: small (h, w) by f into out (H, W)."""
    rows = _rows(out.shape[1])
    held = -1
    for y in range(out.shape[0]):
        held = _enlarge_row(small, f, y, rows, held)
        row = rows[0]
        for x in range(row.size):
            out[u64(y), u64(x)] = row[u64(x)]


@kernel
def mix_guided(plane: Plane, guide: Plane, line: tuple[Plane, Plane], f: int, amount: float, out: Plane) -> None:
    """The guided filter's line at each pixel: out = plane + amount · (slope · guide + offset − plane).

    Args:
        plane: (H, W).
        guide: (H, W).
        line: Slope and offset, reduced by f.
        f: See `detail.reduce`.
        amount: 0..1.
        out: (H, W), written; may be the plane.
    """
    width = plane.shape[1]
    share = f32(amount)
    slopes, offsets = _rows(width), _rows(width)
    slope_row, offset_row = -1, -1
    for y in range(plane.shape[0]):
        slope_row = _enlarge_row(line[0], f, y, slopes, slope_row)
        offset_row = _enlarge_row(line[1], f, y, offsets, offset_row)
        slope, offset, i = slopes[0], offsets[0], u64(y)
        for x in range(width):
            k = u64(x)
            out[i, k] = plane[i, k] + share * (slope[k] * guide[i, k] + offset[k] - plane[i, k])


@inline
def _add_sharpening(
    z: Plane, smooth: Plane, edges: Plane, amounts: tuple[Any, Any, Any], out: Plane, y: int, width: int
) -> None:
    """What sharpening adds to row y."""
    amount, per_contrast, edge = amounts
    i = u64(y)
    if edges.size > 0:
        for x in range(width):
            k = u64(x)
            h = z[i, k] - smooth[i, k]
            e = edges[i, k] + f32(1e-4)
            out[i, k] += amount * h / (ONE + per_contrast * abs(h)) * e / (e + edge)
    else:
        for x in range(width):
            k = u64(x)
            h = z[i, k] - smooth[i, k]
            out[i, k] += amount * h / (ONE + per_contrast * abs(h))


@kernel
def add_detail(
    y: Plane,
    z: Plane,
    smooth: Plane,
    line: tuple[Plane, Plane],
    factors: tuple[int, int],
    fine: tuple[Plane, Plane],
    amounts: tuple[float, float, float, float, float],
    out: Plane,
) -> None:
    """What luma detail adds, from filtered planes; an empty one leaves its part out. See `detail.luma_detail`.

    Args:
        y: Luma (H, W).
        z: Luma after noise reduction, (H, W).
        smooth: Gaussian of z, reduced, for texture.
        line: Slope and offset of the guided filter, reduced, for clarity.
        factors: By which smooth and line are reduced.
        fine: Gaussian of z, for sharpening, and the mean contrast around, for its masking, (H, W).
        amounts: Of texture, clarity and sharpening; what detail divides by, per contrast; what masking adds.
        out: (H, W), written; may be y unless that is z.
    """
    texture, clarity = f32(amounts[0]), f32(4.0 * amounts[1])
    sharpening = (f32(amounts[2]), f32(amounts[3]), f32(amounts[4]))
    height, width = y.shape
    rows, slopes, offsets = _rows(width), _rows(width), _rows(width)
    smooth_row, slope_row, offset_row = -1, -1, -1
    for row in range(height):
        i = u64(row)
        for x in range(width):
            out[i, u64(x)] = z[i, u64(x)] - y[i, u64(x)]
        if smooth.size > 0:
            smooth_row = _enlarge_row(smooth, factors[0], row, rows, smooth_row)
            large = rows[0]
            for x in range(width):
                k = u64(x)
                out[i, k] += texture * (z[i, k] - large[k])
        if line[0].size > 0:
            slope_row = _enlarge_row(line[0], factors[1], row, slopes, slope_row)
            offset_row = _enlarge_row(line[1], factors[1], row, offsets, offset_row)
            slope, offset = slopes[0], offsets[0]
            for x in range(width):
                k = u64(x)
                v = z[i, k]
                out[i, k] += clarity * v * (ONE - v) * (v - (slope[k] * v + offset[k]))
        if fine[0].size > 0:
            _add_sharpening(z, fine[0], fine[1], sharpening, out, row, width)


@kernel
def fill_noise(key: int, normal: NDArray[np.float32], out: Plane) -> None:
    """White noise, a function of the key and the pixel's index alone: see `effects.white_noise`."""
    for i in range(out.size):
        x = u64(key) + u64(i + 1) * u64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> u64(30))) * u64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> u64(27))) * u64(0x94D049BB133111EB)
        x = x ^ (x >> u64(31))
        out[u64(i)] = normal[x & u64(4095)]
