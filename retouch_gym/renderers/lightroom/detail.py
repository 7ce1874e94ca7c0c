"""Everything that looks at neighbours: dehaze's veil, noise reduction, texture, clarity, sharpening.

Plain NumPy, float64. Planes are (H, W). What spans many pixels is found at a reduced size: the mean of every f × f
block (edges repeated to fill the last), filtered, and enlarged bilinearly, samples at the middles of blocks. Beyond
the edges every filter repeats the edge. Sizes of texture, clarity and dehaze are shares of the longer side, so that
a recipe looks the same on a thumbnail; those of noise reduction and sharpening are pixels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from retouch_gym.renderers.lightroom.settings import Settings
from retouch_gym.renderers.lightroom.tone import LUMA, decode

Array = NDArray[np.float64]

TEXTURE_STRENGTH, CLARITY_STRENGTH = 0.9, 0.8
CLARITY_EPS, NOISE_EPS, COLOR_EPS = 0.01, 0.0025, 0.001
NOISE_RADIUS = 2
COLOR_FACTOR, COLOR_RADIUS = 2, 2
HALO, EDGE = 0.05, 0.02
"""Sharpening: contrast at which halos are halved, and mean contrast that masking 100 takes for half an edge."""
DEHAZE, HAZE = 0.85, 0.25


def gaussian_weights(sigma: float) -> Array:
    """Weights exp(−i²/2σ²) for |i| ≤ ⌈3σ⌉, over their sum: shape (2⌈3σ⌉ + 1,)."""
    radius = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.asarray(weights / weights.sum())


def convolve(plane: Array, weights: Array) -> Array:
    """The plane under the same symmetric weights along rows and columns, edges repeated."""
    radius = len(weights) // 2
    for axis in (0, 1):
        padded = np.pad(plane, [(radius, radius) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        size = plane.shape[axis]
        plane = sum(w * np.take(padded, range(i, i + size), axis=axis) for i, w in enumerate(weights))
    return plane


def box(plane: Array, radius: int) -> Array:
    """Mean of the (2 radius + 1)² pixels around each."""
    return convolve(plane, np.full(2 * radius + 1, 1 / (2 * radius + 1)))


def erode(plane: Array) -> Array:
    """Smallest of the 3 × 3 pixels around each."""
    padded = np.pad(plane, 1, mode="edge")
    rows = np.minimum(np.minimum(padded[:-2], padded[1:-1]), padded[2:])
    return np.asarray(np.minimum(np.minimum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:]))


def reduce(plane: Array, f: int) -> Array:
    """Means of f × f blocks: shape (⌈H/f⌉, ⌈W/f⌉)."""
    height, width = plane.shape
    padded = np.pad(plane, [(0, -height % f), (0, -width % f)], mode="edge")
    blocks = padded.reshape(padded.shape[0] // f, f, padded.shape[1] // f, f)
    return np.asarray(blocks.mean(axis=(1, 3)))


def enlarge(plane: Array, f: int, height: int, width: int) -> Array:
    """Bilinear enlargement by f, cut to (height, width): pixel i reads at (i + ½)/f − ½, clipped to the plane."""
    for axis, size in ((0, height), (1, width)):
        n = plane.shape[axis]
        at = np.clip((np.arange(size) + 0.5) / f - 0.5, 0, n - 1)
        low = np.minimum(at.astype(int), max(n - 2, 0))
        share = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        first, second = np.take(plane, low, axis=axis), np.take(plane, np.minimum(low + 1, n - 1), axis=axis)
        plane = first + share * (second - first)
    return plane


def guided(guide: Array, plane: Array, f: int, radius: int, eps: float) -> Array:
    """Guided filter (He, Sun and Tang 2013; at a reduced size: He and Sun 2015): smooth but for the guide's edges.

    At 1/f of the size, with means over boxes: a = cov(guide, plane)/(var(guide) + eps), b = mean(plane) −
    a mean(guide); then mean(a) · guide + mean(b), enlarged.
    """
    g, p = reduce(guide, f), reduce(plane, f)
    mean_g, mean_p = box(g, radius), box(p, radius)
    a = (box(g * p, radius) - mean_g * mean_p) / (box(g * g, radius) - mean_g**2 + eps)
    b = mean_p - a * mean_g
    return enlarge(box(a, radius), f, *guide.shape) * guide + enlarge(box(b, radius), f, *guide.shape)


def texture_scale(longest: int) -> tuple[int, float]:
    """Reduction and σ at that reduction, for σ = max(0.003 · longer side, 0.8) pixels."""
    sigma = max(0.003 * longest, 0.8)
    f = max(1, int(sigma / 1.5))
    return f, sigma / f


def clarity_scale(longest: int) -> tuple[int, int]:
    """Reduction and box radius at that reduction, for a radius of 0.02 · longer side."""
    radius = max(1, round(0.02 * longest))
    f = max(1, radius // 3)
    return f, max(1, round(radius / f))


def veil_scale(longest: int) -> int:
    """Reduction at which the veil is found."""
    return max(1, longest // 256)


def haze_veil(encoded: Array) -> Array:
    """The veil of haze over each pixel, linear 0..1: what even the darkest channel nearby has (He, Sun and Tang 2009).

    The smallest channel of encoded (H, W, 3), decoded and reduced; the least of 3 × 3, a Gaussian with σ = 2, enlarged.
    """
    dark = decode(np.clip(encoded.min(axis=-1), 0, 1))
    f = veil_scale(max(dark.shape))
    return enlarge(convolve(erode(reduce(dark, f)), gaussian_weights(2.0)), f, *dark.shape)


def dehaze(linear: Array, veil: Array | None, v: float) -> Array:
    """Above 0 (x − u)/(1 − u) with u = 0.85 v · veil; below 0 x + 0.25 |v| (1 − x). Linear (H, W, 3), veil (H, W)."""
    if veil is None:
        return np.asarray(linear - HAZE * v * (1 - linear))
    u = (DEHAZE * v * veil)[..., None]
    return np.asarray((linear - u) / (1 - u))


def reduce_color_noise(rgb: Array, v: float) -> Array:
    """Encoded (H, W, 3) with chroma drawn towards its guided smooth by v; luma stays.

    With Y the luma: R − Y and B − Y become x + v (guided(Y, x) − x), reduced by 2, box radius 2, eps 0.001.
    """
    y = np.asarray(rgb @ np.array(LUMA))
    planes = [rgb[..., channel] - y for channel in (0, 2)]
    red, blue = (x + v * (guided(y, x, COLOR_FACTOR, COLOR_RADIUS, COLOR_EPS) - x) for x in planes)
    green = -(LUMA[0] * red + LUMA[2] * blue) / LUMA[1]
    return np.stack([y + red, y + green, y + blue], axis=-1)


def sharpen(y: Array, settings: Settings) -> Array:
    """What sharpening adds to a luma plane.

    h = y − Gaussian(y, radius); detail d and masking m in 0..1 limit it: h/(1 + (1 − d)|h|/0.05) · (E + 10⁻⁴)/(E +
    10⁻⁴ + 0.02 m) with E = Gaussian(|h|, 2); times amount/100.
    """
    h = y - convolve(y, gaussian_weights(settings["sharpening_radius"]))
    detail, masking = settings["sharpening_detail"] / 100, settings["sharpening_masking"] / 100
    limited = h / (1 + (1 - detail) * np.abs(h) / HALO)
    if masking:
        edges = convolve(np.abs(h), gaussian_weights(2.0)) + 1e-4
        limited = limited * edges / (edges + EDGE * masking)
    return np.asarray(settings["sharpening_amount"] / 100 * limited)


def luma_detail(y: Array, settings: Settings) -> Array:
    """What noise reduction, texture, clarity and sharpening add to R, G and B alike: a plane, from the luma plane.

    z = y + n (guided(y, y) − y), radius 2, eps 0.0025, of luminance noise reduction n; then texture t adds
    0.9 t (z − Gaussian(z)), clarity c 0.8 c · 4 z (1 − z)(z − guided(z, z)), eps 0.01, and sharpening `sharpen`.
    """
    z = y
    if settings["noise_luminance"]:
        z = y + settings["noise_luminance"] / 100 * (guided(y, y, 1, NOISE_RADIUS, NOISE_EPS) - y)
    out = z - y
    if settings["texture"]:
        f, sigma = texture_scale(max(y.shape))
        smooth = enlarge(convolve(reduce(z, f), gaussian_weights(sigma)), f, *y.shape)
        out = out + TEXTURE_STRENGTH * settings["texture"] / 100 * (z - smooth)
    if settings["clarity"]:
        base = guided(z, z, *clarity_scale(max(y.shape)), CLARITY_EPS)
        out = out + CLARITY_STRENGTH * settings["clarity"] / 100 * 4 * z * (1 - z) * (z - base)
    if settings["sharpening_amount"]:
        out = out + sharpen(z, settings)
    return out
