"""Answer formats: how a model writes tool calls as text, and how they are read.

Reading is strict. An answer that does not follow the format is `Unparsable` with what was found, where,
and what was expected; nothing is clamped, completed or guessed. Whether a call that was read fits a tool
is for the environment to say. Check a new format with `retouch_gym.testing.check_answer_format`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from retouch_gym.chat.describing import describe_calls
from retouch_gym.chat.strict_json import find_surrogate
from retouch_gym.errors import ConfigurationError, ToolError
from retouch_gym.resolve import resolve
from retouch_gym.tools.base import show
from retouch_gym.tools.toolset import Toolset
from retouch_gym.types import ToolCall, Unparsable

MAX_ANSWER = 65_536
"""Most characters of an answer; a longer one is refused unread."""

MAX_REASON = 300
"""Most characters of the reason for which an answer is refused."""

SUMMARY = "summary"
"""The task whose answer is a text (the user's intent in words) instead of an edit."""

SUMMARIZE = "summarize"
"""The tool that takes the text of a summary: ``{"text": str}``."""

THINK, THINK_END = "<think>", "</think>"
"""Around the reasoning, in the formats that write it as text."""

_EDIT = ("what the photo needs", (ToolCall("contrast", {"value": 20}), ToolCall("temperature", {"value": -10})))
_WORDS = ("what was changed", (ToolCall(SUMMARIZE, {"text": "make it brighter and a little cooler"}),))


class AnswerFormat(ABC):
    """How tool calls are written as text.

    A subclass is small frozen data (equal by value, hashable, picklable) and gives `read`, `compose`,
    `guide` and `reasoning`.

    Attributes:
        name: Short name, unique among the formats in use.
        empty_plan: Whether a plan without calls can be written.
    """

    name: ClassVar[str]
    empty_plan: ClassVar[bool] = True

    @abstractmethod
    def read(self, text: str, task: str) -> Sequence[ToolCall]:
        """Read the calls of an answer of at most `MAX_ANSWER` characters of Unicode text.

        Args:
            text: What the model wrote, special tokens removed.
            task: The task; in ``"summary"`` the answer is a call of ``summarize``.

        Raises:
            ToolError: With what was found, where, and what was expected.
        """

    @abstractmethod
    def compose(self, reasoning: str, calls: Sequence[ToolCall]) -> str:
        """Write an answer; `write` checks that it is read back as it was meant.

        Raises:
            ConfigurationError: If the format has no words for a call.
        """

    @abstractmethod
    def guide(self, task: str = "edit") -> str:
        """How to answer, for the prompt: one or two sentences that contain `example`."""

    @abstractmethod
    def reasoning(self, text: str) -> str:
        """The reasoning of an answer, without white space around it; empty if there is none. Never raises."""

    def parse(self, text: str, task: str = "edit") -> tuple[ToolCall, ...] | Unparsable:
        """Read an answer. Never raises, and the work is bounded by the length of the text.

        Args:
            text: What the model wrote, special tokens removed.
            task: The task that it answers, for instance ``"edit"`` or ``"summary"``.

        Returns:
            A plan (possibly empty), or `Unparsable` with a reason of at most `MAX_REASON` characters.
        """
        try:
            self._check_text(text)
            return tuple(self.read(text, task))
        except ToolError as error:
            return Unparsable(_clip(str(error)), text)

    def write(self, reasoning: str, calls: Sequence[ToolCall]) -> str:
        """Write an answer: the inverse of `parse` and of `reasoning`.

        Args:
            reasoning: The thoughts before the calls; white space around them is not kept.
            calls: The plan. A single call of ``summarize`` is the answer of the task ``"summary"``.

        Raises:
            ConfigurationError: If the format cannot hold these calls or this reasoning: what is written would
                be read as something else.
        """
        plan = tuple(calls)
        try:
            text = self.compose(reasoning, plan)
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigurationError(f"Answer format {self.name!r} cannot write {show(plan, 200)}: {error}") from error
        task = SUMMARY if [call.name for call in plan] == [SUMMARIZE] else "edit"
        found = self.parse(text, task)
        if found != plan:
            why = found.reason if isinstance(found, Unparsable) else f"it would be read as {show(found, 200)}"
            raise ConfigurationError(
                f"Answer format {self.name!r} cannot write {show(plan, 200)} with the reasoning "
                f"{show(reasoning)}: {why}. Leave the format's own tags out of the texts, and name a tool once."
            )
        if self.reasoning(text) != reasoning.strip():
            raise ConfigurationError(
                f"Answer format {self.name!r} cannot write the reasoning {show(reasoning)}: it would be read as "
                f"{show(self.reasoning(text))}. Leave the format's own tags out of it."
            )
        return text

    def example(self, task: str = "edit") -> str:
        """An answer in this format, as `guide` shows it."""
        return self.write(*(_WORDS if task == SUMMARY else _EDIT))

    def tools(self, toolset: Toolset) -> str:
        """What can be called, for the prompt: a line per tool."""
        return describe_calls(toolset)

    def _check_text(self, text: object) -> None:
        if not isinstance(text, str):
            raise ToolError(f"the answer is a {type(text).__name__}, expected a text")
        if len(text) > MAX_ANSWER:
            raise ToolError(f"the answer has {len(text)} characters; at most {MAX_ANSWER} are read")
        where = find_surrogate(text)
        if where >= 0:
            raise ToolError(f"the answer holds half of a surrogate pair at character {where}, which is no text")


def split_thinking(text: str) -> tuple[str, str]:
    """The reasoning inside ``<think>`` at the beginning of a text, and the rest.

    Chat templates of reasoning models write ``<think>`` at the end of the prompt, so the opening tag may be
    missing. Without a closing tag there is no reasoning and the rest is the whole text.
    """
    head, end, rest = text.partition(THINK_END)
    return (head.strip().removeprefix(THINK).strip(), rest) if end else ("", text)


def _clip(text: str) -> str:
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= MAX_REASON else clean[: MAX_REASON - 1] + "…"


ANSWER_FORMATS: Mapping[str, str] = {
    "iea": "retouch_gym.chat.iea:IEAFormat",
    "tool_call": "retouch_gym.chat.tool_call:ToolCallFormat",
    "json": "retouch_gym.chat.json_calls:JSONFormat",
}
"""Short names of the answer formats that come with the package."""


def get_answer_format(answer_format: str | AnswerFormat) -> AnswerFormat:
    """The answer format of a short name, a ``"module:attribute"`` string, or itself.

    Raises:
        ConfigurationError: If the name is not known.
    """
    if isinstance(answer_format, AnswerFormat):
        return answer_format
    found: AnswerFormat = resolve(answer_format, ANSWER_FORMATS, "answer format", AnswerFormat)
    return found
