"""What judges speak to: a chat model, here or behind an endpoint, that answers a batch of conversations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from retouch_gym.chat import Message

FailureKind: TypeAlias = Literal[
    "timeout", "connection", "rate_limit", "server", "refused", "malformed", "circuit_open", "model"
]
"""Why there is no answer: out of time; no or a cut connection; 429; 5xx; another status; no chat completion in what
came back; the circuit breaker is open; the model itself raised."""


@dataclass(frozen=True)
class ChatRequest:
    """One conversation to be answered.

    Args:
        messages: As in `retouch_gym.chat.messages`: photos are uint8 arrays (H, W, 3) in image blocks.
        max_tokens: Most tokens of the answer.
        temperature: 0 answers greedily.
        seed: Seed of sampling, where the backend has one.
        top_logprobs: How many alternatives of each token to return; 0 for none.
    """

    messages: Sequence[Message]
    max_tokens: int = 1024
    temperature: float = 0.0
    seed: int | None = None
    top_logprobs: int = 0


@dataclass(frozen=True)
class TokenChoice:
    """One token of an answer and what could have stood there.

    Args:
        text: The token as text; the texts of all tokens together are the answer.
        alternatives: Text to log-probability of the most likely tokens, the chosen one among them.
    """

    text: str
    alternatives: Mapping[str, float]


@dataclass(frozen=True)
class ChatReply:
    """An answer.

    Args:
        text: What the model wrote.
        prompt_tokens: Tokens of the conversation, photos included; None where it is not known.
        completion_tokens: Tokens of the answer; None where it is not known.
        seconds: Time from the request to the answer, retries included.
        attempts: How often it was asked for.
        complete: Whether the answer ended by itself, not by the limit of tokens.
        tokens: The tokens with their alternatives, if they were asked for and the backend has them.
    """

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float = 0.0
    attempts: int = 1
    complete: bool = True
    tokens: tuple[TokenChoice, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class ChatFailure:
    """No answer, and why.

    Args:
        kind: Class of the failure.
        reason: What happened, in words.
        attempts: How often it was tried.
        seconds: Time that was spent on it.
    """

    kind: FailureKind
    reason: str
    attempts: int = 1
    seconds: float = 0.0


class Backend(ABC):
    """Answers conversations. Implementations are picklable and can be called from several threads.

    Attributes:
        name: Model and version. Part of every cache key, so it has to change when the answers may.
    """

    name: str

    @abstractmethod
    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply | ChatFailure]:
        """Answer each conversation, in order. One failure never spoils its neighbours.

        Raises:
            BackendError: If the backend cannot be used at all.
        """

    def close(self) -> None:  # noqa: B027  # most backends hold nothing that has to be given back
        """Give back connections and memory."""
