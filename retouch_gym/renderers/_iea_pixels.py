"""Everything that looks at one pixel: tone table, colour, temperature and tint, grain, vignette.

The photo is worked on in chunks that stay in the first-level cache: looked up into planar float32, passed
through short loops, and stored. Short loops are the point: a processor has only so many instructions in
flight, and one long chain of dependent operations per pixel ran at half the speed of the same chain cut
in five. The scratch planes lie at constant offsets in one buffer, so that the compiler can tell them apart
and vectorise; table look-ups have their own loop because nothing that indexes by data is vectorised.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from retouch_gym.compiling import fma, from_bits, inline, kernel, to_bits

f32 = np.float32
u64 = np.uint64

CHUNK = 1024
# 16 more than the chunk, or the planes would lie a page apart and loads would wait for unrelated stores.
_STRIDE = CHUNK + 16
_G, _B, _M = u64(_STRIDE), u64(2 * _STRIDE), u64(3 * _STRIDE)

ZERO, HALF, ONE, TOP = f32(0.0), f32(0.5), f32(1.0), f32(255.0)
_INV255 = f32(1.0 / 255.0)
_TINY = f32(1e-30)  # keeps 0 / 0 from being asked; vanishes beside any level
_ROUND = f32(12582912.0)  # 1.5 · 2^23: adding and subtracting it rounds to the nearest whole number


@inline
def _look_up(source: NDArray[np.uint8], start: int, n: int, table: NDArray[np.float32], z: NDArray[np.float32]) -> None:
    """Levels of n pixels through the table into three planes, one plane at a time (half the stores)."""
    for i in range(n):
        z[u64(i)] = table[source[u64(start + 3 * i)]]
    for i in range(n):
        z[u64(i) + _G] = table[source[u64(start + 3 * i + 1)]]
    for i in range(n):
        z[u64(i) + _B] = table[source[u64(start + 3 * i + 2)]]


@inline
def _to_hsv(z: NDArray[np.float32], n: int, gain: Any, vibrance: Any) -> None:
    """Whole levels of R, G and B to 8-bit HSV, byte for byte as OpenCV, then saturation and vibrance.

    With v and m the largest and smallest channel, d = v − m and h the sextant times d:
    S = ⌊d · rint(1044480/v)/4096 + ½⌋ and H = ⌊h · rint(122880/d)/4096 + ½⌋, +180 below 0.
    The planes become H/30, the new S/255 and v.
    """
    for i in range(n):
        k = u64(i)
        r, g, b = z[k], z[k + _G], z[k + _B]
        v = max(max(r, g), b)
        d = v - min(min(r, g), b)
        z[k] = (g - b) if v == r else (fma(f32(2.0), d, b - r) if v == g else fma(f32(4.0), d, r - g))
        z[k + _G] = d
        z[k + _B] = v
    for i in range(n):
        k = u64(i)
        d = z[k + _G]
        per_value = (f32(1044480.0) / (z[k + _B] + _TINY) + _ROUND) - _ROUND
        per_chroma = (f32(122880.0) / (d + _TINY) + _ROUND) - _ROUND
        # The extra ½ inside turns "round half to even" into "round half up"; all products are exact.
        h = fma(fma(z[k], per_chroma, HALF), f32(1.0 / 4096.0), _ROUND) - _ROUND
        z[k + _G] = fma(fma(d, per_value, HALF), f32(1.0 / 4096.0), _ROUND) - _ROUND
        z[k] = (h + f32(180.0) if h < ZERO else h) * f32(6.0 / 180.0)
    for i in range(n):
        k = u64(i)
        byte = z[k + _G]
        s = byte * _INV255
        s = fma(fma(-s, TOP, byte), _INV255, s)  # byte / 255 to the last bit
        s = min(s * gain, ONE)
        z[k + _G] = np.floor((s + vibrance * s) * TOP) * _INV255


@inline
def _from_hsv(z: NDArray[np.float32], begin: int, end: int, rounds: bool) -> None:
    """Planes of h (0..6), S (0..1) and V (0..255) to whole levels of R, G and B."""
    for i in range(begin, end):
        k = u64(i)
        h, s, v = z[k], z[k + _G], z[k + _B] * _INV255
        red = v * fma(-s, min(max(f32(2.0) - abs(h - f32(3.0)), ZERO), ONE), ONE) * TOP
        green = v * fma(-s, min(max(max(ONE - h, h - f32(3.0)), ZERO), ONE), ONE) * TOP
        blue = v * fma(-s, min(max(abs(h - f32(4.0)) - ONE, ZERO), ONE), ONE) * TOP
        z[k] = np.rint(red) if rounds else np.floor(red)
        z[k + _G] = np.rint(green) if rounds else np.floor(green)
        z[k + _B] = np.rint(blue) if rounds else np.floor(blue)


@inline
def _from_hsv_as_opencv(z: NDArray[np.float32], first: int, n: int, width: int) -> None:
    """`_from_hsv` with OpenCV's roundings: it takes 32 pixels of a row at a time and truncates; what is left rounds."""
    whole = width - width % 32
    i = 0
    while i < n:
        x = (first + i) % width
        rounds = x >= whole
        count = n - i
        if 0 < whole < width:
            count = min(count, width - x if rounds else whole - x)
        _from_hsv(z, i, i + count, rounds)
        i += count


