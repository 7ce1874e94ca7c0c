"""CIELAB of 8-bit sRGB, and CIEDE2000 between two photos.

A photo passes in chunks through short loops over planes at constant offsets of one buffer, as in the renderers'
kernels. Lab is computed in float64, since a and b are small differences of large numbers; what follows from it
is float32, and written so that nothing small is left over from something large: the chroma difference comes from
a₂ − a₁ and b₂ − b₁, the hue difference from a cross product, the mean hue as a direction and never as an angle.

Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula" (2005), equations (2) to (22).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retouch_gym.compiling import from_bits, inline, kernel, to_bits

f32 = np.float32
f64 = np.float64
i32 = np.int32
u64 = np.uint64

CHUNK = 512
_STRIDE = CHUNK + 16  # not a power of two, or the planes would share cache lines
_A, _B = u64(_STRIDE), u64(2 * _STRIDE)
# Planes of the float32 buffer.
_DC, _DH, _COS, _SIN, _MEAN, _L, _DL, _TWIST = (u64(place * _STRIDE) for place in range(8))

ZERO, HALF, ONE, TWO = f32(0.0), f32(0.5), f32(1.0), f32(2.0)
_TINY = f32(1e-30)  # keeps 0 / 0 from being asked; vanishes beside anything
_ROUND = f32(12582912.0)  # 1.5 · 2^23: adding and subtracting it rounds to the nearest whole number
_POWER = f32(25.0**7)
_COS30, _SIN30 = f32(math.cos(math.radians(30))), f32(math.sin(math.radians(30)))
_COS6, _SIN6 = f32(math.cos(math.radians(6))), f32(math.sin(math.radians(6)))
_COS63, _SIN63 = f32(math.cos(math.radians(63))), f32(math.sin(math.radians(63)))
_COS275, _SIN275 = f32(math.cos(math.radians(275))), f32(math.sin(math.radians(275)))
_STEEPNESS = f32((math.degrees(4.0) / 25.0) ** 2 * math.log2(math.e))  # of a quarter of the angle in radians
_SIXTY = f32(math.radians(60))
_LEAST = f32(-50.0)  # 2^-50 is nothing here, and its square is still a normal number: others are slow


@inline
def _cube_root(x: float) -> float:
    """Cube root of a positive number; relative error below 1e-10.

    The first guess of x^(−1/3) divides the exponent by −3 through the bits of a float32; two steps of third order
    follow, y ← y (1 + e/3 + 2e²/9) with e = 1 − x y³.
    """
    single = f32(x)
    y = from_bits(i32(f32(1419967500.0) - f32(to_bits(single)) * f32(1.0 / 3.0)))
    e = ONE - single * y * y * y
    z = f64(y * (ONE + e * (f32(1 / 3) + f32(2 / 9) * e)))
    r = 1.0 - x * z * z * z
    z = z * (1.0 + r * (1.0 / 3.0 + (2.0 / 9.0) * r))
    return x * z * z


@inline
def _nonlinear(t: float) -> float:
    """The f of CIELAB, with the published decimals."""
    return _cube_root(max(t, 0.008856)) if t > 0.008856 else 7.787 * t + 16.0 / 116.0


@inline
def _to_lab(
    photo: NDArray[np.uint8], start: int, n: int, linear: NDArray[np.float64], weights: NDArray[np.float64], z: Any
) -> None:
    """Lab of n pixels into three float64 planes."""
    for i in range(n):
        z[u64(i)] = linear[photo[u64(start + 3 * i)]]
    for i in range(n):
        z[u64(i) + _A] = linear[photo[u64(start + 3 * i + 1)]]
    for i in range(n):
        z[u64(i) + _B] = linear[photo[u64(start + 3 * i + 2)]]
    w0, w1, w2 = weights[0], weights[1], weights[2]
    w3, w4, w5 = weights[3], weights[4], weights[5]
    w6, w7, w8 = weights[6], weights[7], weights[8]
    for i in range(n):
        k = u64(i)
        r, g, b = z[k], z[k + _A], z[k + _B]
        x = _nonlinear(w0 * r + w1 * g + w2 * b)
        y = _nonlinear(w3 * r + w4 * g + w5 * b)
        w = _nonlinear(w6 * r + w7 * g + w8 * b)
        z[k] = 116.0 * y - 16.0
        z[k + _A] = 500.0 * (x - y)
        z[k + _B] = 200.0 * (y - w)


@inline
def _differences(p: NDArray[np.float64], q: NDArray[np.float64], z: NDArray[np.float32], n: int) -> None:
    """ΔL′, ΔC′, ΔH′, mean L and C′ and the direction of the mean hue, equations (2) to (14)."""
    for i in range(n):
        k = u64(i)
        z[k + _L] = f32(HALF * f32(p[k] + q[k]))
        z[k + _DL] = f32(q[k] - p[k])
        a1, b1, a2, b2 = f32(p[k + _A]), f32(p[k + _B]), f32(q[k + _A]), f32(q[k + _B])
        da, db = f32(q[k + _A] - p[k + _A]), f32(q[k + _B] - p[k + _B])
        mean = HALF * (np.sqrt(a1 * a1 + b1 * b1) + np.sqrt(a2 * a2 + b2 * b2))
        c3 = mean * mean * mean
        c7 = c3 * c3 * mean
        stretch = ONE + HALF * (ONE - np.sqrt(c7 / (c7 + _POWER)))
        a1, a2, da = stretch * a1, stretch * a2, stretch * da
        c1, c2 = np.sqrt(a1 * a1 + b1 * b1), np.sqrt(a2 * a2 + b2 * b2)
        z[k + _MEAN] = HALF * (c1 + c2)
        z[k + _DC] = (da * (a1 + a2) + db * (b1 + b2)) / (c1 + c2 + _TINY)
        dot, cross, product = a1 * a2 + b1 * b2, a1 * db - b1 * da, c1 * c2
        # 2 √(C₁C₂) sin(Δh/2), by whichever of two forms does not cancel.
        near = cross / np.sqrt(HALF * (product + max(dot, ZERO)) + _TINY)
        away = np.sqrt(TWO * max(product - dot, ZERO))
        z[k + _DH] = near if dot >= ZERO else (away if cross >= ZERO else -away)
        # The mean hue halves the smaller angle between the two directions; a colour without chroma has none.
        u1, v1 = a1 / (c1 + _TINY), b1 / (c1 + _TINY)
        u2, v2 = a2 / (c2 + _TINY), b2 / (c2 + _TINY)
        turn = ONE if cross >= ZERO else -ONE
        x = u1 + u2 if dot >= ZERO else turn * (v2 - v1)
        y = v1 + v2 if dot >= ZERO else turn * (u1 - u2)
        length = np.sqrt(x * x + y * y) + _TINY
        z[k + _COS] = x / length if length > HALF else ONE
        z[k + _SIN] = y / length


@inline
def _twist(z: NDArray[np.float32], n: int) -> None:
    """sin(2Δθ) with Δθ = 30° exp(−((h̄ − 275°)/25)²), equation (16), from the direction of the mean hue.

    Far from 275° it vanishes, so that the seam of the angle and the error of the series there do not matter.
    """
    for i in range(n):
        k = u64(i)
        c, s = z[k + _COS], z[k + _SIN]
        x, y = c * _COS275 + s * _SIN275, s * _COS275 - c * _SIN275
        half = y / (ONE + abs(x))  # tangent of half the angle, up to a right angle
        t = half / (ONE + np.sqrt(ONE + half * half))  # tangent of a quarter of it
        g = t * t
        t = t * (ONE - g * (f32(1 / 3) - g * (f32(1 / 5) - g * (f32(1 / 7) - g * (f32(1 / 9) - g * f32(1 / 11))))))
        z[k + _TWIST] = max(-_STEEPNESS * t * t, _LEAST) if x >= ZERO else _LEAST
    for i in range(n):
        k = u64(i)
        whole = (z[k + _TWIST] + _ROUND) - _ROUND
        r = (z[k + _TWIST] - whole) * f32(math.log(2.0))
        e = ONE + r * (ONE + r * (HALF + r * (f32(1 / 6) + r * (f32(1 / 24) + r * (f32(1 / 120) + r * f32(1 / 720))))))
        angle = _SIXTY * e * from_bits(i32(i32(i32(whole) + i32(127)) << 23))
        g = angle * angle
        sine = ONE - g * (f32(1 / 6) - g * (f32(1 / 120) - g * (f32(1 / 5040) - g * f32(1 / 362880))))
        z[k + _TWIST] = angle * sine


@inline
def _add_up(z: NDArray[np.float32], n: int, totals: NDArray[np.float64]) -> None:
    """Add ΔE to one total per place in the chunk, equations (15) to (22)."""
    for i in range(n):
        k = u64(i)
        c, s, mean = z[k + _COS], z[k + _SIN], z[k + _MEAN]
        c2, s2 = TWO * c * c - ONE, TWO * s * c
        c3, s3 = c * (f32(4.0) * c * c - f32(3.0)), s * (f32(3.0) - f32(4.0) * s * s)
        c4, s4 = TWO * c2 * c2 - ONE, TWO * s2 * c2
        t = ONE - f32(0.17) * (c * _COS30 + s * _SIN30) + f32(0.24) * c2
        t = t + f32(0.32) * (c3 * _COS6 - s3 * _SIN6) - f32(0.2) * (c4 * _COS63 + s4 * _SIN63)
        m = (z[k + _L] - f32(50.0)) * (z[k + _L] - f32(50.0))
        lightness = z[k + _DL] / (ONE + f32(0.015) * m / np.sqrt(f32(20.0) + m))
        chroma = z[k + _DC] / (ONE + f32(0.045) * mean)
        hue = z[k + _DH] / (ONE + f32(0.015) * mean * t)
        p3 = mean * mean * mean
        p7 = p3 * p3 * mean
        twist = TWO * np.sqrt(p7 / (p7 + _POWER)) * z[k + _TWIST]
        square = lightness * lightness + chroma * chroma + hue * hue - twist * chroma * hue
        totals[k] += np.sqrt(max(square, ZERO))


@kernel
def delta_e_sum(
    a: NDArray[np.uint8], b: NDArray[np.uint8], linear: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    """Sum of the CIEDE2000 of all pixels.

    Args:
        a: uint8 (3 · N,), R G B interleaved.
        b: As large.
        linear: float64 (256,), light of each level.
        weights: float64 (9,), rows of the matrix from linear RGB to X, Y, Z over those of white.
    """
    p, q = np.empty(3 * _STRIDE, f64), np.empty(3 * _STRIDE, f64)
    z = np.empty(8 * _STRIDE, f32)
    totals = np.zeros(CHUNK, f64)
    pixels = a.size // 3
    for first in range(0, pixels, CHUNK):
        n = min(CHUNK, pixels - first)
        _to_lab(a, 3 * first, n, linear, weights, p)
        _to_lab(b, 3 * first, n, linear, weights, q)
        _differences(p, q, z, n)
        _twist(z, n)
        _add_up(z, n, totals)
    return float(totals.sum())


@kernel
def lab_sums(
    photo: NDArray[np.uint8], linear: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """Sums of L, a, b and (L − 50)² over all pixels; arguments as in `delta_e_sum`."""
    p = np.empty(3 * _STRIDE, f64)
    totals = np.zeros((4, CHUNK), f64)
    pixels = photo.size // 3
    for first in range(0, pixels, CHUNK):
        n = min(CHUNK, pixels - first)
        _to_lab(photo, 3 * first, n, linear, weights, p)
        for i in range(n):
            k = u64(i)
            totals[0, k] += p[k]
            totals[1, k] += p[k + _A]
            totals[2, k] += p[k + _B]
            totals[3, k] += (p[k] - 50.0) * (p[k] - 50.0)
    return totals[0].sum(), totals[1].sum(), totals[2].sum(), totals[3].sum()
