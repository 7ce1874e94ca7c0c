"""JSON as a model may write it: one reading, bounded work, and a reason for every refusal.

Python's reader accepts what other readers do not agree on: ``NaN``, ``1e999`` (read as infinity), keys
given twice (the last one wins) and halves of surrogate pairs. An answer that holds one of these is
refused, so that what is carried out is what was written.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from json import JSONDecodeError, JSONDecoder
from typing import Any, NoReturn

from retouch_gym.errors import ToolError
from retouch_gym.tools.base import show
from retouch_gym.types import JSON, ToolCall

MAX_DEPTH = 16
"""Most levels of nesting of objects and lists."""

MAX_DIGITS = 64
"""Most characters of a number."""

_SPACE = re.compile(r"[ \t\n\r]*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_FENCE = "```"

Canonical = Callable[[str], str]
"""What a key is called in the end, so that two names of one thing count as given twice."""


def read_json(text: str, what: str, canonical: Canonical = str) -> Any:
    """Read a text that is one JSON value, with white space or one Markdown fence around it.

    Args:
        text: The text.
        what: What the text is, for the reason, for instance ``"the text inside <answer>"``.
        canonical: Maps a key to the name that it counts as when looking for keys given twice.

    Returns:
        The value: dict, list, str, int, finite float, bool or None.

    Raises:
        ToolError: With what was found, where, and what was expected.
    """
    body = unfence(text, what)
    value, end = read_json_at(body, 0, what, canonical)
    rest = body[end:].strip()
    if rest:
        raise ToolError(f"{what} is not one JSON value: it goes on with {show(rest)} after character {end}")
    return value


def read_json_at(text: str, start: int, what: str, canonical: Canonical = str) -> tuple[Any, int]:
    """Read the JSON value that begins at `start` (white space skipped) and say where it ends.

    Args:
        text: The whole text.
        start: Index at which to begin.
        what: What is read, for the reason.
        canonical: See `read_json`.

    Returns:
        The value, and the index behind its last character.

    Raises:
        ToolError: With what was found, where, and what was expected.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: set[str] = set()
        for key, _ in pairs:
            name = canonical(key)
            if name in seen:
                raise ToolError(f"{show(name)} is given twice in {what}; give it once")
            seen.add(name)
        return dict(pairs)

    decoder = JSONDecoder(object_pairs_hook=unique, parse_constant=_no_constant, parse_int=_integer, parse_float=_real)
    begin = _skip_space(text, start)
    if begin == len(text):
        raise ToolError(f"{what} is empty; expected JSON")
    try:
        value, end = decoder.raw_decode(text, begin)
    except JSONDecodeError as error:
        raise ToolError(_explain(error, text, begin, what)) from None
    except RecursionError:
        raise ToolError(f"{what} is nested too deeply; at most {MAX_DEPTH} levels are read") from None
    _check(value, what)
    return value, end


def unfence(text: str, what: str) -> str:
    """Take away white space and one Markdown fence (three backticks, optionally ``json``) around a text.

    Raises:
        ToolError: If a fence is opened and not closed.
    """
    body = text.strip()
    if not body.startswith(_FENCE):
        return body
    if len(body) < 2 * len(_FENCE) or not body.endswith(_FENCE):
        raise ToolError(f"the Markdown fence around {what} is opened and not closed; end it with {_FENCE}")
    return body[len(_FENCE) : -len(_FENCE)].removeprefix("json").strip()


def read_call(value: object, what: str) -> ToolCall:
    """A tool call from ``{"name": str, "arguments": object}``; arguments may be left out where there are none.

    Args:
        value: What was read.
        what: Which call this is, for the reason.

    Raises:
        ToolError: For another type, a key that is missing or unknown, or arguments that are no object.
    """
    if not isinstance(value, dict):
        raise ToolError(f'{what} is {kind_of(value)}, expected an object {{"name": …, "arguments": {{…}}}}')
    unknown = [key for key in value if key not in ("name", "arguments")]
    if unknown:
        raise ToolError(f"{what} has the unknown key {show(unknown[0])}; known: 'name', 'arguments'")
    if "name" not in value:
        raise ToolError(f'{what} has no \'name\'; expected {{"name": …, "arguments": {{…}}}}')
    name, arguments = value["name"], value.get("arguments", {})
    if not isinstance(name, str) or not name:
        raise ToolError(f"the 'name' of {what} is {show(name)}, expected the name of a tool")
    if not isinstance(arguments, dict):
        hint = " without quotes around it" if isinstance(arguments, str) else ""
        raise ToolError(f"the 'arguments' of {what} are {kind_of(arguments)}, expected an object{hint}")
    return ToolCall(name, arguments)


def write_call(call: ToolCall) -> str:
    """The inverse of `read_call`, as one line of JSON."""
    return write_json({"name": call.name, "arguments": call.arguments})


def write_json(value: Mapping[str, JSON] | JSON) -> str:
    """One line of JSON that keeps every character as it is.

    Raises:
        ValueError: If a number is not finite.
        TypeError: If JSON cannot hold the value.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def find_surrogate(text: str) -> int:
    """Index of the first half of a surrogate pair, which is no Unicode text; −1 if there is none."""
    found = None if text.isascii() else _SURROGATE.search(text)
    return -1 if found is None else found.start()


def kind_of(value: object) -> str:
    """The JSON type of a value, in words."""
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else kinds.get(type(value), type(value).__name__)


def _skip_space(text: str, start: int) -> int:
    match = _SPACE.match(text, start)
    return start if match is None else match.end()


def _explain(error: JSONDecodeError, text: str, begin: int, what: str) -> str:
    found = text[error.pos : error.pos + 20]
    near = f"found {show(found, 32)}" if found else "found the end of the text"
    hint = "; JSON wants double quotes" if found.startswith("'") else ""
    wanted = error.msg[:1].lower() + error.msg[1:]
    return f"{what} is not valid JSON: {wanted} at character {error.pos - begin}, {near}{hint}"


def _no_constant(name: str) -> NoReturn:
    raise ToolError(f"{name} is not a number that JSON knows; write digits")


def _integer(digits: str) -> int:
    return int(_short(digits))


def _real(digits: str) -> float:
    value = float(_short(digits))
    if not math.isfinite(value):
        raise ToolError(f"the number {digits} is too large to be held")
    return value


def _short(digits: str) -> str:
    if len(digits) > MAX_DIGITS:
        raise ToolError(f"the number {digits[:12]}… has {len(digits)} characters; at most {MAX_DIGITS} are read")
    return digits


def _check(value: object, what: str) -> None:
    """Bound the nesting and refuse what is no Unicode text, without recursion."""
    level: list[object] = [value]
    for _ in range(MAX_DEPTH + 1):
        if not level:
            return
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below += [*item.keys(), *item.values()]
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str) and find_surrogate(item) >= 0:
                raise ToolError(f"{what} holds half of a surrogate pair in {show(item)}; write the whole character")
        level = below
    raise ToolError(f"{what} is nested too deeply; at most {MAX_DEPTH} levels are read")
