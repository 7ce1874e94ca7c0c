"""The bootstrap interval: coverage, pairing, determinism."""

from __future__ import annotations

import numpy as np
import pytest

from retouch_gym.errors import ConfigurationError
from retouch_gym.evaluation import bootstrap_interval


def test_it_agrees_with_the_normal_interval_on_many_values() -> None:
    values = np.random.default_rng(0).normal(3, 2, 2000)
    mean, low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / np.sqrt(values.size)
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(mean - half, abs=0.1 * half)
    assert high == pytest.approx(mean + half, abs=0.1 * half)


def test_it_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    intervals = [bootstrap_interval(rng.exponential(1.0, 60), level=0.9, resamples=600) for _ in range(200)]
    covered = np.mean([interval.low <= 1.0 <= interval.high for interval in intervals])
    assert 0.82 <= covered <= 0.96


def test_the_same_arguments_give_the_same_interval_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [0.1, 0.4, 0.9, -0.3, 0.2]
    first = bootstrap_interval(values, seed=4)
    assert first == bootstrap_interval(iter(values), seed=4)
    assert first != bootstrap_interval(values, seed=5)
    monkeypatch.setattr("retouch_gym.evaluation.bootstrap._CHUNK", 500)
    assert bootstrap_interval(values, seed=4) == pytest.approx(first)


def test_paired_differences_are_narrower() -> None:
    rng = np.random.default_rng(2)
    task = rng.normal(0, 1, 100)
    a, b = task + rng.normal(0.1, 0.05, 100), task
    paired = bootstrap_interval(a - b)
    assert paired.low > 0
    assert bootstrap_interval(a).low < bootstrap_interval(b).high


def test_one_value_and_a_level() -> None:
    assert bootstrap_interval([0.25]) == (0.25, 0.25, 0.25)
    wide, narrow = (bootstrap_interval(range(50), level=level) for level in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


@pytest.mark.parametrize(
    "kwargs",
    [{"values": []}, {"values": [1, float("nan")]}, {"values": [1], "level": 1}, {"values": [1], "resamples": 0}],
)
def test_nonsense_is_refused(kwargs: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="bootstrap_interval"):
        bootstrap_interval(**kwargs)  # type: ignore[arg-type]
