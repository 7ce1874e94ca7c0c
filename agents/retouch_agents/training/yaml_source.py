"""YAML with its line numbers and without its surprises.

Plain scalars are null, true, false, numbers or text and nothing else: ``1e-5`` is a number, ``no`` is a text, a date is
a text. A key that stands twice is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from retouch_gym.errors import ConfigurationError

Path = tuple[str | int, ...]
"""Keys and indices from the root to a value."""

_INTEGER = re.compile(r"[-+]?[0-9][0-9_]*")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, Any] = {"": None, "~": None, "null": None, "true": True, "false": False}
_PLAIN = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq")
)
"""What YAML makes of values without a tag."""


def read_yaml(text: str, name: str) -> tuple[Any, dict[Path, int]]:
    """The data of a YAML text, and the line on which each value stands.

    Args:
        text: The text.
        name: What errors call it.

    Raises:
        ConfigurationError: If it is not YAML, or holds what is more than data.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigurationError(f"{name}{where}: not YAML: {getattr(error, 'problem', None) or error}.") from None
    lines: dict[Path, int] = {}
    return (None if root is None else _value(root, (), lines, name)), lines


def _value(node: Any, path: Path, lines: dict[Path, int], name: str) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if node.tag not in _PLAIN:
        raise ConfigurationError(f"{name}, line {line}: the tag {node.tag!r} is not plain data; leave it out.")
    if isinstance(node, yaml.ScalarNode):
        return plain(node.value) if node.style is None else node.value
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, index), lines, name) for index, item in enumerate(node.value)]
    found: dict[str, Any] = {}
    for key, value in node.value:
        here = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigurationError(f"{name}, line {here}: a key should be a word.")
        if key.value in found:
            raise ConfigurationError(f"{name}, line {here}: the key {key.value!r} stands here a second time.")
        lines[*path, key.value] = here
        found[key.value] = _value(value, (*path, key.value), lines, name)
    return found


def plain(text: str) -> Any:
    """The value of a scalar that is not quoted."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
