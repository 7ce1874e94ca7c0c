"""Names in configs: short names of built-in objects, or ``"module:attribute"`` strings.

There is no registry to write to. A user's own object is passed as it is, or named by where it lives.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from retouch_gym.errors import ConfigurationError


def load_attribute(path: str, kind: str) -> Any:
    """Import ``"module:attribute"``.

    Raises:
        ConfigurationError: If the module or the attribute does not exist.
    """
    module_name, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"Cannot load {kind} {path!r}: {error}") from error


def locate(name: str, builtin: Mapping[str, str], kind: str) -> Any:
    """The object behind a short name of `builtin` or a ``"module:attribute"`` string.

    Raises:
        ConfigurationError: If the name is not known; close names are suggested.
    """
    if name in builtin:
        return load_attribute(builtin[name], kind)
    if ":" in name:
        return load_attribute(name, kind)
    close = difflib.get_close_matches(name, list(builtin), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ConfigurationError(
        f"Unknown {kind} {name!r}.{hint} Known: {', '.join(sorted(builtin))}; or pass an object or 'module:attribute'."
    )


def resolve(name: str, builtin: Mapping[str, str], kind: str, expected: type, /, **kwargs: Any) -> Any:
    """The instance behind a name; a class or factory found there is called with `kwargs`.

    Raises:
        ConfigurationError: If the name is not known, or leads to something that is no `expected`.
    """
    found = locate(name, builtin, kind)
    value = found if isinstance(found, expected) else found(**kwargs) if callable(found) else found
    if not isinstance(value, expected):
        raise ConfigurationError(f"{kind} {name!r} is a {type(value).__name__}, expected a {expected.__name__}.")
    return value


def build(value: Any, builtin: Mapping[str, str], kind: str, expected: type, /, **kwargs: Any) -> Any:
    """`value` itself if it is an `expected`, otherwise the instance behind the name, made with `kwargs`.

    Raises:
        ConfigurationError: If the name is not known, its options do not fit, or options come with a ready object.
    """
    if isinstance(value, expected):
        if kwargs:
            name = getattr(value, "name", type(value).__name__)
            raise ConfigurationError(f"Options {sorted(kwargs)} need the name of a {kind}, not a ready {name!r}.")
        return value
    try:
        return resolve(value, builtin, kind, expected, **kwargs)
    except TypeError as error:
        raise ConfigurationError(f"The {kind} {value!r} does not take these options: {error}") from error
