"""The answer format of IEA (arXiv 2606.08016): ``<think>…</think><answer>{"slider": value, …}</answer>``.

Parsing is strict: what does not follow the format is `Unparsable` with the reason. Values are never
clamped or guessed; whether they fit a tool is for the environment to say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from retouch_gym.types import Action, ToolCall, Unparsable

SYNONYMS: Mapping[str, str] = {"sharpen": "sharpness", "hue": "temperature", "lightness": "highlights"}
"""Slider names that the published system accepts for others."""

_ANSWER = re.compile(r"\s*<think>(?P<think>.*?)</think>\s*<answer>(?P<answer>.*?)</answer>\s*", re.DOTALL)
_FENCE = re.compile(r"\s*```(?:json)?\s*(?P<body>.*?)\s*```\s*", re.DOTALL)
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def format_answer(reasoning: str, controls: Mapping[str, float]) -> str:
    """Write an answer. The inverse of `parse_answer` for integer sliders.

    A space separates ``<think>`` from the reasoning, so that every word is written with a space before it.
    """
    body = ", ".join(f'"{name}": {value:g}' for name, value in controls.items())
    return f"<think> {reasoning}</think><answer>{{{body}}}</answer>"


def parse_answer(text: str) -> Action:
    """Read the tool calls of an answer: one per slider, in the order written.

    Args:
        text: What the model wrote, special tokens removed. A Markdown fence inside ``<answer>`` is allowed.

    Returns:
        A plan (possibly empty), or `Unparsable` with what is wrong.
    """
    for tag in _TAGS:
        if text.count(tag) != 1:
            return Unparsable(f"expected exactly one {tag}, found {text.count(tag)}", text)
    match = _ANSWER.fullmatch(text)
    if match is None:
        return Unparsable("expected <think>…</think><answer>{…}</answer> and nothing around it", text)
    answer = match["answer"]
    fenced = _FENCE.fullmatch(answer)
    try:
        controls = json.loads(
            fenced["body"] if fenced else answer, object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        return Unparsable(f"the text inside <answer> is not a JSON object ({error})", text)
    if not isinstance(controls, dict):
        return Unparsable(f"the answer is a JSON {type(controls).__name__}, expected an object of sliders", text)
    calls = [ToolCall(SYNONYMS.get(name, name), {"value": value}) for name, value in controls.items()]
    return tuple(calls)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = [SYNONYMS.get(name, name) for name, _ in pairs]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"{', '.join(sorted(twice))} given twice")
    return dict(pairs)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a number")
