"""Answer formats: what is written is read back, whatever is written is read or refused with a reason."""

from __future__ import annotations

import pickle
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retouch_gym import ToolCall, Unparsable
from retouch_gym.chat import ANSWER_FORMATS, AnswerFormat, IEAFormat, get_answer_format
from retouch_gym.chat.formats import MAX_ANSWER, MAX_REASON
from retouch_gym.errors import ConfigurationError
from retouch_gym.tools import IEA, SUMMARY

TASKS = ("edit", "refine", "summary", "match", "transfer")
WRITTEN = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)
FRAGMENTS = st.sampled_from(
    [
        *("<think>", "</think>", "<answer>", "</answer>", "<tool_call>", "</tool_call>", "```json", "```", " ", "\n"),
        *("{", "}", "[", "]", ":", ",", '"', '"name"', '"arguments"', '"calls"', '"exposure"', '"value"', '"finish"'),
        *("1", "-5", "1e999", "NaN", "true", "null", "\ud800", "\\ud800", "\x00", "é", "'exposure'"),
    ]
)


@st.composite
def plans(draw: st.DrawFn) -> tuple[ToolCall, ...]:
    """One or more valid calls of different tools."""
    names = draw(st.lists(st.sampled_from([tool.name for tool in IEA.tools]), min_size=1, max_size=6, unique=True))
    return tuple(ToolCall(name, draw(_arguments(name))) for name in names)


def _arguments(name: str) -> st.SearchStrategy[dict[str, Any]]:
    controls = IEA.by_name[name].controls
    if not controls:
        return st.just({})
    low, high = int(controls[0].low), int(controls[0].high)
    return st.integers(low, high).map(lambda value: {"value": value})


@pytest.fixture(params=ANSWER_FORMATS)
def answer_format(request: pytest.FixtureRequest) -> AnswerFormat:
    return get_answer_format(request.param)


@pytest.mark.parametrize("name", ANSWER_FORMATS)
@given(reasoning=WRITTEN.filter(lambda text: "<" not in text), plan=plans())
def test_what_is_written_is_read_back(name: str, reasoning: str, plan: tuple[ToolCall, ...]) -> None:
    answer_format = get_answer_format(name)
    text = answer_format.write(reasoning, plan)
    assert answer_format.parse(text) == plan
    assert answer_format.reasoning(text) == reasoning.strip()
    IEA.parse_plan(answer_format.parse(text))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ANSWER_FORMATS)
@given(reasoning=WRITTEN, words=WRITTEN)
def test_a_text_is_written_so_that_it_is_read_back_or_refused(name: str, reasoning: str, words: str) -> None:
    answer_format = get_answer_format(name)
    plan = (ToolCall("summarize", {"text": words}),)
    try:
        text = answer_format.write(reasoning, plan)
    except ConfigurationError:
        assert "<" in reasoning + words or not words.strip() or words != words.strip()
        return
    assert answer_format.parse(text, "summary") == plan
    assert answer_format.reasoning(text) == reasoning.strip()


@pytest.mark.parametrize("name", ANSWER_FORMATS)
@pytest.mark.parametrize("task", ["edit", "summary"])
@given(text=st.text(max_size=200) | st.lists(FRAGMENTS, max_size=25).map("".join))
def test_any_text_is_a_plan_or_unparsable(name: str, task: str, text: str) -> None:
    answer_format = get_answer_format(name)
    action = answer_format.parse(text, task)
    assert action == answer_format.parse(text, task)
    assert isinstance(answer_format.reasoning(text), str)
    if isinstance(action, Unparsable):
        assert action.text == text
        assert action.reason.encode()
        assert len(action.reason) <= MAX_REASON
    else:
        assert isinstance(action, tuple)
        assert all(isinstance(call, ToolCall) for call in action)
        repr(action).encode()


@given(st.data())
@pytest.mark.parametrize("name", ANSWER_FORMATS)
def test_a_cut_answer_is_refused(name: str, data: st.DataObject) -> None:
    answer_format = get_answer_format(name)
    text = answer_format.example()
    action = answer_format.parse(text[: data.draw(st.integers(0, len(text) - 1))])
    if name != "tool_call":
        assert isinstance(action, Unparsable)
    else:
        # A block that is complete counts, even if another was to follow.
        assert isinstance(action, Unparsable) or action == (ToolCall("contrast", {"value": 20}),)


