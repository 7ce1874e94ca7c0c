"""Vignette and grain, which see the frame that a crop leaves: shapes and noise, in NumPy.

Both act on encoded values in 0..1.
"""

from __future__ import annotations

import functools
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from retouch_gym.renderers.lightroom.detail import convolve, gaussian_weights
from retouch_gym.renderers.lightroom.settings import Settings

Array = NDArray[np.float64]

GRAIN_STRENGTH = 0.12
"""Standard deviation of grain 100 on middle grey."""


def vignette_axes(height: int, width: int, settings: Settings) -> tuple[Array, Array, float]:
    """|distance from the middle|^p of every column (W,) and row (H,) in half axes, and p.

    Roundness ρ below 0 makes the ellipse a rounded frame, p = 2 − 6ρ; above 0 its half axes go from W/2 and H/2 to
    the larger of them, a circle.
    """
    roundness = settings["vignette_roundness"] / 100
    p = 2 - 6 * min(roundness, 0.0)
    longest = max(height, width) / 2

    def axis(n: int) -> Array:
        half = n / 2 + max(roundness, 0.0) * (longest - n / 2)
        return np.asarray(np.abs((np.arange(n) + 0.5 - n / 2) / half) ** p)

    return axis(width), axis(height), p


def vignette_falloff(q: Array, p: float, settings: Settings) -> Array:
    """How much of the vignette there is where |dx|^p + |dy|^p is q: 0..1.

    With midpoint m and feather φ in 0..1: t²(3 − 2t) of t = (q^(1/p) − c + w)/(2w) clipped to 0..1,
    c = 0.5 + 0.9 m, w = 0.02 + 0.9 φ.
    """
    center, half = 0.5 + 0.9 * settings["vignette_midpoint"] / 100, 0.02 + 0.9 * settings["vignette_feather"] / 100
    t = np.clip((q ** (1 / p) - center + half) / (2 * half), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def apply_vignette(rgb: Array, settings: Settings) -> Array:
    """With amount a and the falloff f: x (1 − |a| f) below 0, x + a f (1 − x) above."""
    qx, qy, p = vignette_axes(rgb.shape[0], rgb.shape[1], settings)
    amount = settings["vignette_amount"] / 100 * vignette_falloff(qy[:, None] + qx, p, settings)[..., None]
    return np.asarray(rgb + amount * np.where(amount < 0, rgb, 1 - rgb))


def noise_key(seed: int) -> int:
    """63 bits that depend on every bit of the seed (SplitMix64), so that neighbouring seeds share no noise."""
    bits = 0xFFFF_FFFF_FFFF_FFFF
    x = (seed + 0x9E37_79B9_7F4A_7C15) & bits
    x = (x ^ (x >> 30)) * 0xBF58_476D_1CE4_E5B9 & bits
    x = (x ^ (x >> 27)) * 0x94D0_49BB_1331_11EB & bits
    return (x ^ (x >> 31)) >> 1


@functools.cache
def normal_values() -> NDArray[np.float32]:
    """4096 equally likely values of a normal variable: its quantiles, scaled to a variance of exactly 1."""
    normal = NormalDist()
    values = np.array([normal.inv_cdf((i + 0.5) / 4096) for i in range(4096)])
    return np.asarray(values / values.std(), dtype=np.float32)


def white_noise(height: int, width: int, seed: int) -> NDArray[np.float32]:
    """Normal noise (H, W), a function of the seed and the pixel's index in the frame alone (SplitMix64)."""
    index = np.arange(1, height * width + 1, dtype=np.uint64)
    x = np.uint64(noise_key(seed)) + index * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return np.asarray(normal_values()[(x & np.uint64(4095)).astype(np.intp)].reshape(height, width))


def grain_mix(settings: Settings) -> tuple[Array, float, float]:
    """Weights of the Gaussian that makes clumps, and the factors of clumps and of white noise in the grain.

    σ = 0.2 + 0.018 · size; clumps and white noise are mixed as (1 − r/2) : r/2 of roughness r in 0..1, and divided by
    the deviation of the mix, so that size and roughness leave the strength alone.
    """
    weights = gaussian_weights(0.2 + 0.018 * settings["grain_size"])
    rough = settings["grain_roughness"] / 200
    deviation = float((weights**2).sum())  # of white noise after rows and columns
    smooth = (1 - rough) / deviation
    overlap = float(weights[len(weights) // 2]) ** 2
    total = np.sqrt((1 - rough) ** 2 + rough**2 + 2 * smooth * rough * overlap)
    return weights, smooth / total, rough / total


def grain_plane(height: int, width: int, seed: int, settings: Settings) -> Array:
    """Grain of deviation 1: (H, W)."""
    weights, smooth, rough = grain_mix(settings)
    noise = white_noise(height, width, seed).astype(np.float64)
    return np.asarray(smooth * convolve(noise, weights) + rough * noise)


def apply_grain(rgb: Array, luma: Array, grain: Array, settings: Settings) -> Array:
    """Add 0.12 g · 4 y (1 − y) · grain to R, G and B alike, y the luma (H, W): black and white stay clean."""
    strength = GRAIN_STRENGTH * settings["grain_amount"] / 100
    return np.asarray(rgb + (strength * 4 * luma * (1 - luma) * grain)[..., None])
