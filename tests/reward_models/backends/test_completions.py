"""Reading what an endpoint sends: an answer, or an error; never something else."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retouch_reward_models.backends import ChatReply
from retouch_reward_models.backends.completions import read_completion
from retouch_reward_models.backends.resilience import AttemptError

Completing = Callable[..., dict[str, Any]]

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["choices", "message", "content", "error", "usage", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def tokens_of(completing: Completing, text: str, entries: Any) -> list[tuple[str, dict[str, float]]]:
    answer = completing(text)
    answer["choices"][0]["logprobs"] = {"content": entries}
    reply = read_completion(json.dumps(answer), tokens=True)
    return [(token.text, dict(token.alternatives)) for token in reply.tokens]


@given(st.text() | _JSON.map(json.dumps))
@settings(max_examples=300, deadline=None)
def test_anything_is_an_answer_or_an_attempt_error(body: str) -> None:
    try:
        found: ChatReply | AttemptError = read_completion(body, tokens=True)
    except AttemptError as error:
        found = error
    if isinstance(found, ChatReply):
        assert isinstance(found.text, str)
    else:
        assert found.kind == "malformed"
        assert len(found.reason) < 700


@pytest.mark.parametrize("wrong", [None, 10, 1.5, True, [], ["10"], {"text": "10"}])
def test_text_in_the_wrong_type_is_no_answer(completing: Completing, wrong: Any) -> None:
    with pytest.raises(AttemptError, match="no text") as caught:
        read_completion(json.dumps(completing(wrong)))
    # The server works and would say the same again.
    assert (caught.value.retry, caught.value.health) == (False, "well")


@pytest.mark.parametrize("cut", range(1, 200, 7))
def test_any_cut_is_noticed(completing: Completing, cut: int) -> None:
    body = json.dumps(completing("10"))
    with pytest.raises(AttemptError, match="no JSON"):
        read_completion(body[:-cut])


def test_deep_nesting_is_no_crash() -> None:
    with pytest.raises(AttemptError):
        read_completion("[" * 100_000)


def test_an_error_sent_as_success_is_told(completing: Completing) -> None:
    with pytest.raises(AttemptError, match="overloaded"):
        read_completion('{"error": {"message": "overloaded"}}')
    # Some gateways send an empty error with every answer.
    assert read_completion(json.dumps(completing("8", error=None))).text == "8"


@pytest.mark.parametrize(
    "usage", [None, [], {}, {"prompt_tokens": "5"}, {"prompt_tokens": -1}, {"prompt_tokens": True}]
)
def test_counts_that_make_no_sense_are_unknown(completing: Completing, usage: Any) -> None:
    reply = read_completion(json.dumps(completing("8", usage=usage)))
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("8", None, None)


@pytest.mark.parametrize(
    ("reason", "complete"), [("stop", True), (None, True), ("length", False), ("content_filter", False)]
)
def test_answers_that_were_cut(completing: Completing, reason: str | None, complete: bool) -> None:
    answer = completing("8")
    answer["choices"][0]["finish_reason"] = reason
    assert read_completion(json.dumps(answer)).complete is complete


def test_tokens_with_their_alternatives(completing: Completing) -> None:
    entries = [
        {"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "a", "logprob": -0.5}]},
        # The chosen one is not among the most likely; two tokens read the same.
        {"token": "b", "logprob": -3, "top_logprobs": [{"token": "c", "logprob": math.log(0.25)}] * 2},
        {"token": "c", "logprob": 1e-7, "top_logprobs": None},
    ]
    found = tokens_of(completing, "abc", entries)
    assert [text for text, _ in found] == ["a", "b", "c"]
    assert found[0][1] == {"a": -0.5}
    assert found[1][1] == {"c": pytest.approx(math.log(0.5)), "b": -3.0}
    assert found[2][1] == {"c": 0.0}


def test_the_end_of_turn_is_no_part_of_the_answer(completing: Completing) -> None:
    entries = [{"token": "8", "logprob": 0.0}, {"token": "<|im_end|>", "logprob": 0.0}]
    assert [text for text, _ in tokens_of(completing, "8", entries)] == ["8"]


@pytest.mark.parametrize("pieces", [["8", "9"], ["\ufffd", "\ufffd"], ["é"], [], ["é8", "x"]])
def test_tokens_that_do_not_spell_the_answer_are_left_out(completing: Completing, pieces: list[str]) -> None:
    assert tokens_of(completing, "é8\n", [{"token": piece, "logprob": -1.0} for piece in pieces]) == []


@pytest.mark.parametrize(
    "entry",
    [
        "8",
        {"token": "8"},
        {"token": 8, "logprob": -1.0},
        {"token": "8", "logprob": "-1"},
        {"token": "8", "logprob": 0.7},
        {"token": "8", "logprob": -1.0, "top_logprobs": {"8": -1.0}},
        {"token": "8", "logprob": -1.0, "top_logprobs": [{"token": "8"}]},
    ],
)
def test_wrong_probabilities_are_never_used(completing: Completing, entry: Any) -> None:
    with pytest.raises(AttemptError, match="no chat completion"):
        tokens_of(completing, "8", [entry])


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, []])
def test_a_server_without_probabilities(completing: Completing, logprobs: Any) -> None:
    answer = copy.deepcopy(completing("8"))
    answer["choices"][0]["logprobs"] = logprobs
    reply = read_completion(json.dumps(answer), tokens=True)
    assert isinstance(reply, ChatReply)
    assert reply.tokens == ()
