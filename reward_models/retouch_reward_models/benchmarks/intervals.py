"""Bootstrap intervals of shares, by cluster and averaged over strata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retouch_gym.evaluation.bootstrap import Interval


@dataclass(frozen=True)
class Cluster:
    """Things that belong together, so that they are drawn together: the pairs of one group.

    Args:
        right: What they score together.
        count: How many they are, 1 or more.
    """

    right: float
    count: int


def share_interval(clusters: Sequence[Cluster], resamples: int = 10_000, seed: int = 0) -> Interval:
    """The share of what is right, with a 95% percentile interval from redrawing whole clusters (Efron 1979).

    Args:
        clusters: One or more.
        resamples: Number of redrawn samples.
        seed: Seed of the drawing; the same arguments give the same interval.
    """
    return _interval(_observed(clusters), _redrawn(clusters, resamples, np.random.default_rng(seed)))


def macro_interval(strata: Mapping[str, Sequence[Cluster]], resamples: int = 10_000, seed: int = 0) -> Interval:
    """The mean over strata of each one's share, with a 95% interval from redrawing clusters within every stratum.

    Args:
        strata: One or more, each with one cluster or more.
        resamples: Number of redrawn samples.
        seed: Seed of the drawing.
    """
    rng = np.random.default_rng(seed)
    drawn = np.mean([_redrawn(strata[name], resamples, rng) for name in sorted(strata)], axis=0)
    return _interval(float(np.mean([_observed(clusters) for clusters in strata.values()])), drawn)


def _observed(clusters: Sequence[Cluster]) -> float:
    return sum(cluster.right for cluster in clusters) / sum(cluster.count for cluster in clusters)


def _redrawn(clusters: Sequence[Cluster], resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    right = np.array([cluster.right for cluster in clusters], dtype=np.float64)
    count = np.array([cluster.count for cluster in clusters], dtype=np.float64)
    shares = np.empty(resamples)
    rows = max(1, (1 << 22) // len(clusters))
    for start in range(0, resamples, rows):
        drawn = rng.integers(len(clusters), size=(min(rows, resamples - start), len(clusters)))
        shares[start : start + len(drawn)] = right[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    return shares


def _interval(mean: float, drawn: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return Interval(mean, low, high)
