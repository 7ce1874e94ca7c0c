"""The answer format of IEA (arXiv 2606.08016): ``<think>…</think><answer>{"slider": value, …}</answer>``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from retouch_gym.chat.describing import describe_tools
from retouch_gym.chat.formats import SUMMARIZE, SUMMARY, THINK, THINK_END, AnswerFormat
from retouch_gym.chat.strict_json import kind_of, read_json, write_json
from retouch_gym.errors import ConfigurationError, ToolError
from retouch_gym.tools.base import show
from retouch_gym.tools.toolset import Toolset
from retouch_gym.types import JSON, ToolCall

SYNONYMS: Mapping[str, str] = {"sharpen": "sharpness", "hue": "temperature", "lightness": "highlights"}
"""Slider names that the published system accepts for others."""

ACTIONS = ("finish", "undo")
"""Tools without a value; written as ``"finish": true``."""

_ANSWER, _ANSWER_END = "<answer>", "</answer>"
_TAGS = (THINK, THINK_END, _ANSWER, _ANSWER_END)
_INSIDE = f"the text inside {_ANSWER}"


@dataclass(frozen=True)
class IEAFormat(AnswerFormat):
    """One JSON object of sliders between tags, a Markdown fence around it allowed; in a summary, plain text.

    ``{"exposure": 20}`` is ``ToolCall("exposure", {"value": 20})``; ``"finish": true`` and ``"undo": true`` call
    those tools. Calls keep the order in which they are written.
    """

    name: ClassVar[str] = "iea"

    def read(self, text: str, task: str) -> Sequence[ToolCall]:
        """Read the sliders, or the text of a summary. See `AnswerFormat.read`."""
        answer = _between_tags(text)
        if task == SUMMARY:
            words = answer.strip()
            if not words:
                raise ToolError(f"{_INSIDE} is empty; expected what the user asked for, in words")
            return (ToolCall(SUMMARIZE, {"text": words}),)
        sliders = read_json(answer, _INSIDE, lambda name: SYNONYMS.get(name, name))
        if not isinstance(sliders, dict):
            raise ToolError(f'{_INSIDE} is {kind_of(sliders)}, expected an object of sliders like {{"exposure": 20}}')
        return [_call(SYNONYMS.get(name, name), value) for name, value in sliders.items()]

    def compose(self, reasoning: str, calls: Sequence[ToolCall]) -> str:
        """Write sliders, or the text of a summary. See `AnswerFormat.compose`.

        A space separates ``<think>`` from the reasoning, so that every word is written with a space before it.
        """
        if [call.name for call in calls] == [SUMMARIZE]:
            body = str(calls[0].arguments.get("text", ""))
        else:
            body = "{" + ", ".join(f"{write_json(call.name)}: {write_json(_value(call))}" for call in calls) + "}"
        return f"{THINK} {reasoning}{THINK_END}{_ANSWER}{body}{_ANSWER_END}"

    def guide(self, task: str = "edit") -> str:
        """How to answer. See `AnswerFormat.guide`."""
        if task == SUMMARY:
            return f"Answer exactly in this form, with the request in your own words:\n{self.example(task)}"
        return (
            f"Answer exactly in this form, naming only the sliders that you set:\n{self.example(task)}\n"
            'Add "finish": true to the object when the photo is as requested; "undo": true takes back the last change.'
        )

    def reasoning(self, text: str) -> str:
        """What stands inside ``<think>``. See `AnswerFormat.reasoning`."""
        head, end, _ = text.partition(THINK_END)
        before, start, thoughts = head.partition(THINK)
        return thoughts.strip() if end and start and not before.strip() else ""

    def tools(self, toolset: Toolset) -> str:
        """What can be set, for the prompt: a line per slider."""
        return describe_tools(toolset)


def _between_tags(text: str) -> str:
    for tag in _TAGS:
        count = text.count(tag)
        if count != 1:
            raise ToolError(f"expected exactly one {tag}, found {count or 'none'}")
    before, _, rest = text.partition(THINK)
    _, closed, rest = rest.partition(THINK_END)
    between, opened, rest = rest.partition(_ANSWER)
    answer, ended, after = rest.partition(_ANSWER_END)
    if not (closed and opened and ended):
        raise ToolError(f"the tags are in the wrong order; expected {THINK}…{THINK_END}{_ANSWER}…{_ANSWER_END}")
    for place, found in ((f"before {THINK}", before), ("between the two parts", between), ("at the end", after)):
        if found.strip():
            raise ToolError(
                f"found {show(found.strip())} {place}; "
                f"expected {THINK}…{THINK_END}{_ANSWER}…{_ANSWER_END} and nothing around it"
            )
    return answer


def _call(name: str, value: JSON) -> ToolCall:
    if name not in ACTIONS:
        return ToolCall(name, {"value": value})
    if value is not True:
        raise ToolError(f'"{name}" is {show(value)}, expected true; leave it out to go on')
    return ToolCall(name)


def _value(call: ToolCall) -> JSON:
    if call.name in ACTIONS and not call.arguments:
        return True
    if call.name in ACTIONS or set(call.arguments) != {"value"}:
        raise ConfigurationError(
            f"{call.name} with {show(call.arguments)} is no slider; the format 'iea' holds {{'value': …}} alone, use "
            "'tool_call' or 'json'"
        )
    return call.arguments["value"]