@inline
def _saturate(z: NDArray[np.float32], n: int, gain: Any, vibrance: Any) -> None:
    """Saturation and vibrance that keep the hue and the largest channel, without leaving RGB.

    With v the largest channel, d = v − smallest and S = d/v: S₁ = min(gain · S, 1), then
    S₂ = S₁ (1 + vibrance (1 − S₁)); a channel x becomes v − (v − x) S₂/S.
    """
    for i in range(n):
        k = u64(i)
        v = max(max(z[k], z[k + _G]), z[k + _B])
        d = v - min(min(z[k], z[k + _G]), z[k + _B])
        d1 = min(gain * d, v)
        z[k + _M] = d1 / (d + _TINY) * (ONE + vibrance * (ONE - d1 / (v + _TINY)))
    for i in range(n):
        k = u64(i)
        v = max(max(z[k], z[k + _G]), z[k + _B])
        z[k] = v - (v - z[k]) * z[k + _M]
        z[k + _G] = v - (v - z[k + _G]) * z[k + _M]
        z[k + _B] = v - (v - z[k + _B]) * z[k + _M]


@inline
def _shift(z: NDArray[np.float32], n: int, red: Any, green: Any, blue: Any, tint: Any) -> None:
    """Temperature (three offsets), then tint (one more for green), clipped after each."""
    for i in range(n):
        k = u64(i)
        z[k] = min(max(z[k] + red, ZERO), TOP)
        z[k + _G] = min(max(min(max(z[k + _G] + green, ZERO), TOP) + tint, ZERO), TOP)
        z[k + _B] = min(max(z[k + _B] + blue, ZERO), TOP)


@inline
def _mix(x: Any) -> Any:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014): every input bit reaches every output bit."""
    x = (x ^ (x >> u64(30))) * u64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> u64(27))) * u64(0x94D049BB133111EB)
    return x ^ (x >> u64(31))


@inline
def _add_grain(z: NDArray[np.float32], first: int, n: int, key: Any, levels: Any, normal: NDArray[np.float32]) -> None:
    """Gaussian noise, a function of the key, the pixel's index and the channel."""
    for i in range(n):
        bits = _mix(u64(key) + u64(first + i + 1) * u64(0x9E3779B97F4A7C15))
        k = u64(i)
        z[k] = min(max(z[k] + levels * normal[bits & u64(4095)], ZERO), TOP)
        z[k + _G] = min(max(z[k + _G] + levels * normal[(bits >> u64(16)) & u64(4095)], ZERO), TOP)
        z[k + _B] = min(max(z[k + _B] + levels * normal[(bits >> u64(32)) & u64(4095)], ZERO), TOP)


@inline
def _radii(z: NDArray[np.float32], first: int, n: int, width: int, height: int, cover: Any) -> None:
    """Squared distance to the centre over that of the farthest pixel and over cover², at most 1."""
    middle_x, middle_y = f32(width) * HALF, f32(height) * HALF
    scale = ONE / ((middle_x * middle_x + middle_y * middle_y) * cover * cover)
    i = 0
    while i < n:
        y, x = (first + i) // width, (first + i) % width
        count = min(n - i, width - x)
        dy = (f32(y) - middle_y) * (f32(y) - middle_y)
        for j in range(count):
            dx = f32(x + j) - middle_x
            z[_M + u64(i + j)] = min((dx * dx + dy) * scale, ONE)
        i += count


