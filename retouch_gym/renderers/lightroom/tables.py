"""The formulas of `tone`, `color` and `effects` as the small arrays that the kernels read, remembered while in use.

All are float32 and read-only. A table of N steps has N + 2 entries, the last twice, so that interpolation needs no
exception at 1; three tables, for R, G and B, lie end to end.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from retouch_gym.adjustments.curves import Curve
from retouch_gym.renderers.lightroom import color, effects, tone
from retouch_gym.renderers.lightroom.detail import HAZE
from retouch_gym.renderers.lightroom.settings import (
    CALIBRATION,
    GRADING,
    RECOLOR,
    TONE,
    WHITE_BALANCE,
    Settings,
    is_neutral,
    with_defaults,
)
from retouch_gym.tools.lightroom_controls import COLORS, ZONES

Table: TypeAlias = NDArray[np.float32]
Items: TypeAlias = tuple[tuple[str, float], ...]

STEPS = 4096
"""Steps of tables that are interpolated."""
FALLOFF_STEPS = 8192
LEVELS = 4096
"""Entries per channel of the grading tables, which are read at the nearest luma."""


def _table(values: NDArray[np.float64]) -> Table:
    table = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    table.flags.writeable = False
    return table


EMPTY: Table = _table(np.empty(0))
"""Leaves a stage out."""


def _axis(from_bytes: bool, steps: int = STEPS) -> NDArray[np.float64]:
    return np.arange(256) / 255 if from_bytes else np.minimum(np.arange(steps + 2) / steps, 1)


def _items(settings: Settings, names: tuple[str, ...]) -> Items:
    return tuple((name, settings[name]) for name in names if settings[name])


@functools.cache
def decoding(from_bytes: bool) -> Table:
    """Encoded to linear, three times: 3 · 256 entries for bytes, 3 · (`STEPS` + 2) for floats."""
    return _table(np.tile(tone.decode(_axis(from_bytes)), 3))


@functools.cache
def levels() -> Table:
    """Bytes to 0..1, three times."""
    return _table(np.tile(_axis(True), 3))


def tones(settings: Settings, curves: Mapping[str, Curve], from_bytes: bool) -> tuple[Table, Table, Table]:
    """What takes the source through `reference.apply_tones`, but for the veil.

    Returns:
        Tables for the source; 12 values of matrix and offset; tables on the axis √(linear light), after the matrix.
        The last two are empty unless channels mix or haze changes: then one table per channel does it all.
    """
    key = _items(settings, TONE), tuple(curves.items())
    if settings["dehaze"] or not is_neutral(settings, CALIBRATION):
        mix = _items(settings, (*CALIBRATION, *WHITE_BALANCE, "exposure"))
        matrix, largest = _mix(mix, min(settings["dehaze"], 0.0))
        return decoding(from_bytes), matrix, _root_tables(*key, largest)
    if not any(key):
        return (levels() if from_bytes else EMPTY), EMPTY, EMPTY
    return _direct_tables(*key, from_bytes), EMPTY, EMPTY


def _curve_tables(encoded: NDArray[np.float64], settings: Settings, curves: Mapping[str, Curve]) -> Table:
    """The tone curves at encoded values (3, n)."""
    same = np.array_equal(encoded[0], encoded[1]) and np.array_equal(encoded[1], encoded[2])
    if same and not set(curves) - {"curve"}:
        return _table(np.tile(tone.tone_curve(encoded[0], settings, curves, 0), 3))
    return _table(np.stack([tone.tone_curve(encoded[c], settings, curves, c) for c in range(3)]))


@functools.lru_cache(maxsize=128)
def _direct_tables(items: Items, curves: tuple[tuple[str, Curve], ...], from_bytes: bool) -> Table:
    settings = with_defaults(dict(items))
    axis = _axis(from_bytes)
    if is_neutral(settings, (*WHITE_BALANCE, "exposure")):
        return _curve_tables(np.stack([axis] * 3), settings, dict(curves))
    linear = tone.channel_gains(settings)[:, None] * tone.decode(axis)
    return _curve_tables(tone.encode(linear), settings, dict(curves))


@functools.lru_cache(maxsize=128)
def _root_tables(items: Items, curves: tuple[tuple[str, Curve], ...], largest: tuple[float, float, float]) -> Table:
    linear = np.array(largest)[:, None] * _axis(False) ** 2
    return _curve_tables(tone.encode(linear), with_defaults(dict(items)), dict(curves))


@functools.lru_cache(maxsize=128)
def _mix(items: Items, haze: float) -> tuple[Table, tuple[float, float, float]]:
    """Haze, calibration, white balance and exposure as one affine map, each row over the largest value it can give."""
    settings = with_defaults(dict(items))
    matrix = color.calibration_matrix(settings) * tone.channel_gains(settings)[:, None]
    veil = -HAZE * haze / 100
    offset = veil * matrix.sum(axis=1)
    matrix = (1 - veil) * matrix
    largest = np.maximum(matrix, 0).sum(axis=1) + np.maximum(offset, 0)
    red, green, blue = largest.tolist()
    return _table(np.concatenate([(matrix / largest[:, None]).ravel(), offset / largest])), (red, green, blue)


def bands(settings: Settings) -> Table:
    """The colour bands of `color.band_effects`: see `_pixels`; empty where `color.recolor` changes nothing."""
    return EMPTY if is_neutral(settings, RECOLOR) else _bands(_items(settings, _RECOLOR_AND_MIX))


_RECOLOR_AND_MIX = (*RECOLOR, *(f"bw_{name}" for name in COLORS))


@functools.lru_cache(maxsize=128)
def _bands(items: Items) -> Table:
    settings = with_defaults(dict(items))
    starts = np.array(color.BAND_CENTERS)
    weights_at = color.band_effects(starts, settings)
    values = np.stack(weights_at, axis=-1)
    values[:, 1] *= 1 + settings["saturation"] / 100
    rows = np.zeros((len(starts) + 1, 5))
    rows[0, 2:] = values[0]
    rows[1:, 0] = starts / 60
    rows[1:, 1] = 60 / np.diff([*starts, 360.0])
    rows[1:, 2:] = np.roll(values, -1, axis=0) - values
    return _table(rows)


def grades(settings: Settings) -> Table:
    """`color.grading_offsets` at `LEVELS` lumas from 0 to 1; empty where it changes nothing."""
    if is_neutral(settings, GRADING):
        return EMPTY
    return _grades(tuple((name, value) for name, value in settings.items() if name in _GRADING_KEYS))


_GRADING_KEYS = frozenset((*GRADING, "grading_balance", "grading_blending", *(f"grading_{zone}_hue" for zone in ZONES)))


@functools.lru_cache(maxsize=128)
def _grades(items: Items) -> Table:
    return _table(color.grading_offsets(np.linspace(0, 1, LEVELS), with_defaults(dict(items))).T)


def vignette(height: int, width: int, settings: Settings) -> tuple[Table, Table, Table]:
    """Terms of columns and rows, and the falloff by the eighth root of their sum over its largest value."""
    if not settings["vignette_amount"]:
        return EMPTY, EMPTY, EMPTY
    columns, rows, p = effects.vignette_axes(height, width, settings)
    distance = (columns[0] + rows[0]) * _axis(False, FALLOFF_STEPS) ** 8
    return _table(columns), _table(rows), _table(effects.vignette_falloff(distance, p, settings))
