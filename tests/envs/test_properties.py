"""Whatever an agent does, the environment lives on."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retouch_gym import ToolCall, Unparsable
from retouch_gym.chat import ANSWER_FORMATS, get_answer_format
from retouch_gym.envs.chat import ChatEnv
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.envs.sliders import SlidersEnv
from retouch_gym.envs.vector import RetouchVectorEnv
from retouch_gym.testing import TinyDataset, TinyRenderer
from retouch_gym.tools import IEA

NAMES = [tool.name for tool in IEA.tools]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
junk_calls = st.builds(
    ToolCall,
    st.sampled_from(NAMES) | st.text(max_size=12),
    st.dictionaries(st.sampled_from(["value", "val"]) | st.text(max_size=4), json_values, max_size=3) | json_values,  # type: ignore[arg-type]
)
good_calls = st.builds(
    lambda name, value: ToolCall(name, {"value": value}),
    st.sampled_from([name for name in NAMES if name not in ("finish", "undo", "fade", "grain")]),
    st.integers(-100, 100),
)
calls = good_calls | junk_calls
actions = calls | st.lists(calls, max_size=5) | st.builds(Unparsable, st.text(), st.text()) | json_values


def canonical(observation: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(value.tobytes() if isinstance(value, np.ndarray) else value for value in observation.values())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(script=st.lists(actions, min_size=1, max_size=8), seed=st.integers(0, 2**31))
def test_any_sequence_of_actions_keeps_the_environment_alive(script: list[Any], seed: int) -> None:
    env = RetouchEnv(dataset=TinyDataset(2), renderer=TinyRenderer(), reward="edit", max_turns=6)
    obs, _ = env.reset(seed=seed)
    over = False
    for action in script:
        if over:
            obs, _ = env.reset()
        left, recipe, image = obs["turns_left"], obs["recipe"], obs["image"]
        obs, reward, terminated, truncated, info = env.step(action)
        assert obs in env.observation_space
        assert not truncated
        assert -1 <= reward <= 1
        assert obs["turns_left"] == left - 1
        env.episode.recipe.check(IEA)
        assert json.loads(obs["recipe"]) == dict(env.episode.recipe.controls)
        if info["tool_error"] is not None:
            assert (obs["recipe"], terminated) == (recipe, obs["turns_left"] == 0)
            assert np.array_equal(obs["image"], image)
        over = terminated
    copy = RetouchEnv(dataset=TinyDataset(2), renderer=TinyRenderer(), reward="edit", max_turns=6)
    first, _ = copy.reset(seed=seed)
    assert canonical(first) == canonical(env.reset(seed=seed)[0])


@settings(max_examples=200, deadline=None)
@given(call=junk_calls)
def test_a_refusal_names_the_tool_or_says_that_there_is_none(call: ToolCall) -> None:
    env = RetouchEnv(dataset=TinyDataset(1), renderer=TinyRenderer(), max_turns=2)
    env.reset(seed=0)
    error = env.step(call)[4]["tool_error"]
    if error is not None:
        assert call.name in error if call.name in NAMES else error.startswith("unknown tool")
        if call.name in NAMES and isinstance(call.arguments, dict) and set(call.arguments) == {"value"}:
            assert "value" in error


good_texts = st.builds(
    lambda name, calls: get_answer_format(name).write("", calls),
    st.sampled_from(sorted(ANSWER_FORMATS)),
    st.lists(good_calls, min_size=1, max_size=3, unique_by=lambda call: call.name),
)
texts = st.text() | good_texts | st.builds(lambda text, cut: text[:cut], good_texts, st.integers(0, 60)) | json_values


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(script=st.lists(texts, min_size=1, max_size=5), name=st.sampled_from(sorted(ANSWER_FORMATS)))
def test_any_sequence_of_texts_keeps_the_conversation_alive(script: list[Any], name: str) -> None:
    env = ChatEnv(dataset=TinyDataset(2), renderer=TinyRenderer(), answer_format=name, max_turns=4, format_weight=0.1)
    messages, _ = env.reset(seed=0)
    for text in script:
        messages, reward, terminated, truncated, info = env.step(text)
        assert messages in env.observation_space
        assert not truncated
        env.episode.recipe.check(IEA)
        assert (info["tool_error"] is None) == (env.episode.turns[-1].error is None)
        if terminated:
            assert -1 <= reward <= 1.1
            messages, _ = env.reset()


numbers = (
    st.floats(allow_nan=True, allow_infinity=True) | st.integers() | st.lists(st.floats(), max_size=4) | json_values
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(script=st.lists(numbers, min_size=1, max_size=6), actions=st.sampled_from(["box", "multi-discrete", "discrete"]))
def test_any_sequence_of_numbers_keeps_the_numeric_view_alive(script: list[Any], actions: Any) -> None:
    env = SlidersEnv(
        dataset=TinyDataset(2), renderer=TinyRenderer(), actions=actions, sliders=["exposure", "shadows"], max_turns=4
    )
    env.reset(seed=0)
    for action in script:
        obs, reward, terminated, truncated, _ = env.step(action)
        assert obs in env.observation_space
        assert -1 <= reward <= 1
        assert not truncated
        env.episode.recipe.check(IEA)
        if terminated:
            env.reset()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(script=st.lists(st.tuples(actions, actions), min_size=1, max_size=6), seed=st.integers(0, 2**31))
def test_a_vector_is_its_single_environments_whatever_they_do(script: list[tuple[Any, Any]], seed: int) -> None:
    kwargs: dict[str, Any] = {"dataset": TinyDataset(3), "renderer": TinyRenderer(), "reward": "edit", "max_turns": 3}
    envs = RetouchVectorEnv(2, prefetch=False, **kwargs)
    singles = [RetouchEnv(**kwargs) for _ in range(2)]
    batch, _ = envs.reset(seed=seed)
    for index, single in enumerate(singles):
        first, _ = single.reset(seed=seed + index)
        assert canonical(first) == canonical({key: batch[key][index] for key in first})
    over = [False, False]
    for pair in script:
        batch, rewards, terminations, _, infos = envs.step(pair)
        for index, single in enumerate(singles):
            if over[index]:
                (obs, info), reward, over[index] = single.reset(), 0.0, False
            else:
                obs, reward, over[index], _, info = single.step(pair[index])
            assert canonical(obs) == canonical({key: batch[key][index] for key in obs})
            assert (reward, over[index]) == (rewards[index], terminations[index])
            assert info["tool_error"] == infos["tool_error"][index]
