"""Reading a judge's answers strictly: exactly what was asked for, or a `VerdictError` that says what was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retouch_gym.chat.strict_json import kind_of, read_json
from retouch_gym.errors import ToolError
from retouch_gym.tools.base import show
from retouch_reward_models.backends.base import ChatReply
from retouch_reward_models.errors import VerdictError

_WHAT = "the judge's answer"


def read_text(reply: ChatReply) -> str:
    """The answer, if it ended by itself.

    Raises:
        VerdictError: If it was cut off, so that what it would have said is not known.
    """
    if not reply.complete:
        raise VerdictError(f"{_WHAT} was cut off by the limit of tokens after {show(reply.text[-40:], 48)}")
    return reply.text


def read_object(reply: ChatReply, keys: Sequence[str]) -> dict[str, Any]:
    """A JSON object with exactly these keys, with white space or one Markdown fence around it.

    Raises:
        VerdictError: If the answer is cut off, no JSON, no object, or has a key too many, too few or twice.
    """
    text = read_text(reply)
    try:
        value = read_json(text, _WHAT)
    except ToolError as error:
        raise VerdictError(str(error)) from None
    if not isinstance(value, dict):
        raise VerdictError(f"{_WHAT} is {kind_of(value)}, expected an object with the keys {list(keys)}")
    if set(value) != set(keys):
        raise VerdictError(f"{_WHAT} has the keys {show(sorted(value), 80)}, expected exactly {sorted(keys)}")
    return value


def read_number(value: object, name: str, low: float, high: float) -> float:
    """A number between two bounds, both of them allowed.

    Raises:
        VerdictError: If it is no number (true and false are none) or out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise VerdictError(f"{name!r} is {kind_of(value)}, expected a number in {low:g}..{high:g}")
    if not low <= value <= high:
        raise VerdictError(f"{name!r} is {value!r}, expected a number in {low:g}..{high:g}")
    return float(value)


def read_words(value: object, name: str) -> str:
    """A string.

    Raises:
        VerdictError: If it is none.
    """
    if not isinstance(value, str):
        raise VerdictError(f"{name!r} is {kind_of(value)}, expected a string")
    return value


def read_choice(value: object, name: str, choices: Sequence[str]) -> str:
    """One of some words, written exactly so.

    Raises:
        VerdictError: If it is none of them.
    """
    if value not in choices:
        raise VerdictError(f"{name!r} is {show(value, 40)}, expected one of {list(choices)}")
    return str(value)


def read_scores(value: object, name: str, count: int, low: float, high: float) -> tuple[float, ...]:
    """A list of so many numbers between two bounds.

    Raises:
        VerdictError: If it is no list, of another length, or holds something else.
    """
    if not isinstance(value, list) or len(value) != count:
        raise VerdictError(f"{name!r} is {show(value, 60)}, expected a list of {count} numbers")
    return tuple(read_number(item, f"{name}[{number}]", low, high) for number, item in enumerate(value))
