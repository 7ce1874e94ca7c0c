"""A backend without a model, for tests: what it answers depends on the request alone."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from retouch_gym.chat import photos_of
from retouch_reward_models.backends.base import Backend, ChatFailure, ChatReply, ChatRequest, FailureKind, TokenChoice
from retouch_reward_models.backends.keys import request_key, request_text

Answer: TypeAlias = Callable[[ChatRequest], str] | Mapping[str, str] | str
"""From a request to the answer; or the answer by a piece of the conversation's text (the first that occurs); or always
the same."""

Failing: TypeAlias = Callable[[ChatRequest], FailureKind | None] | Mapping[str, FailureKind]
"""From a request to the failure, if it is to fail; or the failure by a piece of the conversation's text."""

Found = TypeVar("Found")

_SPACE = 2**53


def hashed_number(request: ChatRequest, salt: str = "") -> float:
    """A number in [0, 1) that depends on everything in a request, the same in every process.

    Args:
        request: The conversation.
        salt: Another salt gives another number.
    """
    return (int(request_key(request, salt)[:16], 16) >> 11) / _SPACE


def default_answer(request: ChatRequest) -> str:
    """Ten hexadecimal digits that depend on everything in a request: an answer, but no verdict."""
    return f"answer {request_key(request)[:10]}"


class FakeBackend(Backend):
    """Answers without a model: the same request, the same answer, in every process.

    Tokens are words with the space before them, and a photo is one token. Where log-probabilities are asked for, every
    token is certain.

    Args:
        answer: What to answer. Pickling needs a function of a module, not a lambda.
        failures: Which requests fail, and how; looked at first.
        name: The backend's name.

    Attributes:
        requests: Everything asked so far, in order; not pickled.

    Example:
        >>> from retouch_gym.chat import user_message
        >>> judge = FakeBackend({"brighter": "8"}, failures={"poison": "server"})
        >>> asked = [ChatRequest([user_message(text)]) for text in ("brighter", "poison")]
        >>> [getattr(reply, "text", None) for reply in judge.complete(asked)]
        ['8', None]
    """

    def __init__(self, answer: Answer = default_answer, *, failures: Failing | None = None, name: str = "fake") -> None:
        self.name = name
        self._answer = answer
        self._failures: Failing = failures if failures is not None else {}
        self._lock = threading.Lock()
        self.requests: list[ChatRequest] = []

    def __reduce__(self) -> tuple[Callable[..., FakeBackend], tuple[Answer, Failing, str]]:
        return _rebuilt, (self._answer, self._failures, self.name)

    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply | ChatFailure]:
        """Answer each conversation, in order.

        Raises:
            LookupError: If answers are given by text and none of the texts occurs.
        """
        with self._lock:
            self.requests.extend(requests)
        return [self._one(request) for request in requests]

    def _one(self, request: ChatRequest) -> ChatReply | ChatFailure:
        kind = _chosen(self._failures, request)
        if kind is not None:
            return ChatFailure(kind, f"The fake backend fails with {kind!r}, as it was told to.")
        text = self._answer if isinstance(self._answer, str) else _chosen(self._answer, request)
        if text is None:
            raise LookupError(f"No answer is given for {request_text(request)!r}; add a piece of this text.")
        words = re.findall(r"\s*\S+|\s+$", text)
        tokens = tuple(TokenChoice(word, {word: 0.0}) for word in words) if request.top_logprobs else ()
        asked = len(request_text(request).split()) + len(photos_of(request.messages))
        return ChatReply(text, asked, len(words), tokens=tokens)


def _chosen(source: Callable[[ChatRequest], Found | None] | Mapping[str, Found], request: ChatRequest) -> Found | None:
    if not isinstance(source, Mapping):
        return source(request)
    text = request_text(request)
    return next((found for piece, found in source.items() if piece in text), None)


def _rebuilt(answer: Answer, failures: Failing, name: str) -> FakeBackend:
    return FakeBackend(answer, failures=failures, name=name)
