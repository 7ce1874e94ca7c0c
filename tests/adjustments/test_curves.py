"""Tone curves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retouch_gym.adjustments import IDENTITY, check_curve, evaluate_curve

shares = st.floats(0, 1, allow_subnormal=False)


@st.composite
def curves(draw: st.DrawFn) -> tuple[tuple[float, float], ...]:
    inputs = sorted(draw(st.sets(st.integers(0, 100), min_size=2, max_size=8)))
    return tuple((x / 100, draw(shares)) for x in inputs)


@given(curves())
def test_a_curve_goes_through_its_points_and_never_beyond_them(curve: tuple[tuple[float, float], ...]) -> None:
    x, y = np.array(curve).T
    assert np.allclose(evaluate_curve(curve, x), y, atol=1e-9)
    between = evaluate_curve(curve, np.linspace(0, 1, 200))
    assert between.min() >= y.min() - 1e-9
    assert between.max() <= y.max() + 1e-9


@given(st.lists(st.tuples(shares, shares), min_size=2, max_size=8))
def test_rising_points_make_a_rising_curve(points: list[tuple[float, float]]) -> None:
    inputs = np.linspace(0, 1, len(points))
    outputs = np.sort([output for _, output in points])
    curve = check_curve([[float(x), float(y)] for x, y in zip(inputs, outputs, strict=True)])
    assert (np.diff(evaluate_curve(curve, np.linspace(0, 1, 300))) >= -1e-9).all()


def test_the_identity_changes_nothing_and_ends_are_flat() -> None:
    x = np.linspace(0, 1, 257)
    assert np.allclose(evaluate_curve(IDENTITY, x), x, atol=1e-12)
    assert evaluate_curve(((0.2, 0.1), (0.8, 0.9)), np.array([0.0, 1.0])) == pytest.approx([0.1, 0.9])
