"""Checks of an answer format."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Sequence

import numpy as np

from retouch_gym.chat.formats import MAX_ANSWER, MAX_REASON, SUMMARIZE, SUMMARY, AnswerFormat, get_answer_format
from retouch_gym.errors import ConfigurationError
from retouch_gym.tools.toolset import Toolset, get_toolset
from retouch_gym.types import ToolCall, Unparsable

_REASONINGS = ("", "the photo is too dark", "a few\nlines: 50 % „brighter“, {maybe} [more] \\ 猫")
_SUMMARIES = ("make it warmer", "more colour,\nbut {gently}: 猫 “so”")
_HOSTILE = (
    *(
        "",
        " ",
        "\x00",
        "\ud800",
        "NaN",
        "null",
        "{}",
        "[]",
        "{{",
        '"',
        "\\ud800",
        "1e999",
        "9" * 5000,
        "```",
        "```json",
    ),
    *("<think>", "</think>", "<think></think>", "<answer>", "<tool_call>", "</tool_call>"),
)
_REPEATED = ("[", '{"a":', "(", "<a>", "```", " ", '"', "\\")


def check_answer_format(
    answer_format: str | AnswerFormat, *, toolset: str | Toolset = "iea", samples: int = 50, seed: int = 0
) -> None:
    """Check that an answer format keeps the contract of `AnswerFormat`.

    What is written is read back, calls and reasoning; what cannot be written raises `ConfigurationError`; the
    guide shows an example that is read; any text, whole, cut, disturbed or hostile, is read the same each time, as a
    tuple of calls that strict JSON can hold or as `Unparsable` with a reason of at most `MAX_REASON` characters; an
    answer that is too long is refused; the format is equal to its pickled copy.

    Args:
        answer_format: Name or object.
        toolset: A toolset whose calls the format can write.
        samples: How many drawn plans to try.
        seed: Seed of the plans.

    Raises:
        AssertionError: Saying what is broken.
    """
    spoken, tools = get_answer_format(answer_format), get_toolset(toolset)
    rng = np.random.default_rng(seed)
    assert isinstance(spoken.name, str), f"{type(spoken).__name__}: the name is {spoken.name!r}, expected a text."
    assert spoken.name, f"{type(spoken).__name__}: the name is empty."
    written: list[str] = []
    for plan in [*_plans(tools, rng, samples), *([()] if spoken.empty_plan else [])]:
        written.append(_check_inverse(spoken, _REASONINGS[len(written) % len(_REASONINGS)], plan, "edit"))
    for reasoning, words in zip(_REASONINGS, _SUMMARIES, strict=False):
        written.append(_check_inverse(spoken, reasoning, (ToolCall(SUMMARIZE, {"text": words}),), SUMMARY))
    if not spoken.empty_plan:
        _check_not_written(spoken, ())
    _check_not_written(spoken, (ToolCall("note", {"value": float("nan")}),))
    for task in ("edit", SUMMARY):
        _check_guide(spoken, task, tools)
        for text in _texts(written, rng):
            _check_total(spoken, text, task)
    for part in _REPEATED:
        _check_total(spoken, (part * MAX_ANSWER)[:MAX_ANSWER], "edit")
    too_long = spoken.parse(written[0] + " " * MAX_ANSWER)
    assert isinstance(too_long, Unparsable), f"{spoken.name}: an answer of over {MAX_ANSWER} characters was read."
    copy = pickle.loads(pickle.dumps(spoken))
    assert copy == spoken, f"{spoken.name}: a pickled copy is not equal; make the format a frozen dataclass."
    assert hash(copy) == hash(spoken), f"{spoken.name}: a pickled copy has another hash; make it a frozen dataclass."


def _plans(toolset: Toolset, rng: np.random.Generator, samples: int) -> Iterator[tuple[ToolCall, ...]]:
    """Plans that call each of several tools once; words are not part of an edit."""
    tools = [tool for tool in toolset.tools if tool.name != SUMMARIZE]
    assert tools, f"Toolset {toolset.name!r} has no tools to edit with; give another."
    for _ in range(samples):
        chosen = rng.choice(len(tools), size=int(rng.integers(1, len(tools), endpoint=True)), replace=False)
        yield tuple(ToolCall(tools[index].name, tools[index].sample(rng)) for index in chosen.tolist())


def _check_inverse(spoken: AnswerFormat, reasoning: str, plan: Sequence[ToolCall], task: str) -> str:
    try:
        text = spoken.write(reasoning, plan)
    except ConfigurationError as error:
        raise AssertionError(f"{spoken.name}: valid calls cannot be written: {error}") from error
    found = spoken.parse(text, task)
    assert found == tuple(plan), f"{spoken.name}: {plan} is written as {text!r} and read as {found}."
    thoughts = spoken.reasoning(text)
    assert thoughts == reasoning.strip(), f"{spoken.name}: the reasoning {reasoning!r} is read back as {thoughts!r}."
    return text


def _check_not_written(spoken: AnswerFormat, plan: Sequence[ToolCall]) -> None:
    try:
        text = spoken.write("", plan)
    except ConfigurationError:
        return
    raise AssertionError(f"{spoken.name}: {plan} was written as {text!r}, it should raise ConfigurationError.")


def _check_guide(spoken: AnswerFormat, task: str, toolset: Toolset) -> None:
    example, guide = spoken.example(task), spoken.guide(task)
    assert example in guide, f"{spoken.name}: the guide of task {task!r} does not show example({task!r})."
    assert guide != example, f"{spoken.name}: the guide of task {task!r} says nothing beside the example."
    found = spoken.parse(example, task)
    assert isinstance(found, tuple), f"{spoken.name}: the example of task {task!r} cannot be read: {found}."
    assert isinstance(spoken.tools(toolset), str), f"{spoken.name}: tools() should return a text."


def _texts(written: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """Hostile texts, and good answers that are cut, doubled, or have a hostile part put in."""
    yield from _HOSTILE
    for text in written[:10]:
        at = int(rng.integers(len(text))) if text else 0
        yield from (text, text[:at], text[at:], text + text, f"Sure! {text}", f"{text} Done.")
        for part in _HOSTILE:
            yield text[:at] + part + text[at:]


def _check_total(spoken: AnswerFormat, text: str, task: str) -> None:
    shown = f"{text[:60]!r}" + ("…" if len(text) > 60 else "")
    try:
        found, again, thoughts = spoken.parse(text, task), spoken.parse(text, task), spoken.reasoning(text)
    except Exception as error:
        raise AssertionError(f"{spoken.name}: reading {shown} raised {type(error).__name__}: {error}") from error
    assert found == again, f"{spoken.name}: {shown} is read once as {found} and once as {again}."
    assert isinstance(thoughts, str), f"{spoken.name}: the reasoning of {shown} is no text."
    if not isinstance(found, Unparsable):
        good = isinstance(found, tuple) and all(isinstance(call, ToolCall) for call in found)
        assert good, f"{spoken.name}: {shown} is read as {found!r}, expected a tuple of ToolCall or Unparsable."
        _check_plain(spoken, shown, found)
        return
    assert found.reason, f"{spoken.name}: {shown} is refused without a reason."
    length = len(found.reason)
    assert length <= MAX_REASON, f"{spoken.name}: the reason for refusing {shown} has {length} characters."
    assert found.text == text, f"{spoken.name}: the refusal of {shown} does not carry the answer as written."


def _check_plain(spoken: AnswerFormat, shown: str, calls: Sequence[ToolCall]) -> None:
    """What is read can be recorded: finite numbers, names and texts that UTF-8 can hold."""
    try:
        data = [[call.name, dict(call.arguments)] for call in calls]
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{spoken.name}: {shown} is read as {calls!r}, which is no strict JSON: {error}") from None
