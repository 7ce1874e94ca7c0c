"""Everything that looks at one pixel, in one pass: tones, colour, mask, vignette and grain.

The photo is worked on in chunks that stay in the first-level cache, as planar float32: R, G, B in 0..1 and
scratch planes at constant offsets. Loops are short and, but for table look-ups, vectorised by the compiler.
The formulas are those of `tone`, `color` and `effects`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from retouch_gym.compiling import inline, kernel

f32 = np.float32
u64 = np.uint64

TO_BYTES, TO_FLOATS, TO_TONES, TO_LUMA, TO_DARK = range(5)
"""What is written: bytes or floats; or, after the tones, floats, the luma, or the smallest channel."""

CHUNK = 512
# 16 more than the chunk, or the planes would lie whole pages apart and loads would wait for unrelated stores.
_STRIDE = CHUNK + 16
_G, _B = u64(_STRIDE), u64(2 * _STRIDE)
_HUE, _CHROMA = u64(3 * _STRIDE), u64(4 * _STRIDE)
_ANGLE, _FACTOR, _LIFT = u64(5 * _STRIDE), u64(6 * _STRIDE), u64(7 * _STRIDE)
_PLANES = 8

ZERO, HALF, ONE, TWO, THREE, SIX = f32(0.0), f32(0.5), f32(1.0), f32(2.0), f32(3.0), f32(6.0)
_RED, _GREEN, _BLUE = f32(0.2126), f32(0.7152), f32(0.0722)
_THIRD, _INV_SQRT3 = f32(1 / 3), f32(3**-0.5)
_PER_SKIN = f32(60 / 27)
_TINY = f32(1e-30)  # keeps 0 / 0 from being asked

Plane = NDArray[np.float32]


@inline
def _look_up(source: NDArray[np.uint8], start: int, n: int, table: Plane, z: Plane) -> None:
    """Levels of n pixels through the three tables of 256 into three planes, one plane at a time (half the stores)."""
    for c in range(3):
        plane, at = u64(c * _STRIDE), u64(256 * c)
        for i in range(n):
            z[u64(i) + plane] = table[u64(source[u64(start + 3 * i + c)]) + at]


@inline
def _copy(source: Plane, start: int, n: int, z: Plane) -> None:
    """N pixels of floats into three planes."""
    for i in range(n):
        k, j = u64(i), u64(start + 3 * i)
        z[k], z[k + _G], z[k + _B] = source[j], source[j + u64(1)], source[j + u64(2)]


@inline
def _interpolate(z: Plane, begin: Any, n: int, table: Plane, at: Any, last: Any) -> None:
    """A plane in 0..1 through one of the tables, of last + 1 entries and one more, from `at` on."""
    for i in range(n):
        k = u64(i) + begin
        x = z[k] * last
        whole = np.int32(x)
        j = u64(whole) + at
        z[k] = table[j] + (x - f32(whole)) * (table[j + u64(1)] - table[j])


@inline
def _interpolate_all(z: Plane, n: int, table: Plane) -> None:
    """Three planes in 0..1, clipped, through three tables laid end to end."""
    size = table.size // 3
    for c in range(3):
        plane = u64(c * _STRIDE)
        for i in range(n):
            k = u64(i) + plane
            z[k] = min(max(z[k], ZERO), ONE)
        _interpolate(z, plane, n, table, u64(c * size), f32(size - 2))


@inline
def _lift_veil(z: Plane, n: int, veil: Plane, first: int) -> None:
    """Positive dehaze of linear light: (x − u)/(1 − u)."""
    for i in range(n):
        k = u64(i)
        u = veil[u64(first + i)]
        scale = ONE / (ONE - u)
        z[k] = (z[k] - u) * scale
        z[k + _G] = (z[k + _G] - u) * scale
        z[k + _B] = (z[k + _B] - u) * scale


@inline
def _mix_channels(z: Plane, n: int, m: Plane) -> None:
    """3 × 3 matrix and offset, then the root: the axis of the tone tables."""
    for i in range(n):
        k = u64(i)
        r, g, b = z[k], z[k + _G], z[k + _B]
        z[k] = np.sqrt(max(m[0] * r + m[1] * g + m[2] * b + m[9], ZERO))
        z[k + _G] = np.sqrt(max(m[3] * r + m[4] * g + m[5] * b + m[10], ZERO))
        z[k + _B] = np.sqrt(max(m[6] * r + m[7] * g + m[8] * b + m[11], ZERO))


@inline
def _add_plane(z: Plane, n: int, plane: Plane, first: int) -> None:
    """Add a plane to the three channels and clip."""
    for i in range(n):
        k = u64(i)
        d = plane[u64(first + i)]
        z[k] = min(max(z[k] + d, ZERO), ONE)
        z[k + _G] = min(max(z[k + _G] + d, ZERO), ONE)
        z[k + _B] = min(max(z[k + _B] + d, ZERO), ONE)


@inline
def _find_hue(z: Plane, n: int) -> None:
    """Hue in sextants (0..6) and chroma of every pixel."""
    for i in range(n):
        k = u64(i)
        r, g, b = z[k], z[k + _G], z[k + _B]
        top = max(max(r, g), b)
        chroma = top - min(min(r, g), b)
        per = ONE / (chroma + _TINY)
        red, green, blue = (g - b) * per, TWO + (b - r) * per, f32(4.0) + (r - g) * per
        hue = red if top == r else (green if top == g else blue)
        z[k + _HUE] = hue + SIX if hue < ZERO else hue
        z[k + _CHROMA] = chroma


@inline
def _mix_bands(z: Plane, n: int, bands: Plane) -> None:
    """Angle, factor and lift of every pixel's hue: the first band's, plus a smooth step to each following one.

    Bands are rows of (start, 1/width, steps of angle, factor and lift); row 0 holds the first band's values.
    """
    for i in range(n):
        k = u64(i)
        z[k + _ANGLE], z[k + _FACTOR], z[k + _LIFT] = bands[2], bands[3], bands[4]
    for band in range(1, bands.size // 5):
        j = u64(5 * band)
        start, per_width = bands[j], bands[j + u64(1)]
        angle, factor, lift = bands[j + u64(2)], bands[j + u64(3)], bands[j + u64(4)]
        if angle == ZERO and factor == ZERO and lift == ZERO:
            continue
        for i in range(n):
            k = u64(i)
            t = min(max((z[k + _HUE] - start) * per_width, ZERO), ONE)
            t = t * t * (THREE - TWO * t)
            z[k + _ANGLE] += angle * t
            z[k + _FACTOR] += factor * t
            z[k + _LIFT] += lift * t


@inline
def _recolor(z: Plane, n: int, vibrance: Any) -> None:
    """Turn and scale each colour about its mean, then set its luma; angles are at most half a radian."""
    for i in range(n):
        k = u64(i)
        r, g, b, chroma = z[k], z[k + _G], z[k + _B], z[k + _CHROMA]
        a = z[k + _ANGLE]
        a2 = a * a
        cos = ONE - a2 * (HALF - a2 * (f32(1 / 24) - a2 * f32(1 / 720)))
        sin = a * (ONE - a2 * (f32(1 / 6) - a2 * (f32(1 / 120) - a2 * f32(1 / 5040))))
        skin = max(ONE - abs(z[k + _HUE] * _PER_SKIN - ONE), ZERO)
        muted = (ONE - chroma) * (ONE - chroma) * (ONE - HALF * skin * skin * (THREE - TWO * skin))
        factor = z[k + _FACTOR] * (ONE + vibrance * muted)
        cos, sin = cos * factor, sin * factor * _INV_SQRT3
        mean = (r + g + b) * _THIRD
        dr = cos * (r - mean) + sin * (b - g)
        dg = cos * (g - mean) + sin * (r - b)
        db = cos * (b - mean) + sin * (g - r)
        y = _RED * (r - dr) + _GREEN * (g - dg) + _BLUE * (b - db) + z[k + _LIFT] * chroma
        z[k] = min(max(y + dr, ZERO), ONE)
        z[k + _G] = min(max(y + dg, ZERO), ONE)
        z[k + _B] = min(max(y + db, ZERO), ONE)


@inline
def _grade(z: Plane, n: int, table: Plane) -> None:
    """Add to each channel what the tables, laid end to end, say of the luma."""
    size = u64(table.size // 3)
    last = f32(table.size // 3 - 1)
    for i in range(n):
        k = u64(i)
        z[k + _HUE] = (_RED * z[k] + _GREEN * z[k + _G] + _BLUE * z[k + _B]) * last + HALF
    for c in range(3):
        plane = _ANGLE + u64(c * _STRIDE)
        for i in range(n):
            z[u64(i) + plane] = table[u64(np.int32(z[u64(i) + _HUE])) + u64(c) * size]
    for i in range(n):
        k = u64(i)
        z[k] = min(max(z[k] + z[k + _ANGLE], ZERO), ONE)
        z[k + _G] = min(max(z[k + _G] + z[k + _FACTOR], ZERO), ONE)
        z[k + _B] = min(max(z[k + _B] + z[k + _LIFT], ZERO), ONE)


@inline
def _is_untouched(mask: Plane, first: int, n: int) -> Any:
    """Whether the mask is 0 at n pixels."""
    most = ZERO
    for i in range(n):
        most = max(most, mask[u64(first + i)])
    return most == ZERO


@inline
def _apply_mask(z: Plane, n: int, source: Plane, mask: Plane, first: int) -> None:
    """Go from the source towards the planes by the mask."""
    for i in range(n):
        k, j = u64(i), u64(3 * (first + i))
        m = mask[u64(first + i)]
        z[k] = source[j] + m * (z[k] - source[j])
        z[k + _G] = source[j + u64(1)] + m * (z[k + _G] - source[j + u64(1)])
        z[k + _B] = source[j + u64(2)] + m * (z[k + _B] - source[j + u64(2)])


@inline
def _vignette(z: Plane, first: int, n: int, width: int, shape: tuple[Any, Any, Any], amount: Any) -> None:
    """Darken or brighten by the falloff, a table of the eighth root of column + row terms over its largest."""
    columns, rows, falloff = shape
    top = columns[0] + rows[0] + _TINY  # a single pixel is at the middle
    last = f32(falloff.size - 2)
    i = 0
    while i < n:
        y, x = (first + i) // width, (first + i) % width
        count = min(n - i, width - x)
        for j in range(count):
            q = min((columns[u64(x + j)] + rows[u64(y)]) / top, ONE)
            z[_HUE + u64(i + j)] = np.sqrt(np.sqrt(np.sqrt(q)))
        i += count
    _interpolate(z, _HUE, n, falloff, u64(0), last)
    for i in range(n):
        k = u64(i)
        part = amount * z[k + _HUE]
        gain, lift = (ONE + part, ZERO) if amount < ZERO else (ONE - part, part)
        z[k] = z[k] * gain + lift
        z[k + _G] = z[k + _G] * gain + lift
        z[k + _B] = z[k + _B] * gain + lift


@inline
def _add_grain(z: Plane, first: int, n: int, grain: Plane, strength: Any) -> None:
    """Add strength · 4 y (1 − y) · grain."""
    for i in range(n):
        k = u64(i)
        y = _RED * z[k] + _GREEN * z[k + _G] + _BLUE * z[k + _B]
        d = strength * f32(4.0) * y * (ONE - y) * grain[u64(first + i)]
        z[k] = min(max(z[k] + d, ZERO), ONE)
        z[k + _G] = min(max(z[k + _G] + d, ZERO), ONE)
        z[k + _B] = min(max(z[k + _B] + d, ZERO), ONE)


@inline
def _store_bytes(z: Plane, n: int, out: NDArray[np.uint8], start: int) -> None:
    """Round 0..1 to 0..255."""
    for i in range(n):
        k, j = u64(i), u64(start + 3 * i)
        out[j] = np.uint8(np.int32(z[k] * f32(255.0) + HALF))
        out[j + u64(1)] = np.uint8(np.int32(z[k + _G] * f32(255.0) + HALF))
        out[j + u64(2)] = np.uint8(np.int32(z[k + _B] * f32(255.0) + HALF))


@inline
def _store_floats(z: Plane, n: int, out: Plane, start: int) -> None:
    for i in range(n):
        k, j = u64(i), u64(start + 3 * i)
        out[j], out[j + u64(1)], out[j + u64(2)] = z[k], z[k + _G], z[k + _B]


@inline
def _store_plane(z: Plane, n: int, out: Plane, first: int, smallest: bool) -> None:
    for i in range(n):
        k = u64(i)
        luma = _RED * z[k] + _GREEN * z[k + _G] + _BLUE * z[k + _B]
        out[u64(first + i)] = min(min(z[k], z[k + _G]), z[k + _B]) if smallest else luma


@kernel
def render_pixels(
    source: tuple[NDArray[np.uint8], Plane],
    out: tuple[NDArray[np.uint8], Plane],
    output: int,
    width: int,
    tones: tuple[Plane, Plane, Plane],
    planes: tuple[Plane, Plane, Plane, Plane],
    color: tuple[Plane, Plane],
    shape: tuple[Plane, Plane, Plane],
    amounts: tuple[float, float, float],
) -> None:
    """Render with tables and planes; an empty array leaves its stage out.

    Args:
        source: The photo as bytes or as encoded floats in 0..1, interleaved and flat, and an empty array of the other.
        out: Where it goes, likewise; floats may be written over the source.
        output: `TO_BYTES`, `TO_FLOATS`, `TO_TONES`, `TO_LUMA` or `TO_DARK`; the last two take one float a pixel.
        width: Pixels per row.
        tones: Tables that the source goes through, three of 256 for bytes or three to interpolate for floats; where
            the stages of linear light follow, 12 values of matrix and offset, and three tables on the root axis.
        planes: The veil, what to add to the channels, the mask, grain: one float a pixel. With a mask, out is the
            source, and stays as it is where the mask is 0.
        color: Colour bands (see `_mix_bands`), and three tables of grading by luma.
        shape: Of the vignette: columns, rows, falloff by distance.
        amounts: Vibrance times 0.8, vignette in −1..1, deviation of the grain.
    """
    bytes_in, floats_in = source
    load, matrix, curves = tones
    veil, delta, mask, grain = planes
    bands, grades = color
    vibrance, vignette, grain_strength = f32(amounts[0]), f32(amounts[1]), f32(amounts[2])
    total = (bytes_in.size + floats_in.size) // 3
    z = np.empty(_PLANES * _STRIDE, np.float32)
    for first in range(0, total, CHUNK):
        n = min(CHUNK, total - first)
        if mask.size > 0 and _is_untouched(mask, first, n):
            continue
        if bytes_in.size > 0:
            _look_up(bytes_in, 3 * first, n, load, z)
        else:
            _copy(floats_in, 3 * first, n, z)
            if load.size > 0:
                _interpolate_all(z, n, load)
        if matrix.size > 0:
            if veil.size > 0:
                _lift_veil(z, n, veil, first)
            _mix_channels(z, n, matrix)
            _interpolate_all(z, n, curves)
        if output >= TO_LUMA:
            _store_plane(z, n, out[1], first, output == TO_DARK)
            continue
        if output == TO_TONES:
            _store_floats(z, n, out[1], 3 * first)
            continue
        if delta.size > 0:
            _add_plane(z, n, delta, first)
        if bands.size > 0:
            _find_hue(z, n)
            _mix_bands(z, n, bands)
            _recolor(z, n, vibrance)
        if grades.size > 0:
            _grade(z, n, grades)
        if mask.size > 0:
            _apply_mask(z, n, floats_in, mask, first)
        if vignette != ZERO:
            _vignette(z, first, n, width, shape, vignette)
        if grain.size > 0:
            _add_grain(z, first, n, grain, grain_strength)
        if output == TO_BYTES:
            _store_bytes(z, n, out[0], 3 * first)
        else:
            _store_floats(z, n, out[1], 3 * first)
