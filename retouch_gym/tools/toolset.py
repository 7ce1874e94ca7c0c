"""A set of tools that an environment offers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from retouch_gym.errors import ConfigurationError, ToolError
from retouch_gym.resolve import resolve
from retouch_gym.tools.base import Control, Effect, SummarizeTool, Tool, ToolSpec, show
from retouch_gym.types import ToolCall

MAX_CALLS = 64
"""Most calls that one plan may hold."""


@dataclass(frozen=True)
class Toolset:
    """Named tools, and the validation of calls against them.

    Args:
        name: Name stored in every recipe made with this set; a renderer chooses its pipeline by it.
        tools: The tools, names unique.
        curves: Names of the point curves that recipes of this set can have.
        local_controls: Controls that local adjustments can carry; none if there are no local adjustments.
        can_crop: Whether recipes of this set can crop.

    Raises:
        ConfigurationError: If two tools share a name, or two different controls do.
    """

    name: str
    tools: tuple[Tool, ...]
    curves: tuple[str, ...] = ()
    local_controls: tuple[Control, ...] = ()
    can_crop: bool = False

    def __post_init__(self) -> None:
        names = [tool.name for tool in self.tools]
        # Two tools may set one control (a preset sets many), as long as they agree on what it is.
        controls = [control.name for control in {control for tool in self.tools for control in tool.controls}]
        for kind, seen in (("tools", names), ("controls", controls)):
            twice = {name for name in seen if seen.count(name) > 1}
            if twice:
                raise ConfigurationError(f"Toolset {self.name!r} has two {kind} named {sorted(twice)}; rename one.")

    @cached_property
    def by_name(self) -> Mapping[str, Tool]:
        """Tools by name."""
        return {tool.name: tool for tool in self.tools}

    @cached_property
    def controls(self) -> Mapping[str, Control]:
        """Controls by name, in the order of the tools."""
        return {control.name: control for tool in self.tools for control in tool.controls}

    @cached_property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What a language model is told. Made once, as prompts ask for it every turn."""
        return tuple(tool.spec for tool in self.tools)

    def parse(self, call: object) -> Effect:
        """Validate one call and return what it does.

        Raises:
            ToolError: If it is no `ToolCall`, names an unknown tool, or breaks the tool's schema.
        """
        if not isinstance(call, ToolCall):
            raise ToolError(f"expected a ToolCall, got {type(call).__name__}; write ToolCall(name, arguments)")
        tool = self.by_name.get(call.name) if isinstance(call.name, str) else None
        if tool is None:
            raise ToolError(f"unknown tool {show(call.name)}{self._suggest(call.name)}")
        return tool.parse(call.arguments)

    def parse_plan(self, calls: Sequence[object]) -> list[Effect]:
        """Validate a whole plan, all or nothing: every problem is named, none is applied.

        Raises:
            ToolError: If the plan is too long or any call is refused.
        """
        if len(calls) > MAX_CALLS:
            raise ToolError(f"a plan of {len(calls)} calls is too long; the limit is {MAX_CALLS}")
        effects, problems = [], []
        for call in calls:
            try:
                effects.append(self.parse(call))
            except ToolError as error:
                problems.append(str(error))
        if problems:
            raise ToolError(" | ".join(problems))
        return effects

    def _suggest(self, name: object) -> str:
        close = difflib.get_close_matches(name[:60], list(self.by_name), n=1) if isinstance(name, str) else []
        return f". Did you mean {close[0]!r}?" if close else f"; known tools: {', '.join(self.by_name)}"


SUMMARY = Toolset("summary", (SummarizeTool(),))
"""What may be called where before and after are shown and words are asked for."""

TOOLSETS: Mapping[str, str] = {
    "iea": "retouch_gym.tools.iea:IEA",
    "iea-compat": "retouch_gym.tools.iea:IEA_COMPAT",
    "lightroom": "retouch_gym.tools.lightroom:LIGHTROOM",
    "summary": "retouch_gym.tools.toolset:SUMMARY",
}
"""Short names of the toolsets that come with the package."""


def get_toolset(toolset: str | Toolset) -> Toolset:
    """The toolset of a short name, a ``"module:attribute"`` string, or itself.

    Raises:
        ConfigurationError: If the name is not known.
    """
    found: Toolset = toolset if isinstance(toolset, Toolset) else resolve(toolset, TOOLSETS, "toolset", Toolset)
    return found
