"""The answer format of Hermes and Qwen models: JSON inside ``<tool_call>`` blocks, as their chat templates teach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from retouch_gym.chat.formats import SUMMARIZE, SUMMARY, THINK, THINK_END, AnswerFormat, split_thinking
from retouch_gym.chat.strict_json import read_call, read_json_at, write_call
from retouch_gym.errors import ToolError
from retouch_gym.tools.base import show
from retouch_gym.types import ToolCall

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True)
class ToolCallFormat(AnswerFormat):
    """One block per call, after optional thoughts and text; in a summary, text without a block is the summary.

    A block is ``<tool_call>``, an object ``{"name": …, "arguments": {…}}`` and ``</tool_call>``. Nothing but white
    space may stand between blocks and after them: words about a result that the model has not seen yet.
    """

    name: ClassVar[str] = "tool_call"
    empty_plan: ClassVar[bool] = False

    def read(self, text: str, task: str) -> Sequence[ToolCall]:
        """Read the blocks. See `AnswerFormat.read`."""
        spoken = _without_thoughts(text)
        position = spoken.find(_OPEN)
        if position < 0:
            return _without_block(spoken, task)
        if _CLOSE in spoken[:position]:
            raise ToolError(f"found {_CLOSE} before the first {_OPEN}")
        calls: list[ToolCall] = []
        while position < len(spoken):
            what = f"tool call {len(calls) + 1}"
            value, end = read_json_at(spoken, position + len(_OPEN), what)
            close = _skip(spoken, end)
            if not spoken.startswith(_CLOSE, close):
                raise ToolError(f"expected {_CLOSE} after {what}, found {_found(spoken, close)}")
            calls.append(read_call(value, what))
            position = _skip(spoken, close + len(_CLOSE))
            if position < len(spoken) and not spoken.startswith(_OPEN, position):
                raise ToolError(f"expected another {_OPEN} or the end after {what}, found {_found(spoken, position)}")
        return calls

    def compose(self, reasoning: str, calls: Sequence[ToolCall]) -> str:
        """Write thoughts, if any, and a block per call. See `AnswerFormat.compose`."""
        thoughts = f"{THINK}\n{reasoning.strip()}\n{THINK_END}\n" if reasoning.strip() else ""
        return thoughts + "\n".join(f"{_OPEN}\n{write_call(call)}\n{_CLOSE}" for call in calls)

    def guide(self, task: str = "edit") -> str:
        """How to answer. See `AnswerFormat.guide`."""
        if task == SUMMARY:
            return f"Think briefly, then call summarize with the request in your own words:\n{self.example(task)}"
        return (
            "Think briefly, then call one or more tools, each as JSON in a block of its own, and write nothing after "
            f"them:\n{self.example(task)}"
        )

    def reasoning(self, text: str) -> str:
        """What stands inside ``<think>`` before the first block. See `AnswerFormat.reasoning`."""
        return split_thinking(text)[0] if _has_thoughts(text) else ""


def _has_thoughts(text: str) -> bool:
    # Thoughts may speak of a block, and an argument may hold the closing tag.
    return text.lstrip().startswith(THINK) or THINK_END in text.partition(_OPEN)[0]


def _without_thoughts(text: str) -> str:
    if not _has_thoughts(text):
        return text
    if THINK_END not in text:
        raise ToolError(f"{THINK} is opened and never closed; expected {THINK}…{THINK_END} and then {_OPEN}")
    return split_thinking(text)[1]


def _without_block(spoken: str, task: str) -> Sequence[ToolCall]:
    words = spoken.strip()
    if _CLOSE in words:
        raise ToolError(f"found {_CLOSE} and no {_OPEN}")
    if task == SUMMARY and words:
        return (ToolCall(SUMMARIZE, {"text": words}),)
    found = f"the text {show(words)}" if words else "nothing"
    raise ToolError(f'expected a tool call {_OPEN}{{"name": …, "arguments": {{…}}}}{_CLOSE}, found {found}')


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _found(text: str, position: int) -> str:
    return show(text[position : position + 40]) if position < len(text) else "the end of the answer"