IEA_MISTAKES = [
    ("", "expected exactly one <think>, found none"),
    ('<answer>{"exposure": 1}</answer>', "exactly one <think>, found none"),
    ('<think>a</think><answer>{"exposure": 1}', "exactly one </answer>, found none"),
    ('hi <think>a</think><answer>{"exposure": 1}</answer>', "found 'hi' before <think>"),
    ('<think>a</think> so <answer>{"exposure": 1}</answer>', "found 'so' between the two parts"),
    ('<think>a</think><answer>{"exposure": 1}</answer> thanks', "found 'thanks' at the end"),
    ('<answer>{"exposure": 1}</answer><think>a</think>', "the wrong order"),
    ('<think>a</think><answer>{"exposure": 1, "exposure": 2}</answer>', "'exposure' is given twice"),
    ('<think>a</think><answer>{"hue": 1, "temperature": 2}</answer>', "'temperature' is given twice"),
    ('<think>a</think><answer>{"exposure": NaN}</answer>', "NaN is not a number"),
    ('<think>a</think><answer>{"exposure": -Infinity}</answer>', "-Infinity is not a number"),
    ('<think>a</think><answer>{"exposure": 1e999}</answer>', "1e999 is too large"),
    ('<think>a</think><answer>{"exposure": ' + "9" * 5000 + "}</answer>", "has 5000 characters"),
    ("<think>a</think><answer>[1]</answer>", "is a list, expected an object of sliders"),
    ("<think>a</think><answer></answer>", "inside <answer> is empty"),
    ("<think>a</think><answer>exposure 20</answer>", "at character 0, found 'exposure 20'"),
    ("<think>a</think><answer>{'exposure': 1}</answer>", "double quotes"),
    ('<think>a</think><answer>{"exposure": +1}</answer>', "at character 13, found '+1}'"),
    ('<think>a</think><answer>{"exposure": 1</answer>', "found the end of the text"),
    ('<think>a</think><answer>{"exposure": 1}{"tint": 2}</answer>', "goes on with '{\"tint\": 2}' after character 15"),
    ('<think>a</think><answer>```json\n{"exposure": 1}</answer>', "fence around the text inside <answer> is opened"),
    ("<think>a</think><answer>```</answer>", "is opened and not closed"),
    ("<think>a</think><answer>{}</answer><answer>{}</answer>", "exactly one <answer>, found 2"),
    ('<think>a</think><answer>{"finish": false}</answer>', '"finish" is False, expected true'),
    ('<think>a</think><answer>{"undo": 2}</answer>', '"undo" is 2, expected true'),
    ('<think>a</think><answer>{"\\ud800": 1}</answer>', "half of a surrogate pair"),
    ("<think>a</think><answer>" + "[" * 60_000 + "</answer>", "nested too deeply"),
    ("<think>a</think><answer>" + "[" * 20 + "]" * 20 + "</answer>", "nested too deeply; at most 16"),
]

BLOCK = '<tool_call>{"name": "exposure", "arguments": {"value": 1}}</tool_call>'
TOOL_CALL_MISTAKES = [
    ("", "expected a tool call"),
    ("I would brighten it.", "found the text 'I would brighten it.'"),
    ("<think>so", "<think> is opened and never closed"),
    (f"<think>so {BLOCK}", "never closed"),
    ("<think>so</think>", "found nothing"),
    ("{}</tool_call>", "found </tool_call> and no <tool_call>"),
    (f"</tool_call>{BLOCK}", "found </tool_call> before the first <tool_call>"),
    ('<tool_call>{"name": "exposure", "arguments": {"value": 1}}', "found the end of the answer"),
    (f"{BLOCK} done", "expected another <tool_call> or the end after tool call 1, found 'done'"),
    (f"{BLOCK}, {BLOCK}", "expected another <tool_call>"),
    (f"{BLOCK}<tool_call>", "tool call 2 is empty"),
    ("<tool_call>exposure(20)</tool_call>", "tool call 1 is not valid JSON"),
    ("<tool_call>[]</tool_call>", "tool call 1 is a list, expected an object"),
    ('<tool_call>{"arguments": {}}</tool_call>', "tool call 1 has no 'name'"),
    ('<tool_call>{"name": 3}</tool_call>', "the 'name' of tool call 1 is 3"),
    ('<tool_call>{"name": "exposure", "parameters": {}}</tool_call>', "unknown key 'parameters'"),
    ('<tool_call>{"name": "exposure", "arguments": "{\\"value\\": 1}"}</tool_call>', "a string, expected an object w"),
    ('<tool_call>{"name": "exposure", "arguments": null}</tool_call>', "are null, expected an object"),
    ('<tool_call>{"name": "a", "name": "b"}</tool_call>', "'name' is given twice in tool call 1"),
    ('<tool_call>{"name": "a", "arguments": {"value": 1, "value": 2}}</tool_call>', "'value' is given twice"),
    ('<tool_call>{"name": "a", "arguments": {"value": Infinity}}</tool_call>', "Infinity is not a number"),
    ('<tool_call>{"name": "a"}</tool_call', "expected </tool_call> after tool call 1, found '</tool_call'"),
    ("<tool_call>" + '{"a":' * 10_000, "nested too deeply"),
]

