"""The filters of `detail` on float32 planes: OpenCV where it is as fast, kernels for the rest."""

from __future__ import annotations

from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from retouch_gym.renderers.lightroom import detail, effects
from retouch_gym.renderers.lightroom._planes import add_detail, fill_noise, mix_guided
from retouch_gym.renderers.lightroom.settings import Settings
from retouch_gym.renderers.lightroom.tone import LUMA

Plane: TypeAlias = NDArray[np.float32]
"""float32 (H, W)."""

NOTHING: Plane = np.empty(0, np.float32)
"""Leaves a stage out."""

_EDGE = cv2.BORDER_REPLICATE


def _plane(array: NDArray[np.generic]) -> Plane:
    return np.ascontiguousarray(array, dtype=np.float32)


def reduce(plane: Plane, f: int) -> Plane:
    """`detail.reduce`."""
    if f == 1:
        return plane
    height, width = plane.shape
    if height % f or width % f:
        plane = _plane(cv2.copyMakeBorder(plane, 0, -height % f, 0, -width % f, _EDGE))
    return _plane(cv2.resize(plane, (plane.shape[1] // f, plane.shape[0] // f), interpolation=cv2.INTER_AREA))


def enlarge(plane: Plane, f: int, shape: tuple[int, ...]) -> Plane:
    """`detail.enlarge`."""
    if f == 1:
        return plane
    size = (plane.shape[1] * f, plane.shape[0] * f)
    large = cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR)
    return _plane(large[: shape[0], : shape[1]])


def gaussian(plane: Plane, sigma: float) -> Plane:
    """`detail.convolve` with `detail.gaussian_weights`."""
    weights = detail.gaussian_weights(sigma).astype(np.float32)
    return _plane(cv2.sepFilter2D(plane, cv2.CV_32F, weights, weights, borderType=_EDGE))


def _box(plane: NDArray[np.floating[Any]], radius: int) -> Plane:
    return _plane(cv2.blur(plane, (2 * radius + 1, 2 * radius + 1), borderType=_EDGE))


def guided(guide: Plane, plane: Plane, f: int, radius: int, eps: float) -> tuple[Plane, Plane]:
    """Slope and offset, at full size, of the line that `detail.guided` draws through the guide at each pixel."""
    g = reduce(guide, f)
    p = g if plane is guide else reduce(plane, f)
    mean_g = _box(g, radius)
    mean_p = mean_g if p is g else _box(p, radius)
    variance = _box(g * g, radius)
    variance -= mean_g * mean_g
    covariance = variance
    if p is not g:
        covariance = _box(g * p, radius)
        covariance -= mean_g * mean_p
    slope = covariance / (variance + np.float32(eps))
    offset = mean_p - slope * mean_g
    del g, p, mean_g, mean_p, variance, covariance  # large where f is 1
    return enlarge(_box(slope, radius), f, guide.shape), enlarge(_box(offset, radius), f, guide.shape)


def veil(dark: Plane, v: float) -> Plane:
    """What positive dehaze takes away at each pixel, from the plane of the darkest linear channel."""
    f = detail.veil_scale(max(dark.shape))
    small = gaussian(_plane(cv2.erode(reduce(dark, f), np.ones((3, 3), np.uint8))), 2.0)
    return enlarge(np.float32(detail.DEHAZE * v) * small, f, dark.shape)


def luma_detail(y: Plane, settings: Settings) -> Plane:
    """`detail.luma_detail`; y may be written to."""
    z, out = y, y
    if settings["noise_luminance"]:
        z = np.empty_like(y)
        slope, offset = guided(y, y, 1, detail.NOISE_RADIUS, detail.NOISE_EPS)
        amount = settings["noise_luminance"] / 100
        mix_guided(y.ravel(), y.ravel(), slope.ravel(), offset.ravel(), amount, z.ravel())
    else:
        out = np.empty_like(y)
    smooth, base, fine, edges = NOTHING, (NOTHING, NOTHING), NOTHING, NOTHING
    if settings["texture"]:
        f, sigma = detail.texture_scale(max(y.shape))
        smooth = enlarge(gaussian(reduce(z, f), sigma), f, y.shape)
    if settings["clarity"]:
        slope, offset = guided(z, z, *detail.clarity_scale(max(y.shape)), detail.CLARITY_EPS)
        base = slope.ravel(), offset.ravel()
    if settings["sharpening_amount"]:
        fine = gaussian(z, settings["sharpening_radius"])
        if settings["sharpening_masking"]:
            edges = gaussian(_plane(cv2.absdiff(z, fine)), 2.0)
    amounts = (
        detail.TEXTURE_STRENGTH * settings["texture"] / 100,
        detail.CLARITY_STRENGTH * settings["clarity"] / 100,
        settings["sharpening_amount"] / 100,
        (1 - settings["sharpening_detail"] / 100) / detail.HALO,
        detail.EDGE * settings["sharpening_masking"] / 100,
    )
    add_detail(y.ravel(), z.ravel(), smooth.ravel(), base, (fine.ravel(), edges.ravel()), amounts, out.ravel())
    return out


def reduce_color_noise(rgb: Plane, v: float) -> None:
    """`detail.reduce_color_noise` of (H, W, 3), in place."""
    y = _plane(cv2.transform(rgb, np.array([LUMA], np.float32)))
    for channel in (0, 2):
        chroma = _plane(rgb[..., channel])
        chroma -= y
        slope, offset = guided(y, chroma, detail.COLOR_FACTOR, detail.COLOR_RADIUS, detail.COLOR_EPS)
        mix_guided(chroma.ravel(), y.ravel(), slope.ravel(), offset.ravel(), v, chroma.ravel())
        chroma += y
        rgb[..., channel] = chroma
    for channel in (0, 2):  # the green that leaves the luma as it was
        y -= np.float32(LUMA[channel]) * rgb[..., channel]
    y *= np.float32(1 / LUMA[1])
    rgb[..., 1] = y


def grain(height: int, width: int, seed: int, settings: Settings) -> Plane:
    """`effects.grain_plane`."""
    noise = np.empty((height, width), np.float32)
    fill_noise(effects.noise_key(seed), effects.normal_values(), noise.ravel())
    weights, smooth, rough = effects.grain_mix(settings)
    taps = weights.astype(np.float32)
    clumps = cv2.sepFilter2D(noise, cv2.CV_32F, taps, taps, borderType=_EDGE)
    return _plane(cv2.addWeighted(clumps, smooth, noise, rough, 0))
