"""Asking with bounded retries."""

from __future__ import annotations

from collections.abc import Sequence

from retouch_gym.chat import user_message
from retouch_reward_models.asking import RETRY_TEMPERATURE, ask
from retouch_reward_models.backends import Backend, ChatFailure, ChatReply, ChatRequest
from retouch_reward_models.backends.keys import request_text
from retouch_reward_models.errors import VerdictError


class Rounds(Backend):
    """Answers by the conversation's text and how often it was asked."""

    name = "rounds"

    def __init__(self, **answers: list[str | None]) -> None:
        self.answers = answers
        self.calls: list[list[ChatRequest]] = []

    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply | ChatFailure]:
        number = len(self.calls)
        self.calls.append(list(requests))
        return [self._one(self.answers[request_text(request)][number]) for request in requests]

    def _one(self, answer: str | None) -> ChatReply | ChatFailure:
        if answer is None:
            return ChatFailure("timeout", "too slow", attempts=3, seconds=2.0)
        return ChatReply(answer, seconds=0.5, attempts=2)


def digits(_: int, reply: ChatReply) -> int:
    if not reply.text.isdecimal():
        raise VerdictError(f"{reply.text!r} is no number")
    return int(reply.text)


def requests(*names: str, seed: int | None = None, temperature: float = 0.0) -> list[ChatRequest]:
    return [ChatRequest([user_message(name)], seed=seed, temperature=temperature) for name in names]


def test_only_what_could_not_be_read_is_asked_again() -> None:
    backend = Rounds(good=["1"], late=["x", "2"], never=["x", "y", "z"], dead=[None])
    found = ask(backend, requests("good", "late", "never", "dead"), digits, attempts=3)
    assert [item.result for item in found] == [1, 2, None, None]
    assert [len(call) for call in backend.calls] == [4, 2, 1]
    assert [item.problem for item in found] == [None, None, "'z' is no number", "timeout: too slow"]
    assert [item.attempts for item in found] == [2, 4, 6, 3]
    assert [item.seconds for item in found] == [0.5, 1.0, 1.5, 2.0]
    assert [[reply.text for reply in item.replies] for item in found] == [["1"], ["x", "2"], ["x", "y", "z"], []]


def test_a_second_question_is_sampled_with_another_seed() -> None:
    backend = Rounds(a=["x", "x", "x"])
    ask(backend, requests("a"), digits, attempts=3)
    asked = [call[0] for call in backend.calls]
    assert [(request.temperature, request.seed) for request in asked] == [
        (0.0, None),
        (RETRY_TEMPERATURE, 1),
        (RETRY_TEMPERATURE, 2),
    ]
    warm = Rounds(a=["x", "x"])
    ask(warm, requests("a", seed=5, temperature=0.9), digits, attempts=2)
    assert [(call[0].temperature, call[0].seed) for call in warm.calls] == [(0.9, 5), (0.9, 6)]


def test_what_was_read_before_a_failure_is_still_told() -> None:
    backend = Rounds(a=["x", None])
    (found,) = ask(backend, requests("a"), digits, attempts=3)
    assert (found.result, found.problem) == (None, "timeout: too slow")
    assert [reply.text for reply in found.replies] == ["x"]
    assert len(backend.calls) == 2


def test_nothing_asked_is_no_call() -> None:
    backend = Rounds()
    assert ask(backend, [], digits) == []
    assert backend.calls == []
