from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retouch_agents.answers import format_answer, parse_answer
from retouch_gym import ToolCall, Unparsable
from retouch_gym.tools import IEA

SLIDERS = sorted(IEA.controls)


@given(
    st.text(alphabet=st.characters(exclude_characters="<>"), max_size=80),
    st.dictionaries(st.sampled_from(SLIDERS), st.integers(-100, 100), max_size=6),
)
def test_what_is_written_is_read_back(reasoning: str, controls: dict[str, int]) -> None:
    calls = parse_answer(format_answer(reasoning, controls))
    assert calls == tuple(ToolCall(name, {"value": value}) for name, value in controls.items())


@given(st.text(max_size=200))
def test_any_text_is_a_plan_or_unparsable(text: str) -> None:
    action = parse_answer(text)
    assert isinstance(action, tuple | Unparsable)


def test_a_fence_and_synonyms_are_accepted() -> None:
    text = '<think>softer</think>\n<answer>```json\n{"sharpen": -10, "hue": 5}\n```</answer>\n'
    assert parse_answer(text) == (ToolCall("sharpness", {"value": -10}), ToolCall("temperature", {"value": 5}))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "exactly one <think>"),
        ('<answer>{"exposure": 1}</answer>', "exactly one <think>"),
        ('<think>a</think><answer>{"exposure": 1}', "exactly one </answer>"),
        ('hi <think>a</think><answer>{"exposure": 1}</answer>', "nothing around it"),
        ('<think>a</think><answer>{"exposure": 1}</answer> thanks', "nothing around it"),
        ('<think>a</think><answer>{"exposure": 1, "exposure": 2}</answer>', "given twice"),
        ('<think>a</think><answer>{"hue": 1, "temperature": 2}</answer>', "given twice"),
        ('<think>a</think><answer>{"exposure": NaN}</answer>', "NaN is not a number"),
        ("<think>a</think><answer>[1]</answer>", "expected an object"),
        ('<think>a</think><answer>{"exposure": 1}{"tint": 2}</answer>', "not a JSON object"),
        ('<think>a</think><answer>{"exposure": 4530}</answer><answer>{}</answer>', "exactly one <answer>"),
        ("<think>a</think><answer>" + "[" * 100_000 + "</answer>", "not a JSON object"),
    ],
)
def test_broken_answers_say_why(text: str, reason: str) -> None:
    action = parse_answer(text)
    assert isinstance(action, Unparsable)
    assert reason in action.reason


def test_values_are_never_clamped() -> None:
    calls = parse_answer('<think>a</think><answer>{"exposure": 4530}</answer>')
    assert calls == (ToolCall("exposure", {"value": 4530}),)
