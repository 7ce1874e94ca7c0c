"""Reading a chat completion strictly: what an endpoint sends may be anything."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from retouch_reward_models.backends.base import ChatReply, TokenChoice
from retouch_reward_models.backends.resilience import AttemptError

_CUT = frozenset({"length", "max_tokens", "content_filter", "abort"})
"""Reasons of ending with which an answer is not whole."""


def read_completion(body: str, *, tokens: bool = False) -> ChatReply:
    """The answer in the body of a response.

    Args:
        body: The response as text.
        tokens: Whether log-probabilities were asked for. They are read if they are there and spell the answer; a
            server that has none, or whose tokens are pieces of characters, gives none.

    Raises:
        AttemptError: ``"malformed"``, if it holds no answer. It is tried again, unless what came is a completion that
            has no text.
    """
    completion = _parse(body)
    if "choices" not in completion and completion.get("error"):
        raise _malformed(f"an error in place of a completion: {_short(completion['error'])}", body)
    choices = completion.get("choices")
    if not isinstance(choices, list) or not choices:
        raise _malformed("no choices", body)
    choice = choices[0]
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise _malformed("no message in the first choice", body)
    text = message.get("content")
    if not isinstance(text, str):
        why = "the model refused" if message.get("refusal") else f"content is {_short(text)}, not text"
        raise AttemptError("malformed", f"The answer has no text: {why}.", retry=False, health="well")
    prompt, answer = _usage(completion.get("usage"))
    return ChatReply(
        text,
        prompt,
        answer,
        complete=choice.get("finish_reason") not in _CUT,
        tokens=_tokens(choice.get("logprobs"), text, body) if tokens else (),
    )


def _parse(body: str) -> dict[str, Any]:
    try:
        # Python's reader takes NaN and Infinity, which are no JSON.
        completion = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"no JSON ({error})", body) from error
    if not isinstance(completion, dict):
        raise _malformed("no JSON object", body)
    return completion


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _usage(usage: Any) -> tuple[int | None, int | None]:
    if not isinstance(usage, dict):
        return None, None
    return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _tokens(logprobs: Any, text: str, body: str) -> tuple[TokenChoice, ...]:
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if content is None:
        return ()
    if not isinstance(content, list):
        raise _malformed("log-probabilities are no list", body)
    chosen: list[TokenChoice] = []
    spelled = 0
    for entry in content:
        token = _token(entry, body)
        # Some servers list the end-of-turn token too, which is no part of the text.
        if spelled == len(text):
            break
        if not text.startswith(token.text, spelled):
            return ()
        chosen.append(token)
        spelled += len(token.text)
    return tuple(chosen) if spelled == len(text) else ()


def _token(entry: Any, body: str) -> TokenChoice:
    text, logprob = _pair(entry, body)
    others = entry.get("top_logprobs") or []
    if not isinstance(others, list):
        raise _malformed("top_logprobs is no list", body)
    alternatives: dict[str, float] = {}
    for other, value in (_pair(other, body) for other in others):
        # Two tokens may read the same; as text, their probabilities add.
        alternatives[other] = _log_sum(alternatives[other], value) if other in alternatives else value
    alternatives.setdefault(text, logprob)
    return TokenChoice(text, alternatives)


def _pair(entry: Any, body: str) -> tuple[str, float]:
    if isinstance(entry, Mapping):
        text, value = entry.get("token"), entry.get("logprob")
        # A rounding error above 0 is forgiven; not a number and minus infinity are not.
        if isinstance(text, str) and isinstance(value, int | float) and -math.inf < value <= 1e-3:
            return text, min(0.0, float(value))
    raise _malformed("a log-probability is no token with a number of 0 or less", body)


def _log_sum(one: float, other: float) -> float:
    high, low = max(one, other), min(one, other)
    return min(0.0, high + math.log1p(math.exp(low - high)))


def _malformed(problem: str, body: str) -> AttemptError:
    return AttemptError("malformed", f"What came back is no chat completion: {problem}. It begins {_short(body)}.")


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 160 else f"{shown[:160]}…"