JSON_MISTAKES = [
    ("", "the answer is empty"),
    ("Sure: []", "at character 0, found 'Sure: []'"),
    ("3", "is a number, expected an object"),
    ('{"name": "exposure", "arguments": {"value": 1}}', "unknown key 'name'; known: 'reasoning', 'calls'"),
    ('{"reasoning": "a"}', "has no 'calls'"),
    ('{"calls": {}}', "'calls' is an object, expected a list"),
    ('{"calls": [], "reasoning": 3}', "'reasoning' is a number, expected a string"),
    ("[3]", "call 1 is a number, expected an object"),
    ('[{"name": "a"}, {"name": ""}]', "the 'name' of call 2 is ''"),
    ('[{"name": "a", "why": 1}]', "call 1 has the unknown key 'why'"),
    ('[{"name": "a"},]', "at character 1"),
    ('[{"name": "a"}] ok', "goes on with 'ok' after character 15"),
    ('```json\n[{"name": "a"}]', "fence around the answer is opened"),
    ('{"calls": [], "calls": []}', "'calls' is given twice"),
    ("[" * 60_000, "nested too deeply"),
]
MISTAKES = [
    (name, text, reason)
    for name, mistakes in (("iea", IEA_MISTAKES), ("tool_call", TOOL_CALL_MISTAKES), ("json", JSON_MISTAKES))
    for text, reason in mistakes
]


@pytest.mark.parametrize(("name", "text", "reason"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_typical_mistake_is_explained(name: str, text: str, reason: str) -> None:
    action = get_answer_format(name).parse(text)
    assert isinstance(action, Unparsable)
    assert reason in action.reason
    assert len(action.reason) <= MAX_REASON


EXPOSURE = ToolCall("exposure", {"value": 1})
TEMPERATURE = ToolCall("temperature", {"value": 1})
SHARPNESS = ToolCall("sharpness", {"value": -2})


@pytest.mark.parametrize(
    ("name", "text", "calls"),
    [
        (
            "iea",
            '<think>a</think>\n<answer>```json\n{"sharpen": -2, "hue": 1}\n```</answer>\n',
            (SHARPNESS, TEMPERATURE),
        ),
        ("iea", '<think></think><answer>{"exposure": 4530}</answer>', (ToolCall("exposure", {"value": 4530}),)),
        ("iea", "<think></think><answer>{}</answer>", ()),
        ("iea", '<think>a</think><answer>{"exposure": 1, "finish": true}</answer>', (EXPOSURE, ToolCall("finish"))),
        ("iea", '<think>a</think><answer>{"undo": true}</answer>', (ToolCall("undo"),)),
        ("tool_call", BLOCK, (EXPOSURE,)),
        (
            "tool_call",
            f"I brighten it.\n{BLOCK}\n{BLOCK.replace('exposure', 'temperature')}\n",
            (EXPOSURE, TEMPERATURE),
        ),
        ("tool_call", f"<think>not </tool_call> yet, <tool_call> later</think>{BLOCK}", (EXPOSURE,)),
        ("tool_call", f"the template opened the thoughts</think>\n\n{BLOCK}", (EXPOSURE,)),
        ("tool_call", '<tool_call>\n{"name": "finish"}\n</tool_call>', (ToolCall("finish"),)),
        (
            "tool_call",
            '<tool_call>{"name": "note", "arguments": {"text": "</tool_call></think>"}}</tool_call>',
            (ToolCall("note", {"text": "</tool_call></think>"}),),
        ),
        ("json", '[{"name": "exposure", "arguments": {"value": 1}}]', (EXPOSURE,)),
        ("json", '```\n{"calls": [{"name": "exposure", "arguments": {"value": 1}}]}\n```', (EXPOSURE,)),
        ("json", '{"reasoning": "fine", "calls": []}', ()),
    ],
)
def test_what_is_allowed(name: str, text: str, calls: tuple[ToolCall, ...]) -> None:
    assert get_answer_format(name).parse(text) == calls


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("iea", "<think>a</think><answer>\nwarmer </answer>"),
        ("tool_call", "<think>a</think>\nwarmer\n"),
        ("tool_call", '<tool_call>{"name": "summarize", "arguments": {"text": "warmer"}}</tool_call>'),
        ("json", '[{"name": "summarize", "arguments": {"text": "warmer"}}]'),
    ],
)
def test_a_summary_is_words(name: str, text: str) -> None:
    calls = get_answer_format(name).parse(text, "summary")
    assert calls == (ToolCall("summarize", {"text": "warmer"}),)
    SUMMARY.parse_plan(calls)
    assert isinstance(get_answer_format(name).parse("<think>a</think><answer> </answer>", "summary"), tuple) == (
        name == "tool_call"
    )


