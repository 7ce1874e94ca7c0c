"""XMP's RDF as plain data: properties in attributes or in elements, lists, nested structures."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import TypeAlias

from retouch_gym.errors import RecipeError

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
CRS = "http://ns.adobe.com/camera-raw-settings/1.0/"
TIFF = "http://ns.adobe.com/tiff/1.0/"

MAX_CHARACTERS = 1 << 24
"""Longest text that is read; Lightroom's own files with many brush strokes stay far below."""

_MAX_DEPTH = 40

# What presets are called, in the user's languages: no settings, and often told twice.
_TITLES = frozenset({"Name", "ShortName", "SortName", "Group", "Description"})

Value: TypeAlias = "str | list[Value] | dict[str, Value]"
Properties: TypeAlias = "dict[str, Value]"


def parse(text: str, *namespaces: str) -> Properties:
    """Properties of the description that an XMP packet holds, by local name.

    Args:
        text: The packet.
        namespaces: Namespaces whose properties are wanted.

    Raises:
        RecipeError: If the text is no XMP, is too long or nested too deeply, says a thing twice in different
            ways, or declares a document type (through which a small file can unfold into gigabytes).
    """
    if len(text) > MAX_CHARACTERS:
        raise RecipeError(f"XMP of {len(text)} characters; at most {MAX_CHARACTERS} are read.")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise RecipeError("XMP with a document type or entities is refused; Lightroom writes neither.")
    try:
        root = ElementTree.fromstring(text.lstrip("\ufeff").strip())
    except (ElementTree.ParseError, ValueError) as error:
        raise RecipeError(f"Not XMP: {error}.") from None
    packets = [root] if root.tag == _rdf("RDF") else root.findall(_rdf("RDF"))
    if not packets:
        raise RecipeError(f"Not XMP: no rdf:RDF in <{_local(root.tag)}>.")
    found: Properties = {}
    for packet in packets:
        for description in packet.findall(_rdf("Description")):
            _merge(found, _properties(description, namespaces, 0))
    return found


def _properties(element: ElementTree.Element, namespaces: tuple[str, ...], depth: int) -> Properties:
    _check_depth(depth)
    found: Properties = {}
    for name, text in element.attrib.items():
        if _namespace(name) in namespaces:
            _merge(found, {_local(name): text.strip()})
    for child in element:
        if child.tag == _rdf("Description"):
            _merge(found, _properties(child, namespaces, depth + 1))
        elif _namespace(child.tag) in namespaces:
            _merge(found, {_local(child.tag): _value(child, namespaces, depth + 1)})
    return found


def _value(element: ElementTree.Element, namespaces: tuple[str, ...], depth: int) -> Value:
    _check_depth(depth)
    for container in ("Seq", "Bag", "Alt"):
        listed = element.find(_rdf(container))
        if listed is not None:
            return [_value(item, namespaces, depth + 1) for item in listed.findall(_rdf("li"))]
    inside = _properties(element, namespaces, depth)
    return inside or (element.text or "").strip()


def _check_depth(depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise RecipeError(f"XMP is nested more than {_MAX_DEPTH} levels deep.")


def _merge(into: Properties, new: Properties) -> None:
    for name, value in new.items():
        if name not in _TITLES and into.get(name, value) != value:
            raise RecipeError(f"XMP says {name} twice: {str(into[name])[:60]} and {str(value)[:60]}.")
        into[name] = value


def structures(value: Value | None, name: str) -> Iterator[Properties]:
    """The structures of a list property; an absent one has none.

    Raises:
        RecipeError: If the property is something else than a list of structures.
    """
    for item in [] if value is None or value == "" else value if isinstance(value, list) else [value]:
        if not isinstance(item, dict):
            raise RecipeError(f"{name} should be a list of structures, got {str(item)[:60]!r}.")
        yield item


def number(properties: Properties, name: str, default: float | None = None) -> float:
    """A number among the properties.

    Raises:
        RecipeError: If it is absent and has no default, or is no finite number.
    """
    value = properties.get(name)
    if value is None and default is not None:
        return float(default)
    try:
        found = float(value) if isinstance(value, str) else float("nan")
    except ValueError:
        found = float("nan")
    if not abs(found) < float("inf"):
        raise RecipeError(f"{name} = {str(value)[:60]!r}; expected a number.")
    return found


def truth(properties: Properties, name: str, default: bool) -> bool:
    """A truth value among the properties, in any case.

    Raises:
        RecipeError: If it is neither true nor false.
    """
    value = properties.get(name, str(default))
    known = {"true": True, "1": True, "false": False, "0": False}
    if not isinstance(value, str) or value.lower() not in known:
        raise RecipeError(f"{name} = {str(value)[:60]!r}; expected True or False.")
    return known[value.lower()]


def _rdf(name: str) -> str:
    return f"{{{RDF}}}{name}"


def _namespace(tag: str) -> str:
    return tag[1:].partition("}")[0] if tag.startswith("{") else ""


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
