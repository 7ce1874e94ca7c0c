"""From a verdict to a number: the scores as written, or as expected under the model's own uncertainty."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import accumulate

from retouch_reward_models.backends.base import ChatReply, TokenChoice
from retouch_reward_models.grm.verdict import BEST, Scored, Verdict, weighted

_NUMBER = re.compile(r"\W*?([0-9]{1,2}(?:\.[0-9]+)?)\W*")


def greedy_total(verdict: Verdict, candidate: int = 0) -> float:
    """The weighted sum of the scores as written, 0..10."""
    return verdict.total(candidate)


def expected_total(verdict: Verdict, reply: ChatReply, candidate: int = 0) -> float:
    """The weighted sum of expected scores, 0..10.

    Where one token holds a score, the score is its expectation over the numbers from 0 to 10 among that token's
    alternatives, their probabilities scaled to 1 (as in G-Eval, arXiv 2303.16634). Whole scores tie often; expected
    ones hardly ever. A score that is spread over several tokens, or whose alternatives are not known, counts as
    written.
    """
    ends = list(accumulate(len(token.text) for token in reply.tokens))
    scores = [_expected(item, candidate, reply.tokens, ends) for item in verdict.scored]
    return weighted(verdict.criteria, scores)


def _expected(item: Scored, candidate: int, tokens: Sequence[TokenChoice], ends: Sequence[int]) -> float:
    written = item.scores[candidate]
    if candidate >= len(item.spans):
        return written
    start, end = item.spans[candidate]
    for token, stop in zip(tokens, ends, strict=True):
        if stop - len(token.text) <= start and end <= stop:
            break
    else:
        return written
    found: dict[float, float] = {}
    for text, logprob in token.alternatives.items():
        match = _NUMBER.fullmatch(text)
        # The same brackets, signs and spaces around the number as in what was written: "=9" and "=7", not "|7".
        if match is not None and float(match[1]) <= BEST and _frame(text) == _frame(token.text):
            found[float(match[1])] = found.get(float(match[1]), 0.0) + math.exp(logprob)
    mass = math.fsum(found.values())
    if mass <= 0:
        return written
    return math.fsum(score * probability for score, probability in found.items()) / mass


def _frame(text: str) -> str:
    return re.sub(r"\d+(?:\.\d+)?", "#", text)
