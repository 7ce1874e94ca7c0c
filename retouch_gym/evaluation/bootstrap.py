"""Confidence intervals of means by the percentile bootstrap."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from retouch_gym.errors import ConfigurationError

_CHUNK = 1 << 22
"""Most resampled values held at once (32 MiB)."""


class Interval(NamedTuple):
    """A mean with its confidence interval, low ≤ mean ≤ high up to resampling noise."""

    mean: float
    low: float
    high: float


def bootstrap_interval(
    values: Iterable[float], level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The mean of `values` with a percentile bootstrap interval (Efron 1979).

    To compare two policies on the same tasks, pass the differences per task: an interval that lies
    above 0 then says that the first is better, and is far narrower than the two intervals apart.

    Args:
        values: One or more finite numbers.
        level: Coverage, between 0 and 1.
        resamples: Number of bootstrap means.
        seed: Seed of the resampling; the same arguments give the same interval.

    Raises:
        ConfigurationError: If there are no values, one is not finite, or an option is out of range.
    """
    data = np.asarray(list(values), dtype=np.float64)
    if data.size == 0 or not np.isfinite(data).all():
        raise ConfigurationError(f"bootstrap_interval needs one or more finite values, got {data[:5].tolist()}.")
    if not 0 < level < 1 or resamples < 1:
        raise ConfigurationError(f"bootstrap_interval: level {level} should be in 0..1, resamples {resamples} >= 1.")
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // data.size)
    means = np.concatenate(
        [
            data[rng.integers(data.size, size=(min(rows, resamples - done), data.size))].mean(axis=1)
            for done in range(0, resamples, rows)
        ]
    )
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail]).tolist()
    return Interval(float(data.mean()), low, high)