@inline
def _power(z: NDArray[np.float32], n: int, exponent: Any) -> None:
    """q^exponent in place on the fourth plane, q in 0..1: 2^(exponent · log₂ q), relative error below 1e-5."""
    for i in range(n):
        k = _M + u64(i)
        bits = to_bits(z[k])
        octave = np.int32((bits - np.int32(0x3F3504F3)) >> 23)
        m = from_bits(np.int32(bits - np.int32(octave << 23)))  # in √½..√2
        s = (m - ONE) / (m + ONE)
        s2 = s * s
        series = ONE + s2 * (f32(1 / 3) + s2 * (f32(1 / 5) + s2 * f32(1 / 7)))  # artanh(s) / s
        z[k] = max(exponent * (f32(octave) + f32(2.8853900817779268) * s * series), f32(-126.0))
    for i in range(n):
        k = _M + u64(i)
        whole = (z[k] + _ROUND) - _ROUND
        t = (z[k] - whole) * f32(0.6931471805599453)
        e = ONE + t * (ONE + t * (HALF + t * (f32(1 / 6) + t * (f32(1 / 24) + t * f32(1 / 120)))))
        z[k] = e * from_bits(np.int32(np.int32(np.int32(whole) + np.int32(127)) << 23))


@inline
def _apply_vignette(z: NDArray[np.float32], n: int, strength: Any, target: Any) -> None:
    """Blend towards black or white by strength times the fourth plane."""
    for i in range(n):
        k = u64(i)
        amount = strength * z[k + _M]
        z[k] = z[k] + amount * (target - z[k])
        z[k + _G] = z[k + _G] + amount * (target - z[k + _G])
        z[k + _B] = z[k + _B] + amount * (target - z[k + _B])


@inline
def _store(
    z: NDArray[np.float32], n: int, out: NDArray[np.uint8], start: int, half: Any, shift: tuple[Any, Any, Any, Any]
) -> None:
    """Shift as in `_shift`, clip, add ½ to round or 0 to truncate, write as bytes."""
    red, green, blue, tint = shift
    for i in range(n):
        k, j = u64(i), u64(start + 3 * i)
        g = min(max(z[k + _G] + green, ZERO), TOP) + tint
        out[j] = np.uint8(np.int32(min(max(z[k] + red, ZERO), TOP) + half))
        out[j + u64(1)] = np.uint8(np.int32(min(max(g, ZERO), TOP) + half))
        out[j + u64(2)] = np.uint8(np.int32(min(max(z[k + _B] + blue, ZERO), TOP) + half))


@kernel
def render_pixels(
    source: NDArray[np.uint8],
    out: NDArray[np.uint8],
    width: int,
    table: NDArray[np.float32],
    compat: bool,
    colour: tuple[float, float],
    shift: tuple[float, float, float, float],
    grain: tuple[float, int],
    normal: NDArray[np.float32],
    vignette: tuple[float, float, float],
) -> None:
    """Render all sliders but sharpness.

    Args:
        source: uint8 (3 · height · width,), R G B interleaved; not written.
        out: As large, written.
        width: Pixels per row.
        table: Tone table of `fill_tone_table`.
        compat: Published arithmetic: 8-bit HSV always, and truncation instead of rounding.
        colour: Factor of the saturation; vibrance in −1..1.
        shift: Levels added to R, G and B (temperature), then to G (tint).
        grain: Standard deviation in levels, 0 for none; 63-bit key.
        normal: float32 (4096,), equally likely values of a normal variable.
        vignette: Strength, negative to brighten, 0 for none; cover; exponent of the radius.
    """
    gain, vibrance = f32(colour[0]), f32(colour[1])
    red, green, blue, tint = f32(shift[0]), f32(shift[1]), f32(shift[2]), f32(shift[3])
    strength, cover, half_power = f32(vignette[0]), f32(vignette[1]), f32(0.5 * vignette[2])
    effects = grain[0] > 0.0 or strength != ZERO
    late = ZERO if effects else ONE  # where nothing comes between, the shift is done on the way out
    recolours = gain != ONE or vibrance != ZERO
    total = source.size // 3
    height = total // width
    z = np.empty(4 * _STRIDE, np.float32)
    for first in range(0, total, CHUNK):
        n = min(CHUNK, total - first)
        _look_up(source, 3 * first, n, table, z)
        if compat:
            _to_hsv(z, n, gain, vibrance)
            _from_hsv_as_opencv(z, first, n, width)
        elif recolours:
            _saturate(z, n, gain, vibrance)
        if effects:
            _shift(z, n, red, green, blue, tint)
        if grain[0] > 0.0:
            _add_grain(z, first, n, grain[1], f32(grain[0]), normal)
        if strength != ZERO:
            _radii(z, first, n, width, height, cover)
            _power(z, n, half_power)
            _apply_vignette(z, n, abs(strength), ZERO if strength > ZERO else TOP)
        half = ZERO if compat else HALF
        _store(z, n, out, 3 * first, half, (late * red, late * green, late * blue, late * tint))
