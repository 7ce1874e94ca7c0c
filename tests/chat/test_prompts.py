"""Prompt templates: data that a user replaces, filled once and never read as a template again."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retouch_gym.chat import (
    BARE,
    IEA_EDIT,
    PROMPTS,
    Prompts,
    PromptTemplate,
    describe_history,
    describe_photos,
    get_answer_format,
    get_prompts,
)
from retouch_gym.chat.templates import FIELDS
from retouch_gym.errors import ConfigurationError
from retouch_gym.tools import IEA

VALUES: dict[str, Any] = {
    "instruction": "make it warmer",
    "tools": "- exposure",
    "guide": "Answer so.",
    "photos": describe_photos(["the photo as it is now", "the goal"]),
    "recipe": '{"exposure": 20}',
    "turns_left": 3,
}


@pytest.mark.parametrize("task", PROMPTS)
def test_every_task_has_a_prompt_that_shows_the_request_and_how_to_answer(task: str) -> None:
    system, user = PROMPTS[task].opening(VALUES)
    assert "Answer so." in system
    assert "Request: make it warmer" in user or "wants: make it warmer" in user
    assert user.startswith("Photos: 1 the photo as it is now; 2 the goal\n")
    assert ("- exposure" in system and '{"exposure": 20}' in user) == (task != "summary")
    assert PROMPTS[task].following({"feedback": "Applied.", "turns_left": 2}) == "Applied.\nTurns left: 2"


def test_the_prompts_of_the_first_release_read_as_they_did() -> None:
    system, user = IEA_EDIT.opening({"instruction": "warmer", "tools": get_answer_format("iea").tools(IEA)})
    assert user == "Request: warmer"
    assert system.splitlines()[:3] == [
        "You are a photo retoucher. You see a photo and a request, think briefly, and set sliders.",
        "Sliders (integers, 0 leaves the photo untouched):",
        "- exposure (-100..100): Multiplies all tones, -100 = one stop darker, 100 = one stop brighter.",
    ]
    assert system.endswith('\n<think>what the photo needs</think><answer>{"slider": value}</answer>')
    assert len(system.splitlines()) == 2 + len(IEA.controls) + 2
    assert BARE.opening({"instruction": "warmer"}) == ("", " warmer")
    assert BARE.opening({"instruction": ""}) == ("", " ")


def test_a_line_with_nothing_to_show_is_left_out() -> None:
    template = PromptTemplate("Earlier: {history}\n\n{feedback} {request}\nkept\n{instruction}")
    assert template.opening({"instruction": "x"})[1] == "\n x\nkept\nx"
    assert template.opening({"instruction": "", "history": "y"})[1] == "Earlier: y\n\nkept\n"
    follow_up = PromptTemplate("").following
    new = {"feedback": "Applied.", "photos": "1 the photo as it is now", "request": "cooler", "turns_left": 1}
    assert follow_up(new) == "Applied.\nPhotos: 1 the photo as it is now\nNew request: cooler\nTurns left: 1"


@given(st.text(max_size=60), st.sampled_from(sorted(FIELDS)))
def test_a_request_is_never_read_as_a_template(request: str, field: str) -> None:
    value = request + "{tools}{0}{" + field + "}"
    assert PromptTemplate("<{instruction}>").opening({"instruction": value, "tools": "secret"})[1] == f"<{value}>"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{instrction}", "unknown field {instrction}"),
        ("{instruction.__class__}", "unknown field"),
        ("{tools[0]}", "unknown field"),
        ("{turns_left:>1000000000}", "each alone"),
        ("{instruction!r}", "each alone"),
        ("{}", "unknown field"),
        ("{0}", "unknown field"),
        ("{", "odd braces"),
        ('{"exposure": 1}', "unknown field"),
        (3, "is a int, expected a text"),
    ],
)
@pytest.mark.parametrize("where", ["user", "system", "follow_up"])
def test_a_wrong_template_is_refused(where: str, text: Any, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as refused:
        PromptTemplate(**{"user": "", where: text})
    assert repr(where) in str(refused.value)


def test_templates_and_prompts_are_saved_and_loaded(tmp_path: Path) -> None:
    own = PromptTemplate(user="{instruction} “{{”", system="be brief", follow_up="{feedback}")
    own.save(tmp_path / "own.json")
    assert PromptTemplate.load(tmp_path / "own.json") == own
    (tmp_path / "old.json").write_text('{"user": " {instruction}", "system": ""}')
    assert PromptTemplate.load(tmp_path / "old.json") == BARE

    prompts = get_prompts({"edit": own, "caption": {"user": "?"}})
    prompts.save(tmp_path / "all.json")
    assert Prompts.load(tmp_path / "all.json") == prompts == pickle.loads(pickle.dumps(prompts))
    assert hash(prompts) == hash(get_prompts(str(tmp_path / "all.json")))
    assert prompts.for_task("caption").opening({})[1] == "?"


def test_what_is_not_replaced_stays_built_in(tmp_path: Path) -> None:
    own = PromptTemplate(user="{instruction}")
    assert get_prompts(None) == get_prompts() == Prompts() == get_prompts({})
    assert get_prompts({"edit": own}).for_task("edit") == own
    assert get_prompts({"edit": own}).for_task("match") == PROMPTS["match"]
    for whole in (own, own.to_dict(), {"user": "{instruction}"}):
        assert {get_prompts(whole).for_task(task) for task in PROMPTS} == {own}
    (tmp_path / "one.json").write_text(json.dumps({"user": "{instruction}"}))
    assert get_prompts(tmp_path / "one.json") == get_prompts(own)
    (tmp_path / "some.json").write_text(json.dumps({"edit": {"user": "{instruction}"}}))
    assert get_prompts(tmp_path / "some.json") == get_prompts({"edit": own})


@pytest.mark.parametrize(
    "content", ["", "[]", "3", '{"edit": 3}', '{"edit": {"system": ""}}', '{"user": "{x}"}', "\xff"]
)
def test_a_file_that_holds_no_prompts_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ConfigurationError, match=r"prompts\.json"):
        get_prompts(path)
    with pytest.raises(ConfigurationError, match=r"no_such\.json"):
        get_prompts(tmp_path / "no_such.json")


def test_an_unknown_task_or_a_wrong_type_says_what_is_known() -> None:
    with pytest.raises(ConfigurationError, match="'poem'; there are prompts for edit, refine"):
        Prompts().for_task("poem")
    with pytest.raises(ConfigurationError, match="expected a PromptTemplate"):
        Prompts({"edit": "x"})  # type: ignore[dict-item]
    with pytest.raises(ConfigurationError, match="prompts is a int"):
        get_prompts(3)  # type: ignore[arg-type]


def test_built_in_prompts_cannot_be_changed_in_place() -> None:
    with pytest.raises(TypeError):
        PROMPTS["edit"] = BARE  # type: ignore[index]
    with pytest.raises(TypeError):
        Prompts().templates["edit"] = BARE  # type: ignore[index]


def test_photos_and_history_are_one_line() -> None:
    assert describe_photos(["the photo", "the goal"]) == "1 the photo; 2 the goal"
    assert describe_history(["make it\n warmer", "less"]) == '"make it warmer", then "less"'
    assert describe_photos([]) == describe_history([]) == ""