def test_work_is_bounded(answer_format: AnswerFormat) -> None:
    hostile = [
        " ",
        "```" + " ",
        "<think>",
        "<tool_call>",
        "[",
        '{"a":',
        '"',
        "\\",
        "</think><answer>",
        "1",
        '{"calls":',
    ]
    started = time.perf_counter()
    for part in hostile:
        text = (part * MAX_ANSWER)[:MAX_ANSWER]
        for whole in (text, f"<think>{text[:60_000]}</think><answer>```{text[:5000]}</answer>"):
            assert isinstance(answer_format.parse(whole, "edit"), Unparsable)
            answer_format.reasoning(whole)
    assert time.perf_counter() - started < 5
    long = answer_format.parse(" " * MAX_ANSWER + answer_format.example())
    assert isinstance(long, Unparsable)
    assert f"at most {MAX_ANSWER}" in long.reason
    assert isinstance(answer_format.parse(3), Unparsable)  # type: ignore[arg-type]


def test_a_format_is_small_data(answer_format: AnswerFormat) -> None:
    copy = pickle.loads(pickle.dumps(answer_format))
    assert copy == answer_format
    assert hash(copy) == hash(answer_format)
    assert copy.name in ANSWER_FORMATS


@pytest.mark.parametrize("task", TASKS)
def test_the_guide_shows_an_answer_that_is_read(answer_format: AnswerFormat, task: str) -> None:
    example = answer_format.example(task)
    assert example in answer_format.guide(task)
    calls = answer_format.parse(example, task)
    assert isinstance(calls, tuple)
    (SUMMARY if task == "summary" else IEA).parse_plan(calls)


@pytest.mark.parametrize(
    ("name", "reasoning", "plan"),
    [
        ("iea", "a</think>b", (EXPOSURE,)),
        ("iea", "", (EXPOSURE, EXPOSURE)),
        ("iea", "", (ToolCall("hue", {"value": 1}),)),
        ("iea", "", (ToolCall("curve", {"points": [0, 1]}),)),
        ("iea", "", (ToolCall("summarize", {"text": "a <answer> b"}),)),
        ("iea", "", (ToolCall("exposure", {"value": float("nan")}),)),
        ("tool_call", "", ()),
        ("tool_call", "a</think>b", (EXPOSURE,)),
        ("tool_call", "", (ToolCall("note", {"text": "\ud800"}),)),
        ("json", "", (ToolCall(""),)),
        ("json", "\ud800", (EXPOSURE,)),
        ("json", "", (ToolCall("note", {"value": object()}),)),  # type: ignore[dict-item]
        ("json", "a" * MAX_ANSWER, (EXPOSURE,)),
    ],
)
def test_what_would_be_read_as_something_else_is_not_written(
    name: str, reasoning: str, plan: tuple[ToolCall, ...]
) -> None:
    with pytest.raises(ConfigurationError, match=f"Answer format '{name}' cannot write"):
        get_answer_format(name).write(reasoning, plan)


def test_formats_are_found_by_name_path_or_as_they_are() -> None:
    for name, path in ANSWER_FORMATS.items():
        assert get_answer_format(path) == get_answer_format(name)
        assert get_answer_format(name).name == name
    mine = IEAFormat()
    assert get_answer_format(mine) is mine
    with pytest.raises(ConfigurationError, match="Did you mean 'tool_call'"):
        get_answer_format("toolcall")
