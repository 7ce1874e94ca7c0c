"""Earlier edits that a user was not content with: recipes damaged in ways that the grammar has words for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from retouch_gym.datasets.grammar import ADJECTIVES, STEP, STRENGTHS, has_words
from retouch_gym.errors import DatasetError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.tools.base import Control

MOST_FAULTS = 2
"""Sliders that are spoilt at most."""

_LEAST, _MOST = STRENGTHS[0].low, STRENGTHS[-1].high


def spoil(rng: np.random.Generator, recipe: Recipe, controls: Mapping[str, Control]) -> Recipe:
    """Draw an earlier recipe that differs from a good one by one or two sliders.

    A fault is a slider that was dropped, was set too weak or too strong, to the wrong side, or should not
    have been touched. Each is between 15 and 90 away from what it should be and on the side from which there
    are words for the way back (see `retouch_gym.datasets.grammar.has_words`). Sliders outside the grammar stay.

    Args:
        rng: Source of randomness.
        recipe: The good recipe.
        controls: The toolset's controls by name.

    Raises:
        DatasetError: If the toolset has no slider of the grammar.
    """
    spoilt = dict(recipe.controls)
    free = [name for name in ADJECTIVES if name in controls]
    if not free:
        known = ", ".join(ADJECTIVES)
        raise DatasetError(f"The toolset {recipe.toolset!r} has none of the sliders that there are words for: {known}.")
    for _ in range(int(rng.integers(1, MOST_FAULTS, endpoint=True))):
        faults: dict[str, list[tuple[str, list[int]]]] = {}
        for name in free:
            for fault, values in _faults(name, recipe[name], controls[name]).items():
                faults.setdefault(fault, []).append((name, values))
        fault = list(faults)[int(rng.integers(len(faults)))]
        name, values = faults[fault][int(rng.integers(len(faults[fault])))]
        spoilt[name] = values[int(rng.integers(len(values)))]
        free.remove(name)
    return Recipe(recipe.toolset, {name: value for name, value in spoilt.items() if value}, recipe.seed)


def _faults(name: str, wanted: float, control: Control) -> dict[str, list[int]]:
    """Wrong values of one slider, by what is wrong about them."""
    found: dict[str, list[int]] = {}
    low, high = int(np.ceil(control.low / STEP)), int(np.floor(control.high / STEP))
    for value in range(STEP * low, STEP * high + 1, STEP):
        if _LEAST <= abs(wanted - value) <= _MOST and has_words(name, wanted - value):
            fault = "extra" if not wanted else "dropped" if not value else "strength" if value * wanted > 0 else "sign"
            found.setdefault(fault, []).append(value)
    return found
