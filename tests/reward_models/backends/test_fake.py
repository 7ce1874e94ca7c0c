from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable

import pytest

from retouch_gym.chat import assistant_message, user_message
from retouch_reward_models.backends import ChatFailure, ChatReply, ChatRequest, FakeBackend, hashed_number

Asking = Callable[..., list[ChatRequest]]

_ELSEWHERE = """
from retouch_gym.chat import user_message
from retouch_reward_models.backends import ChatRequest, FakeBackend
print(FakeBackend().complete([ChatRequest([user_message("x")])])[0].text)
"""


def test_the_same_answer_in_every_process(asking: Asking) -> None:
    (reply,) = FakeBackend().complete([ChatRequest([user_message("x")])])
    assert isinstance(reply, ChatReply)
    elsewhere = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE], capture_output=True, text=True, check=True, timeout=60
    )
    assert elsewhere.stdout.strip() == reply.text
    assert len({FakeBackend().complete(asking(f"{n}"))[0].text for n in range(50)}) == 50


def test_numbers_fill_the_range(asking: Asking) -> None:
    numbers = [hashed_number(request) for request in asking(*map(str, range(500)))]
    assert 0 <= min(numbers) < 0.02
    assert 0.98 < max(numbers) < 1
    assert sum(numbers) / 500 == pytest.approx(0.5, abs=0.05)
    (request,) = asking("x")
    assert hashed_number(request, "a") != hashed_number(request, "b")


def score(request: ChatRequest) -> str:
    return f"{10 * hashed_number(request):.0f}"


@pytest.mark.parametrize(
    ("answer", "expected"), [("7", ["7", "7"]), ({"cool": "1", "warm": "2"}, ["2", "1"]), ({"": "3"}, ["3", "3"])]
)
def test_answers(asking: Asking, answer, expected: list[str]) -> None:
    replies = FakeBackend(answer).complete(asking("warmer", "cooler"))
    assert [getattr(reply, "text", None) for reply in replies] == expected


def test_a_function_answers(asking: Asking) -> None:
    (request,) = asking("x")
    assert getattr(FakeBackend(score).complete([request])[0], "text", None) == score(request)


def test_every_turn_is_looked_at() -> None:
    request = ChatRequest([user_message("one"), assistant_message("two"), {"role": "user", "content": "three"}])
    assert [FakeBackend({text: text}).complete([request])[0].text for text in ("one", "two", "three")] == [
        "one",
        "two",
        "three",
    ]


@pytest.mark.parametrize("failures", [{"bad": "timeout"}, lambda r: "timeout" if r.seed == 1 else None])
def test_chosen_requests_fail(asking: Asking, failures) -> None:
    backend = FakeBackend("7", failures=failures)
    fine, bad = backend.complete([*asking("fine"), *asking("bad", seed=1)])
    assert isinstance(fine, ChatReply)
    assert isinstance(bad, ChatFailure)
    assert bad.kind == "timeout"
    assert len(backend.requests) == 2


def test_no_answer_is_a_mistake_of_the_test(asking: Asking) -> None:
    with pytest.raises(LookupError, match="'x'"):
        FakeBackend({"y": "1"}).complete(asking("x"))


def test_tokens_spell_the_answer(asking: Asking) -> None:
    (reply,) = FakeBackend('{"score": 7}\n ').complete(asking("a b", top_logprobs=1))
    assert isinstance(reply, ChatReply)
    assert "".join(token.text for token in reply.tokens) == reply.text
    assert (reply.prompt_tokens, reply.completion_tokens) == (3, len(reply.tokens))
    assert FakeBackend("7").complete(asking("x"))[0].tokens == ()


def test_pickling(asking: Asking) -> None:
    backend = FakeBackend(score, failures={"bad": "server"}, name="mine")
    backend.complete(asking("x"))
    copy = pickle.loads(pickle.dumps(backend))
    assert (copy.name, copy.requests) == ("mine", [])
    assert copy.complete(asking("x", "bad")) == backend.complete(asking("x", "bad"))
