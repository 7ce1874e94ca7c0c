"""Which groups an iteration learns from, without a model: rewards are a function of the task."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from retouch_agents.encoding import Prompt
from retouch_agents.rllib.dynamic_sampling import draw, informative_groups
from retouch_agents.rllib.rollouts import GroupRequest, Rollout, SampleResult, TaskOrder

PROMPT = Prompt(np.array([1, 2], dtype=np.int64))
ORDER = TaskOrder(12, seed=3)


def _answer(group: int, member: int, reward: float) -> Rollout:
    tokens = np.zeros(2, dtype=np.int64)
    logprobs = np.zeros(2, dtype=np.float32)
    return Rollout(group, member, "", PROMPT, tokens, logprobs, reward, valid=not math.isnan(reward))


def _sampler(teaches: Callable[[int], bool]) -> Callable[[Sequence[GroupRequest]], SampleResult]:
    """Two answers per group, whose rewards differ if the task teaches something."""

    def sample(requests: Sequence[GroupRequest]) -> SampleResult:
        answers = [
            _answer(request.group, member, 0.5 + 0.1 * member * teaches(request.index or 0))
            for request in requests
            for member in range(2)
        ]
        return SampleResult(answers, {}, 4 * len(requests))

    return sample


def _groups(rollouts: Sequence[Rollout]) -> list[int]:
    return sorted({rollout.group for rollout in rollouts})


def test_without_extra_rounds_every_group_is_kept() -> None:
    found = draw(ORDER, 5, 4, _sampler(lambda _: False))
    assert _groups(found.kept) == [5, 6, 7, 8]
    assert (found.asked, found.advance, found.dropped, found.lost) == (4, 4, 0, 0)


def test_groups_that_teach_nothing_are_replaced_by_the_next_tasks() -> None:
    even = _sampler(lambda index: index % 2 == 0)
    found = draw(ORDER, 0, 4, even, extra_rounds=9)
    order = [request.index for request in ORDER.requests(0, found.advance)]
    assert _groups(found.kept) == [place for place, index in enumerate(order) if index is not None and index % 2 == 0]
    assert len(_groups(found.kept)) == 4
    assert found.asked == found.advance == len(_groups(found.sampled.rollouts))
    assert found.dropped == found.asked - 4
    assert found.sampled.tokens == 4 * found.asked
    # Nothing but the place in the order decides.
    assert _groups(draw(ORDER, 0, 4, even, extra_rounds=9).kept) == _groups(found.kept)


def test_the_bound_holds_where_nothing_teaches() -> None:
    found = draw(ORDER, 0, 4, _sampler(lambda _: False), extra_rounds=2)
    assert found.kept == []
    assert found.asked == found.dropped == 12


def test_no_extra_round_where_the_first_teaches() -> None:
    assert draw(ORDER, 0, 4, _sampler(lambda _: True), extra_rounds=2).asked == 4


def test_a_silent_pool_is_not_asked_again_and_loses_no_task() -> None:
    found = draw(ORDER, 0, 4, lambda _: SampleResult(), extra_rounds=2)
    assert (found.asked, found.advance, found.lost) == (4, 0, 4)


def test_failed_groups_are_replaced_too() -> None:
    def sample(requests: Sequence[GroupRequest]) -> SampleResult:
        whole = _sampler(lambda _: True)(requests)
        bad = {request.group: "gone" for request in requests if request.group == 1}
        return SampleResult([answer for answer in whole.rollouts if answer.group not in bad], bad, whole.tokens)

    found = draw(ORDER, 0, 3, sample, extra_rounds=1)
    assert _groups(found.kept) == [0, 2, 3]
    assert set(found.sampled.failures) == {1}
    assert found.lost == 0


def test_what_could_not_be_scored_or_differs_by_rounding_teaches_nothing() -> None:
    answers = [_answer(0, 0, math.nan), _answer(0, 1, 0.3), _answer(1, 0, 0.1 + 0.2), _answer(1, 1, 0.3)]
    assert informative_groups(answers) == set()
    assert informative_groups([*answers, _answer(0, 2, 0.4)]) == {0}
