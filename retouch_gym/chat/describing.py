"""Toolsets, photos and earlier requests in words, for prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retouch_gym.tools.base import ToolSpec
from retouch_gym.tools.toolset import Toolset
from retouch_gym.types import JSON


def describe_tools(toolset: Toolset) -> str:
    """The sliders: a line for each control with name, range and meaning.

    Tools that set nothing (finish, undo) are not among them; `describe_calls` lists every tool.
    """
    lines = []
    for tool in toolset.tools:
        for control in tool.controls:
            lines.append(f"- {control.name} ({control.low:g}..{control.high:g}): {tool.description}")
    return "\n".join(lines)


def describe_calls(toolset: Toolset) -> str:
    """The tools: a line for each with name, arguments and meaning, as in ``- exposure(value: -100..100): …``."""
    return "\n".join(f"- {spec.name}({_signature(spec)}): {spec.description}" for spec in toolset.specs)


def tool_schemas(toolset: Toolset) -> list[dict[str, JSON]]:
    """The tools as the ``tools`` list of OpenAI's and Hugging Face's chat APIs, in the order of the toolset."""
    return [spec.to_openai() for spec in toolset.specs]


def describe_photos(labels: Sequence[str]) -> str:
    """What each photo is, in the order shown: ``"1 the photo as it is now; 2 the goal"``. Empty without photos."""
    return "; ".join(f"{number} {label}" for number, label in enumerate(labels, 1))


def describe_history(requests: Sequence[str]) -> str:
    """Earlier requests on one line, oldest first: ``'"make it warmer", then "a little darker"'``."""
    return ", then ".join(f'"{" ".join(request.split())}"' for request in requests)


def _signature(spec: ToolSpec) -> str:
    properties: Any = spec.parameters.get("properties", {})
    return ", ".join(f"{name}: {_domain(entry)}" for name, entry in properties.items())


def _domain(entry: Mapping[str, Any]) -> str:
    low, high = entry.get("minimum"), entry.get("maximum")
    if low is not None and high is not None:
        return f"{low:g}..{high:g}"
    if "enum" in entry:
        return " | ".join(str(choice) for choice in entry["enum"])
    return str(entry.get("type", "any"))
