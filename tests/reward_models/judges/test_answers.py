"""Answers are read strictly: exactly what was asked for, or a reason."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retouch_reward_models.backends.base import ChatReply
from retouch_reward_models.errors import VerdictError
from retouch_reward_models.judges.answers import read_choice, read_number, read_object, read_scores, read_words

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def outcome(read: Callable[[], object]) -> object:
    """What was read, or why nothing was, as a `VerdictError`. Anything else that is raised fails the test."""
    try:
        return read()
    except VerdictError as error:
        return error


@given(st.text())
def test_any_text_is_an_object_with_the_keys_or_a_reason(text: str) -> None:
    found = outcome(lambda: read_object(ChatReply(text), ("a", "b")))
    assert str(found) if isinstance(found, VerdictError) else set(found) == {"a", "b"}


@given(VALUES)
def test_any_value_is_a_number_in_range_or_a_reason(value: object) -> None:
    for read in (lambda: (read_number(value, "score", 0, 10),), lambda: read_scores(value, "score", 2, 0, 10)):
        found = outcome(read)
        if isinstance(found, VerdictError):
            assert "'score" in str(found)
        else:
            assert all(isinstance(number, float) and 0 <= number <= 10 for number in found)


@given(VALUES)
def test_any_value_is_a_choice_or_a_reason(value: object) -> None:
    found = outcome(lambda: read_choice(value, "better", ("A", "B")))
    assert "'better'" in str(found) if isinstance(found, VerdictError) else found in ("A", "B")


@pytest.mark.parametrize("wrapped", ["{}", " \n{}\n", "```json\n{}\n```", "```\n{}```"])
def test_white_space_and_one_fence_are_allowed(wrapped: str) -> None:
    text = wrapped.replace("{}", json.dumps({"a": 1, "b": "x"}))
    assert read_object(ChatReply(text), ("a", "b")) == {"a": 1, "b": "x"}


def test_words_are_words() -> None:
    assert read_words("x", "why") == "x"
    with pytest.raises(VerdictError, match="a number"):
        read_words(3, "why")
