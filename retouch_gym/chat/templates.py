"""A prompt template: what a model is told, as data that a user can replace.

A template is saved beside a checkpoint, so that a model always meets the prompt that it was trained on.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from retouch_gym.errors import ConfigurationError

FIELDS: Mapping[str, str] = {
    "instruction": "the request that counts now",
    "request": "the same where it is new in this turn, else empty",
    "history": "earlier requests, oldest first, on one line",
    "tools": "what can be called, a line each",
    "guide": "how to answer, from the answer format",
    "photos": "what each photo of this turn is",
    "recipe": "what is set, as a JSON object of name to value",
    "feedback": "what came of the last answer",
    "turns_left": "answers until the episode ends by itself",
}
"""What may stand in braces, and what it is replaced by."""

OPTIONAL = frozenset(FIELDS) - {"instruction", "turns_left"}
"""Fields that may be empty: a line that would show nothing but them is left out."""

FOLLOW_UP = "{feedback}\nPhotos: {photos}\nNew request: {request}\nTurns left: {turns_left}"
"""The default of `PromptTemplate.follow_up`."""


@dataclass(frozen=True)
class PromptTemplate:
    """The words around the photos.

    Texts with fields in braces, see `FIELDS`; literal braces are written twice. A line is left out where it
    has fields, all of them in `OPTIONAL` and all of them empty, its other words included: the line
    ``New request: {request}`` is there only when there is a new request.

    Args:
        user: First user turn, behind the photos.
        system: System turn; empty for none.
        follow_up: User turn after each answer but the last, behind the photo as it then is.

    Raises:
        ConfigurationError: If a text is no string or has a field that is not known.
    """

    user: str
    system: str = ""
    follow_up: str = FOLLOW_UP

    def __post_init__(self) -> None:
        for name in ("user", "system", "follow_up"):
            _check(name, getattr(self, name))

    def opening(self, values: Mapping[str, Any]) -> tuple[str, str]:
        """The system text and the first user text.

        Args:
            values: Value of each field; one that is not given is empty, ``request`` is then the ``instruction``.
        """
        known = {"request": values.get("instruction", ""), **values}
        return _fill(self.system, known), _fill(self.user, known)

    def following(self, values: Mapping[str, Any]) -> str:
        """The user text after an answer.

        Args:
            values: Value of each field; one that is not given is empty.
        """
        return _fill(self.follow_up, values)

    def to_dict(self) -> dict[str, str]:
        """The template as JSON-able data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: object) -> PromptTemplate:
        """Inverse of `to_dict`; ``system`` and ``follow_up`` may be missing.

        Raises:
            ConfigurationError: If it is no object, a key is missing or unknown, or a text is not valid.
        """
        known = [item.name for item in fields(cls)]
        if not isinstance(data, Mapping) or "user" not in data or not set(data) <= set(known):
            got = f"the keys {sorted(map(str, data))}" if isinstance(data, Mapping) else f"a {type(data).__name__}"
            raise ConfigurationError(
                f"A prompt template has {got}; expected an object with 'user' and optionally {', '.join(known[1:])}."
            )
        return cls(**data)

    def save(self, path: str | Path) -> None:
        """Write the template as JSON."""
        write_json_file(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> PromptTemplate:
        """Read a template written by `save`.

        Raises:
            ConfigurationError: If the file cannot be read or holds no template.
        """
        return cls.from_dict(read_json_file(path))


def write_json_file(path: str | Path, data: Mapping[str, Any]) -> None:
    """Write JSON-able data."""
    Path(path).write_text(json.dumps(data, indent=1, ensure_ascii=False), encoding="utf-8")


def read_json_file(path: str | Path) -> Any:
    """Read a JSON file of prompts.

    Raises:
        ConfigurationError: If the file cannot be read or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"Cannot read prompts from {str(path)!r}: {error}") from error


def _check(name: str, text: object) -> None:
    if not isinstance(text, str):
        raise ConfigurationError(f"Prompt template: {name!r} is a {type(text).__name__}, expected a text.")
    try:
        parts = [part for line in text.split("\n") for part in string.Formatter().parse(line)]
    except ValueError as error:
        raise ConfigurationError(
            f"Prompt template: {name!r} has odd braces ({error}); write literal ones twice."
        ) from None
    for _, field, spec, conversion in parts:
        if field is not None and (field not in FIELDS or spec or conversion):
            raise ConfigurationError(
                f"Prompt template: {name!r} has an unknown field {{{field}}}; known: {', '.join(FIELDS)}, each alone "
                "in its braces. Write literal braces twice."
            )


def _fill(text: str, values: Mapping[str, Any]) -> str:
    # Values are put in once and never read as a template: a request may hold braces.
    known = {name: str(values.get(name, "")) for name in FIELDS}
    lines = []
    for line in text.split("\n"):
        named = {field for _, field, _, _ in string.Formatter().parse(line) if field}
        if not named or not named <= OPTIONAL or any(known[field] for field in named):
            lines.append(line.format_map(known))
    return "\n".join(lines)
