"""The right verdict about edits whose recipes are known, for requests in the words of the synthetic tasks.

What a request decides is a range for each slider that it names (an adverb stands for a range, see
`retouch_gym.datasets.grammar`), and that no other slider is touched. A request that names none leaves it to the photo:
what it needs is what the recipe of its task says, give or take `TOLERANCE`. An edit inside all ranges is as right as
any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retouch_gym.datasets.grammar import ADJECTIVES, STEP, STRENGTHS
from retouch_gym.datasets.reader import read_request
from retouch_gym.recipes.recipe import Recipe
from retouch_reward_models.grm.verdict import BEST, Criterion, Scored, Verdict

OTHER = "other"
"""The criterion that nothing was touched that nobody asked for."""

OTHER_WEIGHT = 20
"""Its weight in per cent."""

FULLY_WRONG = 50.0
"""A slider that is this far outside its range scores 0."""

OTHER_WRONG = 100.0
"""Sliders nobody asked for that add up to this score 0."""

NOTE_LIMIT = 100
"""Notes are multiples of 5 within ± this."""


TOLERANCE = 10
"""A vague request is met by sliders that are this close to those of its task's recipe."""


def requested(instruction: str) -> dict[str, tuple[int, int]]:
    """What a request decides: slider to (lowest, highest) value that does what it says. Empty for a vague request."""
    ranges = {}
    for slider, middle in read_request(instruction).items():
        strength = next(strength for strength in STRENGTHS if strength.middle == abs(middle))
        ends = (strength.low, strength.high) if middle > 0 else (-strength.high, -strength.low)
        ranges[slider] = ends
    return ranges


def needed(recipe: Recipe) -> dict[str, tuple[float, float]]:
    """What a photo needs that `recipe` mends: slider to (lowest, highest) value that does it."""
    return {slider: (value - TOLERANCE, value + TOLERANCE) for slider, value in recipe.controls.items()}


def oracle_verdict(instruction: str, recipes: Sequence[Recipe], remedy: Recipe | None = None) -> Verdict:
    """The right verdict about edits.

    One criterion for each slider that is asked for or needed, weighted by how strongly, and `OTHER`. The note of a
    slider is its value, and of `OTHER` how much was touched that nobody asked for, both as multiples of 5; a score
    falls linearly with the distance from what was asked for.

    Args:
        instruction: The request.
        recipes: The edits.
        remedy: What the photo needs, which decides where the request names no slider.

    Raises:
        ValueError: If the request names no slider, and there is no remedy.
    """
    ranges: Mapping[str, tuple[float, float]] = requested(instruction)
    if not ranges and remedy is not None:
        ranges = needed(remedy)
    if not ranges:
        raise ValueError(f"{instruction!r} names no slider and there is no remedy, so nobody can say what is right.")
    scored = []
    for slider, weight in _weights(ranges).items():
        values = [recipe[slider] for recipe in recipes]
        scores = [_score(_outside(value, ranges[slider]) / FULLY_WRONG) for value in values]
        scored.append(_scored(slider, weight, scores, values))
    touched = [sum(abs(recipe[name]) for name in ADJECTIVES if name not in ranges) for recipe in recipes]
    scored.append(_scored(OTHER, OTHER_WEIGHT, [_score(amount / OTHER_WRONG) for amount in touched], touched))
    return Verdict(tuple(scored))


def _scored(name: str, weight: int, scores: Sequence[int], values: Sequence[float]) -> Scored:
    return Scored(Criterion(name, weight / 100), tuple(map(float, scores)), tuple(map(_note, values)))


def _weights(ranges: Mapping[str, tuple[float, float]]) -> dict[str, int]:
    """Per cent for each slider: multiples of 5 in proportion to how strongly it is asked for, together 100 − OTHER."""
    strengths = {slider: abs(low + high) / 2 for slider, (low, high) in ranges.items()}
    rest = 100 - OTHER_WEIGHT
    total = sum(strengths.values())
    weights = {slider: max(STEP, STEP * round(rest * value / total / STEP)) for slider, value in strengths.items()}
    strongest = max(strengths, key=lambda slider: strengths[slider])
    weights[strongest] += rest - sum(weights.values())
    return weights


def _outside(value: float, ends: tuple[float, float]) -> float:
    return max(ends[0] - value, value - ends[1], 0)


def _score(wrong: float) -> int:
    return round(BEST * max(0.0, 1 - wrong))


def _note(value: float) -> str:
    near = STEP * round(value / STEP)
    return str(max(-NOTE_LIMIT, min(NOTE_LIMIT, near)))
