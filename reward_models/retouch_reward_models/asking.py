"""Asking a chat model and reading its answers strictly, with bounded retries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from retouch_reward_models.backends.base import Backend, ChatFailure, ChatReply, ChatRequest
from retouch_reward_models.errors import VerdictError

Result = TypeVar("Result")

RETRY_TEMPERATURE = 0.7
"""A greedy answer that could not be read would come back the same, so it is asked for again at this temperature."""


@dataclass(frozen=True)
class Asked(Generic[Result]):
    """What came of one question.

    Args:
        result: What was read; None if nothing could be.
        problem: Why not; None if it could.
        replies: Every answer, the last one last.
        attempts: Requests made, the backend's own retries included.
        seconds: Time spent on them.
    """

    result: Result | None
    problem: str | None
    replies: tuple[ChatReply, ...] = field(default=(), repr=False)
    attempts: int = 1
    seconds: float = 0.0


def ask(
    backend: Backend,
    requests: Sequence[ChatRequest],
    read: Callable[[int, ChatReply], Result],
    *,
    attempts: int = 2,
) -> list[Asked[Result]]:
    """Ask for every conversation at once, and again for those whose answer cannot be read.

    Args:
        backend: Who answers.
        requests: The conversations.
        read: From a conversation's number and the answer to what is in it; raises `VerdictError` where that is nothing
            valid.
        attempts: How often an answer is asked for at most. What the backend itself could not answer is not asked
            again: it has its own retries.

    Returns:
        One `Asked` per request, in order.

    Raises:
        BackendError: If the backend cannot be used at all.
    """
    found: list[Asked[Result]] = [Asked(None, "not asked", attempts=0) for _ in requests]
    pending = list(range(len(requests)))
    for attempt in range(attempts):
        if not pending:
            break
        asked = [_again(requests[number], attempt) for number in pending]
        replies = backend.complete(asked)
        unread = []
        for number, reply in zip(pending, replies, strict=True):
            found[number] = _note(found[number], number, reply, read)
            if found[number].problem is not None and isinstance(reply, ChatReply):
                unread.append(number)
        pending = unread
    return found


def _again(request: ChatRequest, attempt: int) -> ChatRequest:
    if attempt == 0:
        return request
    seed = attempt if request.seed is None else request.seed + attempt
    return replace(request, temperature=max(request.temperature, RETRY_TEMPERATURE), seed=seed)


def _note(
    before: Asked[Result], number: int, reply: ChatReply | ChatFailure, read: Callable[[int, ChatReply], Result]
) -> Asked[Result]:
    attempts, seconds = before.attempts + reply.attempts, before.seconds + reply.seconds
    if isinstance(reply, ChatFailure):
        return Asked(None, f"{reply.kind}: {reply.reason}", before.replies, attempts, seconds)
    replies = (*before.replies, reply)
    try:
        return Asked(read(number, reply), None, replies, attempts, seconds)
    except VerdictError as error:
        return Asked(None, str(error), replies, attempts, seconds)
