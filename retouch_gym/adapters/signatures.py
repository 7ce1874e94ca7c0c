"""Tools as Python methods with real signatures, for frameworks that derive a tool's JSON Schema from them."""

from __future__ import annotations

import inspect
import json
import keyword
from collections.abc import Callable, Collection, Mapping
from functools import reduce
from operator import or_
from types import NoneType
from typing import Any, Literal

from retouch_gym.errors import ConfigurationError
from retouch_gym.tools.base import ToolSpec

_SCALARS: Mapping[str, type] = {"integer": int, "number": float, "string": str, "boolean": bool, "null": NoneType}
_SAID = frozenset({"type", "description", "title", "default", "enum", "const", "minimum", "maximum"})


def as_method(
    spec: ToolSpec, call: Callable[[Any, str, dict[str, Any]], Any], reserved: Collection[str] = ()
) -> Callable[..., Any]:
    """A method that calls a tool.

    It takes any keyword, so that a wrong one reaches `call` and becomes feedback; its signature, type hints and
    Google-style docstring say what the tool's JSON Schema says, as far as they can. Limits that no type hint
    can express stand in the argument's description.

    Args:
        spec: The tool.
        call: Called as ``call(self, name, arguments)``.
        reserved: Names that mean something else in the class the method is for.

    Raises:
        ConfigurationError: If the tool or an argument has no public Python name, or a reserved one.
    """
    if not _is_name(spec.name) or spec.name in reserved:
        raise ConfigurationError(
            f"Tool {spec.name!r} cannot be a method: the name has to be a public Python name"
            f"{' other than ' + ', '.join(sorted(reserved)) if reserved else ''}. Rename it in the toolset."
        )
    root: Mapping[str, Any] = spec.parameters
    required: Collection[str] = root.get("required", ())
    parameters, lines = [], []
    for name, schema in _resolved(root, root).get("properties", {}).items():
        if not _is_name(name):
            raise ConfigurationError(f"Tool {spec.name!r}: argument {name!r} is no public Python name. Rename it.")
        default = inspect.Parameter.empty if name in required else schema.get("default")
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=_hint(schema), default=default)
        )
        lines.append(f"    {name}: {_describe(schema)}")

    # Positional-only self: a model may well write an argument named "self".
    def method(self: Any, /, **arguments: Any) -> Any:
        return call(self, spec.name, arguments)

    method.__name__ = method.__qualname__ = spec.name
    method.__doc__ = "\n".join([_one_line(spec.description), *(["", "Args:", *lines] if lines else [])])
    receiver = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__dict__["__signature__"] = inspect.Signature([receiver, *parameters])
    # No "return": it would stand in the prompt once for every tool and tell the model nothing.
    method.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return method


def _is_name(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_")


def _resolved(schema: Any, root: Mapping[str, Any]) -> Any:
    """The schema with every ``$ref`` into the root's ``$defs`` replaced by what it refers to."""
    if isinstance(schema, list):
        return [_resolved(item, root) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    plain = {name: _resolved(value, root) for name, value in schema.items() if name not in ("$ref", "$defs")}
    if "$ref" not in schema:
        return plain
    target = root["$defs"][str(schema["$ref"]).rpartition("/")[2]]
    return {**_resolved(target, root), **plain}


def _hint(schema: Mapping[str, Any]) -> Any:
    """The type hint that says what the schema says, or less."""
    if "const" in schema or "enum" in schema:
        return Literal[tuple(schema.get("enum") or [schema["const"]])]
    kind = schema.get("type")
    choices = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(kind, list):
        choices = [{**schema, "type": one} for one in kind]
    if choices:
        hints = [_hint(choice) for choice in choices]
        return Any if Any in hints else reduce(or_, hints)
    if kind == "array":
        inner = _hint(schema["items"]) if isinstance(schema.get("items"), Mapping) else Any
        return list if inner is Any else list.__class_getitem__(inner)
    return dict if kind == "object" else _SCALARS.get(str(kind), Any)


def _describe(schema: Mapping[str, Any]) -> str:
    """An argument in one line, with the limits that its type hint leaves out."""
    parts = [_one_line(str(schema["description"]))] if schema.get("description") else []
    if "minimum" in schema and "maximum" in schema:
        parts.append(f"From {schema['minimum']} to {schema['maximum']}.")
    elif "minimum" in schema or "maximum" in schema or not schema.keys() <= _SAID:
        limits = {name: value for name, value in schema.items() if name not in ("title", "description")}
        parts.append(f"JSON Schema: {json.dumps(limits)}")
    return " ".join(parts) or "Not described."


def _one_line(text: str) -> str:
    return " ".join(text.split())
