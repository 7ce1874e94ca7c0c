"""The chat view: conversations in, text out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retouch_gym import ToolCall
from retouch_gym.chat import ANSWER_FORMATS, PromptTemplate, get_answer_format, photos_of, to_openai, to_pil
from retouch_gym.envs.chat import ChatEnv
from retouch_gym.errors import ConfigurationError
from retouch_gym.testing import TinyDataset, TinyRenderer


def make(**kwargs: Any) -> ChatEnv:
    return ChatEnv(**{"dataset": TinyDataset(), "renderer": TinyRenderer(), **kwargs})


def text_of(message: dict[str, Any]) -> str:
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


@pytest.mark.parametrize("name", ANSWER_FORMATS)
def test_an_answer_in_every_format_does_what_its_calls_do(name: str) -> None:
    answer_format = get_answer_format(name)
    env = make(answer_format=name, reward="edit")
    env.reset(seed=1)
    recipe = env.episode.task.recipe
    assert recipe is not None
    calls = [ToolCall(control, {"value": int(value)}) for control, value in recipe.controls.items()]
    messages, reward, terminated, _, info = env.step(answer_format.write("cool and dark", calls[:1]))
    assert (reward, terminated, info["tool_error"]) == (0.0, False, None)
    answer = answer_format.write("the rest", [*calls[1:], ToolCall("finish")])
    messages, reward, terminated, _, info = env.step(answer)
    assert terminated
    assert reward == 1.0
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert text_of(messages[4]) == answer
    assert env.episode.turns[1].text == answer
    assert answer_format.example() in text_of(messages[0])


def test_the_first_turn_tells_tools_request_and_format() -> None:
    env = make(answer_format="tool_call")
    (system, user), _ = env.reset(options={"index": 0})
    assert all(f"- {name}(" in text_of(system) for name in ("exposure", "grain", "finish", "undo"))
    assert "<tool_call>" in text_of(system)
    assert env.episode.task.instruction in text_of(user)
    assert "Turns left: 8" in text_of(user)
    assert np.array_equal(photos_of([user])[0], env.episode.source)


def test_the_conversation_grows_and_shows_the_photo_after_every_turn() -> None:
    env = make()
    before, _ = env.reset(seed=2)
    seen = [env.episode.image]
    for answer in ('<think></think><answer>{"exposure": 30}</answer>', "??", "<think></think><answer>{}</answer>"):
        after, *_ = env.step(answer)
        seen.append(env.episode.image)
        assert repr(after[: len(before)]) == repr(before)
        assert len(after) == len(before) + 2
        before = after
    shown = photos_of(before)
    assert len(shown) == len(seen)
    assert all(np.array_equal(one, other) for one, other in zip(shown, seen, strict=True))
    with pytest.raises(ValueError, match="read-only"):
        shown[0][:] = 0


def test_only_the_last_photo_where_that_is_asked_for() -> None:
    env = make(photos="last")
    env.reset(seed=2)
    for value in (30, 60, 90):
        messages, *_ = env.step(f'<think></think><answer>{{"exposure": {value}}}</answer>')
    assert len(photos_of(messages[:-1])) == 1
    assert np.array_equal(photos_of(messages[-1:])[0], env.episode.image)


def test_what_was_wrong_is_said_precisely_and_the_text_is_kept() -> None:
    env = make(answer_format="json")
    env.reset(seed=0)
    wrong = '{"calls": [{"name": "exposuer", "arguments": {"value": 3}}]}'
    messages, *_, info = env.step(wrong)
    assert "Did you mean 'exposure'" in info["tool_error"]
    assert info["tool_error"] in text_of(messages[-1])
    assert text_of(messages[-2]) == wrong
    messages, *_, info = env.step('{"calls": [{"name": "exposure"')
    assert "JSON" in info["tool_error"]
    turns = env.episode.turns
    assert [turn.parsed for turn in turns] == [True, False]


@pytest.mark.parametrize("action", [None, 3, b"x", ["a"], "x" * 100_000, "\ud800", "\x00", ToolCall("finish")])
def test_whatever_is_no_answer_costs_a_turn(action: Any) -> None:
    env = make(max_turns=2)
    env.reset(seed=0)
    messages, _, terminated, _, info = env.step(action)
    assert info["tool_error"]
    assert not terminated
    assert messages in env.observation_space
    assert env.episode.recipe.is_empty


def test_good_form_is_a_component_of_the_reward() -> None:
    env = make(format_weight=0.5, max_turns=2, reward="likeness")
    env.reset(seed=3)
    env.step("no form")
    _, reward, *_, info = env.step('<think></think><answer>{"exposure": 10}</answer>')
    parts = info["reward_components"]
    assert parts["format"] == parts["format.parsed"] == 0.5
    assert reward == pytest.approx(parts["likeness"] + 0.25)
    assert env.reward.range == (-1.0, 1.5)
    with pytest.raises(ConfigurationError, match="format_weight is -1"):
        make(format_weight=-1)


def test_a_users_own_prompt_from_a_mapping_a_template_or_a_file(tmp_path: Path) -> None:
    template = PromptTemplate(user="EDIT {instruction}", system="", follow_up="AGAIN {feedback}")
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"edit": template.to_dict()}))
    for prompts in (template, {"edit": template.to_dict()}, template.to_dict(), path, str(path)):
        env = make(prompts=prompts)
        (user,), _ = env.reset(options={"index": 0})
        assert text_of(user) == "EDIT Cooler and brighter, please."
        messages, *_ = env.step("x")
        assert text_of(messages[-1]).startswith("AGAIN Refused")
    with pytest.raises(ConfigurationError, match="instruktion"):
        make(prompts={"user": "{instruktion}"})


def test_shown_photos_can_be_shrunk_while_the_edit_is_not() -> None:
    env = make(longest=16)
    messages, _ = env.reset(options={"index": 0})
    assert max(photos_of(messages)[0].shape) == 16
    assert env.episode.image.shape == (24, 32, 3)


def test_a_user_speaks_in_the_conversation() -> None:
    env = make(user="scripted", max_turns=4)
    env.reset(options={"index": 3})
    messages, *_ = env.step('<think></think><answer>{"exposure": 5}</answer>')
    asked = env.episode.requests[1]
    assert f"New request: {asked}" in text_of(messages[-1])
    messages, *_ = env.step("??")
    assert "New request" not in text_of(messages[-1])


@pytest.mark.parametrize(("task", "count"), [("refine", 2), ("summary", 2), ("match", 2), ("transfer", 3)])
def test_every_task_shows_its_photos_and_says_what_they_are(task: Any, count: int) -> None:
    env = ChatEnv(task=task, reward="task", dataset_kwargs={"kinds": ["instruct"], "size": 8}, answer_format="iea")
    messages, _ = env.reset(options={"index": 1})
    assert len(photos_of(messages)) == count
    user = text_of(messages[-1])
    assert all(f"{number} the " in user for number in range(1, count + 1))
    if task == "summary":
        answer = env.episode.task.answer
        _, reward, terminated, *_ = env.step(f"<think>warm</think><answer>{answer}</answer>")
        assert (reward, terminated) == (1.0, True)
    if task == "refine":
        assert env.episode.task.history[0] in user


def test_conversations_go_where_models_take_them() -> None:
    env = make()
    env.reset(seed=0)
    messages, *_ = env.step('<think></think><answer>{"exposure": 5}</answer>')
    pil = to_pil(messages)
    assert pil[1]["content"][0]["image"].size == env.episode.image.shape[1::-1]
    urls = [
        block["image_url"]["url"]
        for message in to_openai(messages)
        for block in message["content"]
        if "image_url" in block
    ]
    assert len(urls) == 2
    assert all(url.startswith("data:image/png;base64,") for url in urls)


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"answer_format": "ieaa"}, "Did you mean 'iea'"),
        ({"photos": "lst"}, "Did you mean 'last'"),
        ({"longest": 0}, "longest is 0"),
        ({"prompts": 3}, "prompts is a int"),
        ({"formt_weight": 1}, "format_weight|Unknown argument"),
    ],
)
def test_wrong_arguments_are_named(kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        make(**kwargs)
