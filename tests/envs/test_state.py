"""Saving an episode, going on elsewhere, and branching."""

from __future__ import annotations

import json
import multiprocessing
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retouch_gym import ToolCall, Unparsable
from retouch_gym.envs.registration import ENV_IDS
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.errors import StateError
from retouch_gym.testing import TinyDataset, TinyRenderer

ODD_CALLS: tuple[Any, ...] = (
    ToolCall("exposure", {"value": float("nan")}),
    ToolCall("exposure", {1: (2,)}),  # type: ignore[dict-item]
    ToolCall("\ud800", {"value": object()}),  # type: ignore[dict-item]
    ToolCall(3, [1]),  # type: ignore[arg-type]
    Unparsable("\udfff", "x" * 10_000),
    "no action",
)
actions = st.sampled_from(
    (
        ToolCall("exposure", {"value": 20}),
        ToolCall("temperature", {"value": -40}),
        [ToolCall("shadows", {"value": 5}), ToolCall("undo"), ToolCall("exposure", {"value": -5})],
        ToolCall("undo"),
        [],
        *ODD_CALLS,
    )
)


def make(**kwargs: Any) -> RetouchEnv:
    return RetouchEnv(**{"dataset": TinyDataset(), "renderer": TinyRenderer(), "max_turns": 5, **kwargs})


def plain(step: Any) -> str:
    def show(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.tobytes().hex()
        if isinstance(value, dict):
            return {name: show(item) for name, item in value.items()}
        return [show(item) for item in value] if isinstance(value, list | tuple) else value

    return repr(show(step))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(before=st.lists(actions, max_size=4), after=st.lists(actions, min_size=1, max_size=4), seed=st.integers(0, 99))
def test_a_restored_episode_goes_on_identically(before: list[Any], after: list[Any], seed: int) -> None:
    kwargs: dict[str, Any] = {"reward": "edit", "reward_mode": "delta", "user": "scripted"}
    env = make(**kwargs)
    env.reset(seed=seed)
    over = False
    for action in before:
        if not over:
            _, _, over, _, _ = env.step(action)
    state = json.loads(json.dumps(env.get_state(), allow_nan=False))
    copy = make(**kwargs)
    copy.set_state(state)
    assert copy.get_state() == env.get_state()
    for action in after:
        if over:
            assert plain(env.reset()) == plain(copy.reset())
        one, other = env.step(action), copy.step(action)
        assert plain(one) == plain(other)
        over = one[2]
    assert plain(env.reset()) == plain(copy.reset())


def _go_on(env_id: str, state: dict[str, Any], plan: list[Any]) -> list[str]:
    env = gymnasium.make(env_id, max_turns=4).unwrapped
    env.set_state(state)  # type: ignore[attr-defined]
    return [plain(env.step(action)) for action in plan]


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_it_goes_on_in_another_process(env_id: str) -> None:
    env = gymnasium.make(env_id, max_turns=4).unwrapped
    env.reset(seed=8)
    if "Chat" in env_id:
        plan: list[Any] = [f'<think>t</think><answer>{{"exposure": {value}}}</answer>' for value in (9, 8, 7)]
    elif "Sliders" in env_id:
        plan = [np.full(env.action_space.shape or (), value, np.float32) for value in (0.1, -0.2, 0.3)]
    else:
        plan = [ToolCall("exposure", {"value": value}) for value in (9, 8, 7)]
    env.step(plan[0])
    state = env.get_state()  # type: ignore[attr-defined]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(_go_on, (env_id, json.loads(json.dumps(state)), plan[1:]))
    assert there == [plain(env.step(action)) for action in plan[1:]]


def test_branches_do_not_touch_each_other() -> None:
    env = make()
    env.reset(seed=4)
    env.step(ToolCall("exposure", {"value": 10}))
    branches = [env.spawn(same_state=True) for _ in range(3)]
    values = [
        branch.step([ToolCall("exposure", {"value": value}), ToolCall("finish")])[1]
        for branch, value in zip(branches, (-50, 20, 90), strict=True)
    ]
    assert len(set(values)) == 3
    assert env.episode.recipe["exposure"] == 10
    assert plain(branches[0].reset()) == plain(branches[1].reset()) == plain(env.reset())
    fresh = env.spawn()
    with pytest.raises(gymnasium.error.ResetNeeded):
        fresh.step(ToolCall("undo"))
    assert plain(fresh.reset(seed=1)) == plain(make().reset(seed=1))


def test_a_state_from_before_the_first_reset() -> None:
    env = make()
    env.reset(seed=2)
    state = make().get_state()
    env.set_state(state)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(ToolCall("undo"))
    env.reset()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"version": 2}, "version 2"),
        ({"toolset": "iea-compat"}, "toolset = 'iea-compat'"),
        ({"max_turns": 9}, "max_turns = 9"),
        ({"dataset": ["tiny", "test", 4]}, "dataset"),
        ({"rng": {"bit_generator": "MT19937"}}, "damaged"),
        ({"session": {}}, "damaged"),
        ({"session": 3}, "damaged"),
        ({"task_id": None}, "damaged"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(change: dict[str, Any], match: str) -> None:
    env = make()
    env.reset(seed=1)
    before = env.get_state()
    with pytest.raises(StateError, match=match):
        env.set_state({**before, **change})
    with pytest.raises(StateError, match="version"):
        env.set_state([])  # type: ignore[arg-type]
    assert env.get_state() == before


def test_a_state_with_an_impossible_recipe_is_refused() -> None:
    env = make()
    env.reset(seed=1)
    env.step(ToolCall("exposure", {"value": 10}))
    state = json.loads(json.dumps(env.get_state()))
    state["session"]["moments"][-1]["recipe"]["controls"]["exposure"] = 1000
    with pytest.raises(StateError, match="1000"):
        make().set_state(state)


class TestUndo:
    def test_it_goes_back_change_by_change(self) -> None:
        env = make(max_turns=9)
        env.reset(seed=0)
        env.step(ToolCall("exposure", {"value": 10}))
        env.step([ToolCall("exposure", {"value": 30}), ToolCall("tint", {"value": 5})])
        env.step(ToolCall("exposure", {"value": 30}))  # changes nothing
        obs, *_ = env.step(ToolCall("undo"))
        assert json.loads(obs["recipe"]) == {"exposure": 10}
        assert obs["feedback"] == "Took back the last change."
        obs, *_ = env.step(ToolCall("undo"))
        assert obs["recipe"] == "{}"
        obs, *_, info = env.step(ToolCall("undo"))
        assert "nothing to take back" in info["tool_error"]

    def test_within_a_plan(self) -> None:
        env = make(max_turns=9)
        env.reset(seed=0)
        env.step(ToolCall("exposure", {"value": 10}))
        env.step(ToolCall("tint", {"value": 10}))
        obs, *_ = env.step([ToolCall("undo"), ToolCall("undo"), ToolCall("contrast", {"value": 7})])
        assert json.loads(obs["recipe"]) == {"contrast": 7}
        assert obs["feedback"].startswith("Took back the last 2 changes. Applied")
        obs, *_, info = env.step([ToolCall("undo"), ToolCall("undo")])
        assert info["tool_error"]
        assert json.loads(obs["recipe"]) == {"contrast": 7}
