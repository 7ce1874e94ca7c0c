"""What a generalist reward model writes: criteria for this case with their weights, and a score for each."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from retouch_gym.types import JSON
from retouch_reward_models.errors import VerdictError

BEST = 10.0
"""Scores are 0 to this."""

WEIGHT_TOLERANCE = 0.05
"""Weights may add up to this much less or more than 100%; they are then scaled to 100%."""

MAX_CRITERIA = 12
"""Most criteria of a case."""

MAX_NAME = 120
"""Most characters of a criterion."""


@dataclass(frozen=True)
class Criterion:
    """What a good edit of this case has.

    Args:
        name: In words, for instance ``"warm autumn tones"``.
        weight: Its share, 0..1; those of a case add up to 1.
    """

    name: str
    weight: float


@dataclass(frozen=True)
class Scored:
    """One criterion with the scores of every candidate.

    Args:
        criterion: What is scored.
        scores: One for each candidate, 0..10.
        notes: What was seen in each candidate, before it was scored; may be empty texts.
        spans: Where each score stands in the answer, as (start, end) of its characters; empty if it was not read from
            one.
    """

    criterion: Criterion
    scores: tuple[float, ...]
    notes: tuple[str, ...]
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Verdict:
    """Criteria, weights and scores of one case.

    Args:
        scored: Every criterion, once.
        rationale: Why, in words; may be empty.
    """

    scored: tuple[Scored, ...]
    rationale: str = ""

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """The criteria alone."""
        return tuple(item.criterion for item in self.scored)

    @property
    def candidates(self) -> int:
        """How many edits were judged."""
        return len(self.scored[0].scores)

    def total(self, candidate: int = 0) -> float:
        """The weighted sum of a candidate's scores, 0..10 (RetouchIQ, arXiv 2602.17558)."""
        return weighted(self.criteria, [item.scores[candidate] for item in self.scored])

    def to_json(self, candidate: int = 0) -> dict[str, JSON]:
        """Criteria, weights (in per cent), scores, notes and rationale of one candidate, for logs."""
        return {
            "criteria": [
                {
                    "criterion": item.criterion.name,
                    "weight": round(100 * item.criterion.weight, 2),
                    "note": item.notes[candidate],
                    "score": item.scores[candidate],
                }
                for item in self.scored
            ],
            "rationale": self.rationale,
        }


def weighted(criteria: Sequence[Criterion], scores: Sequence[float]) -> float:
    """The weighted sum of scores, one for each criterion. Never outside 0..10, whatever the rounding of weights."""
    total = math.fsum(criterion.weight * score for criterion, score in zip(criteria, scores, strict=True))
    return min(max(total, 0.0), BEST)


def make_criteria(pairs: Sequence[tuple[str, float]]) -> tuple[Criterion, ...]:
    """Criteria from names and weights in per cent.

    Raises:
        VerdictError: If there is none or there are too many, a name is empty, too long or given twice, a weight is not
            above 0, or the weights do not add up to 100 within 5%.
    """
    if not 1 <= len(pairs) <= MAX_CRITERIA:
        raise VerdictError(f"{len(pairs)} criteria; expected 1 to {MAX_CRITERIA}.")
    seen: set[str] = set()
    for name, weight in pairs:
        key = " ".join(name.casefold().split())
        if not key or len(name) > MAX_NAME:
            raise VerdictError(f"The criterion {name[:40]!r} should have 1 to {MAX_NAME} characters.")
        if key in seen:
            raise VerdictError(f"The criterion {name!r} is given twice; each should be there once.")
        # Numbers beyond what may be the sum are refused one by one: a few of them overflow.
        if not 0 < weight <= 100 * (1 + WEIGHT_TOLERANCE) + 1e-6:
            raise VerdictError(f"The weight of {name!r} is {weight:g}; expected a number above 0, at most 100.")
        seen.add(key)
    total = math.fsum(weight for _, weight in pairs)
    if abs(total / 100 - 1) > WEIGHT_TOLERANCE + 1e-9:
        raise VerdictError(f"The weights add up to {total:g}; expected 100, give or take {100 * WEIGHT_TOLERANCE:g}%.")
    return tuple(Criterion(name, weight / total) for name, weight in pairs)


def check_score(name: str, score: float) -> float:
    """A score of a criterion.

    Raises:
        VerdictError: If it is not in 0..10.
    """
    if not math.isfinite(score) or not 0 <= score <= BEST:
        raise VerdictError(f"The score of {name!r} is {score:g}; expected 0 to {BEST:g}.")
    return score


def check_same(given: Sequence[Criterion], found: Sequence[Criterion]) -> None:
    """Check that a verdict is about the criteria that were given.

    Names are compared as `retouch_reward_models.quoting.quote` shows them, with compatibility characters as their plain
    forms: an ellipsis that was shown as three dots comes back as three dots.

    Raises:
        VerdictError: If one is missing, new, out of order or has another weight.
    """
    wanted, got = _shown(given), _shown(found)
    if wanted != got:
        raise VerdictError(f"The criteria {got} should be those that were given, {wanted}.")


def _shown(criteria: Sequence[Criterion]) -> list[tuple[str, int]]:
    return [(unicodedata.normalize("NFKC", item.name), round(100 * item.weight)) for item in criteria]
