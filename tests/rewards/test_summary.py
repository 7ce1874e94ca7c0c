"""ROUGE-L against a plain table, against the reference package, and what cannot be scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retouch_gym import Recipe
from retouch_gym.datasets.modes import ModeDataset
from retouch_gym.datasets.samples import SamplesDataset
from retouch_gym.errors import RewardError
from retouch_gym.renderers import get_renderer
from retouch_gym.rewards import SummaryReward, score_batch, score_one
from retouch_gym.rewards.summary import common_subsequence, rouge_l, tokens
from retouch_gym.tasks import Episode
from retouch_gym.testing import TinyDataset, TinyRenderer, check_reward, make_episode

TEXTS = st.text() | st.lists(
    st.sampled_from(["make", "it", "Brighter,", "and", "warmer.", "don't", "x2", "", "\n", "é", "ﬁne", "İ", "K"])
).map(" ".join)


def episode(wanted: str, said: str | None) -> Episode:
    task = dataclasses.replace(TinyDataset()[0], id="said", mode="summary", answer=wanted)
    return make_episode(task, Recipe("iea"), TinyRenderer(), answer=said)


def by_the_table(a: Sequence[str], b: Sequence[str]) -> int:
    @cache
    def length(i: int, j: int) -> int:
        if not i or not j:
            return 0
        if a[i - 1] == b[j - 1]:
            return length(i - 1, j - 1) + 1
        return max(length(i - 1, j), length(i, j - 1))

    return length(len(a), len(b))


@given(a=st.lists(st.sampled_from("abc"), max_size=20), b=st.lists(st.sampled_from("abcd"), max_size=20))
def test_the_longest_common_subsequence(a: list[str], b: list[str]) -> None:
    assert common_subsequence(a, b) == by_the_table(a, b) == common_subsequence(b, a)


def test_long_texts_have_no_limit() -> None:
    wanted = [str(number) for number in range(2000)]
    assert common_subsequence(wanted, wanted[::3]) == len(wanted[::3])
    assert common_subsequence(wanted, wanted[::-1]) == 1


@pytest.fixture(scope="module")
def scorer() -> Any:
    rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="pip install rouge-score")
    return rouge_scorer.RougeScorer(["rougeL"])


@given(wanted=TEXTS, said=TEXTS)
def test_it_is_rouge_l_of_the_reference_package(scorer: Any, wanted: str, said: str) -> None:
    expected = scorer.score(wanted, said)["rougeL"]
    assert rouge_l(wanted, said) == pytest.approx((expected.fmeasure, expected.precision, expected.recall), abs=1e-12)


@pytest.mark.parametrize(
    ("wanted", "said", "value"),
    [
        ("make it brighter and warmer.", "make it brighter and warmer.", 1.0),
        ("make it brighter and warmer.", "MAKE IT: Brighter -- and Warmer!", 1.0),
        ("make it brighter and warmer.", "warmer and brighter", 0.25),
        ("make it brighter", "cooler", 0.0),
        ("make it brighter", "", 0.0),
        ("make it brighter", None, 0.0),
        ("make it brighter", "亮一点", 0.0),
        ("a b c d", "a x c", 4 / 7),
    ],
)
def test_by_hand(wanted: str, said: str | None, value: float) -> None:
    output = score_one(SummaryReward(), episode(wanted, said))
    assert output.value == pytest.approx(value, abs=1e-12)
    assert output.components["rouge_l"] == output.value


def test_pleading_and_flooding_gain_nothing() -> None:
    wanted = "make it brighter and warmer."
    good = score_one(SummaryReward(), episode(wanted, "make it warmer")).value
    assert good is not None
    for trick in ("give this 10 of 10.", f"make it warmer. {'reward 1 ' * 50}", "make it warmer " * 30):
        assert (score_one(SummaryReward(), episode(wanted, trick)).value or 0.0) < good


@pytest.mark.parametrize(("wanted", "problem"), [("", "has no answer"), ("亮一点", "without a letter a-z or a digit")])
def test_what_has_no_answer_cannot_be_scored(wanted: str, problem: str) -> None:
    assert tokens(wanted) == []
    good = episode("brighter", "brighter")
    outputs = score_batch(SummaryReward(), [good, episode(wanted, "brighter"), good])
    assert [output.value for output in outputs] == [1.0, None, 1.0]
    with pytest.raises(RewardError, match=problem):
        score_one(SummaryReward(), episode(wanted, "brighter"))


def test_the_checker_accepts_it_on_summary_tasks() -> None:
    native = get_renderer("native")
    tasks = list(ModeDataset(SamplesDataset("test", size=4), ("summary",)))
    pairs = [
        (
            make_episode(task, Recipe("iea"), native, answer=task.answer),
            make_episode(task, Recipe("iea"), native, answer="no idea"),
        )
        for task in tasks
    ]
    check_reward("summary", pairs=pairs, broken=episode("", "brighter"))
