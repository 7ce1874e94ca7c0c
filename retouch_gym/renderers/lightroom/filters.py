"""The filters of `detail` on float32 planes: OpenCV where it is as fast, kernels for the rest."""

from __future__ import annotations

import threading
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from retouch_gym.renderers.lightroom import detail, effects
from retouch_gym.renderers.lightroom._planes import add_detail, enlarge, fill_noise, mix_guided
from retouch_gym.renderers.lightroom.settings import Settings
from retouch_gym.renderers.lightroom.tone import LUMA

Plane: TypeAlias = NDArray[np.float32]
"""float32 (H, W)."""

NOTHING: Plane = np.empty((0, 0), np.float32)
"""Leaves a stage out."""

_EDGE = cv2.BORDER_REPLICATE


MAX_KEPT = 1 << 22
"""Most pixels of a plane that is kept for the next photo: 16 MiB."""


class _Kept(threading.local):
    """Planes of the last photo of this thread: fresh memory costs more than what is written into small ones."""

    def __init__(self) -> None:
        self.planes: dict[str, Plane] = {}


_kept = _Kept()


def scratch(name: str, shape: tuple[int, ...]) -> Plane:
    """A plane with anything in it, which this thread may use until it asks for the same name again."""
    plane = _kept.planes.get(name)
    if plane is None or plane.shape != shape:
        plane = np.empty(shape, np.float32)
        if plane.size <= MAX_KEPT:
            _kept.planes[name] = plane
    return plane


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


def gaussian(plane: Plane, sigma: float, out: Plane | None = None) -> Plane:
    """`detail.convolve` with `detail.gaussian_weights`."""
    weights = detail.gaussian_weights(sigma).astype(np.float32)
    return _plane(cv2.sepFilter2D(plane, cv2.CV_32F, weights, weights, dst=out, borderType=_EDGE))


def _box(plane: NDArray[np.floating[Any]], radius: int) -> Plane:
    return _plane(cv2.blur(plane, (2 * radius + 1, 2 * radius + 1), borderType=_EDGE))


def guided(guide: Plane, plane: Plane, f: int, radius: int, eps: float) -> tuple[Plane, Plane]:
    """Slope and offset, reduced by f, of the line that `detail.guided` draws through the guide at each pixel."""
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
    return _box(slope, radius), _box(offset, radius)


def veil(dark: Plane, v: float) -> Plane:
    """What positive dehaze takes away at each pixel, from that of the smallest linear channel, which it replaces."""
    f = detail.veil_scale(max(dark.shape))
    small = gaussian(_plane(cv2.erode(reduce(dark, f), np.ones((3, 3), np.uint8))), 2.0)
    enlarge(_plane(np.float32(detail.DEHAZE * v) * small), f, dark)
    return dark


def luma_detail(y: Plane, settings: Settings) -> Plane:
    """`detail.luma_detail`; y may be written to, and the result may be scratch."""
    z, out = y, y
    if settings["noise_luminance"]:
        z = scratch("quiet", y.shape)
        line = guided(y, y, 1, detail.NOISE_RADIUS, detail.NOISE_EPS)
        mix_guided(y, y, line, 1, settings["noise_luminance"] / 100, z)
    else:
        out = scratch("detail", y.shape)
    smooth, line, fine, edges, factors = NOTHING, (NOTHING, NOTHING), NOTHING, NOTHING, [1, 1]
    if settings["texture"]:
        factors[0], sigma = detail.texture_scale(max(y.shape))
        smooth = gaussian(reduce(z, factors[0]), sigma)
    if settings["clarity"]:
        factors[1], radius = detail.clarity_scale(max(y.shape))
        line = guided(z, z, factors[1], radius, detail.CLARITY_EPS)
    if settings["sharpening_amount"]:
        fine = gaussian(z, settings["sharpening_radius"], scratch("fine", y.shape))
        if settings["sharpening_masking"]:
            edges = gaussian(_plane(cv2.absdiff(z, fine, dst=scratch("edges", y.shape))), 2.0)
    amounts = (
        detail.TEXTURE_STRENGTH * settings["texture"] / 100,
        detail.CLARITY_STRENGTH * settings["clarity"] / 100,
        settings["sharpening_amount"] / 100,
        (1 - settings["sharpening_detail"] / 100) / detail.HALO,
        detail.EDGE * settings["sharpening_masking"] / 100,
    )
    add_detail(y, z, smooth, line, (factors[0], factors[1]), (fine, edges), amounts, out)
    return out


def reduce_color_noise(rgb: Plane, v: float) -> None:
    """`detail.reduce_color_noise` of (H, W, 3), in place."""
    weights = np.array([LUMA], np.float32)
    y = _plane(cv2.transform(rgb, weights, dst=scratch("colorless", rgb.shape[:2])))
    chroma = scratch("chroma", y.shape)
    for channel in (0, 2):
        cv2.extractChannel(rgb, channel, chroma)
        chroma -= y
        line = guided(y, chroma, detail.COLOR_FACTOR, detail.COLOR_RADIUS, detail.COLOR_EPS)
        mix_guided(chroma, y, line, detail.COLOR_FACTOR, v, chroma)
        chroma += y
        cv2.insertChannel(chroma, rgb, channel)
    for channel in (0, 2):  # the green that leaves the luma as it was
        cv2.extractChannel(rgb, channel, chroma)
        chroma *= np.float32(LUMA[channel])
        y -= chroma
    y *= np.float32(1 / LUMA[1])
    cv2.insertChannel(y, rgb, 1)


def grain(height: int, width: int, seed: int, settings: Settings) -> Plane:
    """`effects.grain_plane`; scratch."""
    noise = scratch("noise", (height, width))
    fill_noise(effects.noise_key(seed), effects.normal_values(), noise.ravel())
    weights, smooth, rough = effects.grain_mix(settings)
    taps = weights.astype(np.float32)
    clumps = cv2.sepFilter2D(noise, cv2.CV_32F, taps, taps, dst=scratch("clumps", noise.shape), borderType=_EDGE)
    return _plane(cv2.addWeighted(clumps, smooth, noise, rough, 0, dst=noise))
