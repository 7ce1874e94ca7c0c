"""How often a judge prefers the better edit of a pair, and what it looks at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from retouch_gym.renderers.base import Renderer, get_renderer
from retouch_reward_models.cases import Case
from retouch_reward_models.grm.reward import GeneralistReward
from retouch_reward_models.training.demonstrations import render_case
from retouch_reward_models.training.pairs import Pair, Pairs

Control: TypeAlias = Literal["none", "before_blanked", "instruction_swapped"]
"""What is taken away from the judge: nothing; the photo before (mid-grey instead, in the difference too); its own
instruction (that of another pair instead)."""

CHUNK = 512
"""Pairs that are held in memory at once."""


@dataclass(frozen=True, eq=False)
class PairScores:
    """What a judge made of pairs.

    Args:
        better: Totals of the better edits, 0..10; NaN where there was no valid verdict. float64 (N,).
        worse: Those of the worse edits.
        asked: Verdicts that were asked for.
        valid: Verdicts that could be read.
    """

    better: NDArray[np.float64]
    worse: NDArray[np.float64]
    asked: int
    valid: int

    @property
    def outcomes(self) -> NDArray[np.float64]:
        """1 where the better edit scored higher, ½ for a tie, 0 otherwise and where a verdict is missing. (N,)."""
        return np.where(self.better > self.worse, 1.0, np.where(self.better == self.worse, 0.5, 0.0))

    @property
    def accuracy(self) -> float:
        """Mean of `outcomes`."""
        return float(self.outcomes.mean())

    @property
    def valid_rate(self) -> float:
        """Share of the verdicts that could be read."""
        return self.valid / max(1, self.asked)

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """95% interval of the accuracy over pairs: normal approximation of the mean of `outcomes`."""
        count = len(self.outcomes)
        error = float(self.outcomes.std(ddof=1)) / math.sqrt(count) if count > 1 else 1.0
        return max(0.0, self.accuracy - z * error), min(1.0, self.accuracy + z * error)


def score_pairs(
    judge: GeneralistReward,
    pairs: Pairs | Sequence[Pair],
    *,
    together: bool = False,
    control: Control = "none",
    renderer: str | Renderer = "native",
) -> PairScores:
    """Have both edits of every pair judged.

    Args:
        judge: The judge.
        pairs: The pairs.
        together: Whether both edits are shown at once (the better one as A in every other pair) or each alone.
        control: What is taken away from the judge.
        renderer: What renders the edits.

    Raises:
        BackendError: If the judge's model cannot be used.
    """
    renders = get_renderer(renderer)
    better, worse, asked, valid = [], [], 0, 0
    for start in range(0, len(pairs), CHUNK):
        chunk = [pairs[index] for index in range(start, min(len(pairs), start + CHUNK))]
        cases = [_controlled(case, control) for case in _cases(chunk, renders, together)]
        if control == "instruction_swapped":
            cases = _shifted(cases, 1 if together else 2)
        judged = judge.judge(cases)
        asked += len(judged)
        valid += sum(answer.result is not None for answer in judged)
        totals = [answer.result.totals if answer.result is not None else (np.nan, np.nan) for answer in judged]
        for number in range(len(chunk)):
            if together:
                first, second = totals[number][::-1] if number % 2 else totals[number]
            else:
                first, second = totals[2 * number][0], totals[2 * number + 1][0]
            better.append(first)
            worse.append(second)
    return PairScores(np.asarray(better), np.asarray(worse), asked, valid)


def _cases(pairs: Sequence[Pair], renderer: Renderer, together: bool) -> Iterator[Case]:
    for number, pair in enumerate(pairs):
        case = render_case(pair.task, (pair.better, pair.worse), renderer)
        if together:
            yield replace(case, candidates=case.candidates[::-1]) if number % 2 else case
        else:
            yield from (replace(case, candidates=(candidate,)) for candidate in case.candidates)


def _controlled(case: Case, control: Control) -> Case:
    return replace(case, before=np.full_like(case.before, 128)) if control == "before_blanked" else case


def _shifted(cases: Sequence[Case], by: int) -> list[Case]:
    """Every case with the instruction of the case that lies `by` places further."""
    return [
        replace(case, instruction=cases[(number + by) % len(cases)].instruction) for number, case in enumerate(cases)
    ]
