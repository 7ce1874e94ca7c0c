"""Intervals of shares: the plain bootstrap where nothing belongs together, wider where things do."""

from __future__ import annotations

import numpy as np
import pytest

from retouch_gym.evaluation.bootstrap import bootstrap_interval
from retouch_reward_models.benchmarks.intervals import Cluster, macro_interval, share_interval


def test_single_things_give_the_plain_bootstrap() -> None:
    values = (np.random.default_rng(0).random(200) < 0.7).astype(float)
    found = share_interval([Cluster(value, 1) for value in values])
    assert found == pytest.approx(bootstrap_interval(values), abs=1e-12)


def test_things_that_belong_together_widen_the_interval() -> None:
    right = (np.random.default_rng(1).random(50) < 0.6).astype(float)
    apart = share_interval([Cluster(value, 1) for value in right for _ in range(6)])
    together = share_interval([Cluster(6 * value, 6) for value in right])
    assert apart.mean == pytest.approx(together.mean)
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_the_mean_over_strata_weighs_them_alike() -> None:
    strata = {"many": [Cluster(1, 1)] * 90, "few": [Cluster(0, 1), Cluster(1, 1)]}
    found = macro_interval(strata)
    assert found.mean == pytest.approx(0.75)
    assert (found.low, found.high) == (0.5, 1.0)
    assert macro_interval(dict(reversed(strata.items()))) == found


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(100):
        chances = rng.beta(3, 2, 60)
        clusters = [Cluster(float(rng.binomial(3, chance)), 3) for chance in chances]
        interval = share_interval(clusters, resamples=500)
        covered += interval.low <= 0.6 <= interval.high
    assert 88 <= covered <= 100
