"""The plain JSON answer format: ``{"reasoning": "…", "calls": [{"name": …, "arguments": {…}}, …]}``.

For models that are held to a JSON schema while they write (structured output of a server).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from retouch_gym.chat.formats import SUMMARY, AnswerFormat
from retouch_gym.chat.strict_json import kind_of, read_call, read_json, write_call, write_json
from retouch_gym.errors import ToolError
from retouch_gym.tools.base import show
from retouch_gym.types import ToolCall

_KEYS = ("reasoning", "calls")
_WHAT = "the answer"


@dataclass(frozen=True)
class JSONFormat(AnswerFormat):
    """An object with ``calls`` and optionally ``reasoning``, or the bare list of calls; a Markdown fence is allowed."""

    name: ClassVar[str] = "json"

    def read(self, text: str, task: str) -> Sequence[ToolCall]:
        """Read the calls. See `AnswerFormat.read`."""
        calls, _ = _parts(read_json(text, _WHAT))
        return [read_call(call, f"call {number}") for number, call in enumerate(calls, 1)]

    def compose(self, reasoning: str, calls: Sequence[ToolCall]) -> str:
        """Write an object on one line, without ``reasoning`` where there is none. See `AnswerFormat.compose`."""
        thoughts = f'"reasoning": {write_json(reasoning.strip())}, ' if reasoning.strip() else ""
        return f'{{{thoughts}"calls": [{", ".join(write_call(call) for call in calls)}]}}'

    def guide(self, task: str = "edit") -> str:
        """How to answer. See `AnswerFormat.guide`."""
        if task == SUMMARY:
            return f"Answer with JSON alone, the request in your own words in one call:\n{self.example(task)}"
        return f"Answer with JSON alone, one entry of calls for each tool that you call:\n{self.example(task)}"

    def reasoning(self, text: str) -> str:
        """The entry ``reasoning`` of a well-formed answer. See `AnswerFormat.reasoning`."""
        try:
            self._check_text(text)
            return _parts(read_json(text, _WHAT))[1].strip()
        except ToolError:
            return ""


def _parts(answer: object) -> tuple[list[object], str]:
    if isinstance(answer, list):
        return answer, ""
    if not isinstance(answer, dict):
        raise ToolError(f'{_WHAT} is {kind_of(answer)}, expected an object {{"reasoning": "…", "calls": […]}}')
    unknown = [key for key in answer if key not in _KEYS]
    if unknown:
        raise ToolError(f"{_WHAT} has the unknown key {show(unknown[0])}; known: 'reasoning', 'calls'")
    if "calls" not in answer:
        raise ToolError(f'{_WHAT} has no \'calls\'; expected {{"reasoning": "…", "calls": […]}}')
    calls, reasoning = answer["calls"], answer.get("reasoning", "")
    if not isinstance(calls, list):
        raise ToolError(f"'calls' is {kind_of(calls)}, expected a list of calls")
    if not isinstance(reasoning, str):
        raise ToolError(f"'reasoning' is {kind_of(reasoning)}, expected a string")
    return calls, reasoning
