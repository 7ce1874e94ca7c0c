"""What can be asked of the agent: refine, summary, match, transfer, and conversations."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from retouch_gym import Recipe, ToolCall
from retouch_gym.datasets import get_dataset
from retouch_gym.datasets.reader import follow
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.errors import ConfigurationError
from retouch_gym.tools import IEA


def make(**kwargs: Any) -> RetouchEnv:
    return RetouchEnv(dataset_kwargs={"kinds": ["instruct"], "size": 12}, **kwargs)


def plan_to(recipe: Recipe, now: Recipe) -> list[ToolCall]:
    names = {*recipe.controls, *now.controls}
    return [ToolCall(name, {"value": int(recipe[name])}) for name in sorted(names)]


def test_refine_begins_with_an_edit_and_pays_for_mending_it() -> None:
    env = make(task="refine", reward="refine", max_turns=1)
    for index in range(6):
        obs, _ = env.reset(options={"index": index})
        task = env.episode.task
        assert task.start is not None
        assert task.recipe is not None
        assert obs["task"] == "refine"
        assert json.loads(obs["recipe"]) == dict(task.start.controls) != dict(task.recipe.controls)
        assert not np.array_equal(obs["image"], obs["original"]) or task.start.is_empty
        assert len(json.loads(obs["history"])) == 1
        idle = env.step([])[1]
        env.reset(options={"index": index})
        _, mended, *_, info = env.step(plan_to(task.recipe, task.start))
        assert mended == pytest.approx(1.0 - 0.4 - 0.3 + 0.4 + 0.3)
        assert set(info["reward_components"]) >= {"likeness", "diff", "iou"}
        assert mended > idle


def test_summary_shows_before_and_after_and_takes_words() -> None:
    env = make(task="summary", reward="summary", max_turns=2)
    obs, _ = env.reset(options={"index": 3})
    task = env.episode.task
    assert len(obs["context"]) == 1
    assert np.array_equal(obs["context"][0], task.reference.load())  # type: ignore[union-attr]
    assert task.answer not in json.dumps([obs[key] for key in ("instruction", "history", "feedback", "recipe")])
    obs, reward, terminated, _, info = env.step(ToolCall("exposure", {"value": 10}))
    assert "summarize" in info["tool_error"]
    assert not terminated
    obs, reward, terminated, _, info = env.step(ToolCall("summarize", {"text": task.answer}))
    assert (reward, terminated, info["finished"]) == (1.0, True, True)
    env.reset(options={"index": 3})
    assert env.step(ToolCall("summarize", {"text": "zebra"}))[1] == 0.0
    assert ToolCall("summarize", {"text": "x"}) in env.action_space
    assert ToolCall("exposure", {"value": 1}) not in env.action_space


def test_match_shows_the_goal() -> None:
    env = make(task="match", max_turns=1)
    obs, _ = env.reset(options={"index": 1})
    recipe = env.episode.task.recipe
    assert recipe is not None
    obs, reward, *_ = env.step(plan_to(recipe, Recipe("iea")))
    assert reward == 1.0
    assert np.array_equal(obs["image"], obs["context"][0])


def test_transfer_shows_an_example_of_the_same_edit() -> None:
    env = make(task="transfer", max_turns=1)
    obs, _ = env.reset(options={"index": 1})
    recipe = env.episode.task.recipe
    assert recipe is not None
    before, after = obs["context"]
    assert not np.array_equal(before, obs["original"])
    assert np.array_equal(env.renderer.render([before], [recipe])[0], after)
    assert env.step(plan_to(recipe, Recipe("iea")))[1] == 1.0


def test_several_tasks_take_turns() -> None:
    env = make(task=["edit", "summary", "match"], reward="task")
    base = get_dataset("samples", kinds=["instruct"], size=12)
    assert len(env.dataset) == 3 * len(base)
    assert [env.reset(options={"index": index})[0]["task"] for index in range(4)] == [
        "edit",
        "summary",
        "match",
        "edit",
    ]
    assert ToolCall("summarize", {"text": "x"}) in env.action_space
    assert ToolCall("exposure", {"value": 1}) in env.action_space


def test_an_unknown_task_or_user_is_named() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'refine'"):
        make(task="refin")
    with pytest.raises(ConfigurationError, match="scripted"):
        make(user="scriptd")


class TestConversation:
    def test_who_does_as_asked_ends_with_a_content_user(self) -> None:
        env = make(user="scripted", max_turns=8)
        content = 0
        for index in range(12):
            obs, _ = env.reset(options={"index": index}, seed=index)
            terminated, reward, asked = False, 0.0, [obs["instruction"]]
            while not terminated:
                now = env.episode.recipe
                wanted = follow(now, obs["instruction"], IEA.controls)
                obs, reward, terminated, _, info = env.step(plan_to(wanted, now))
                if not terminated:
                    asked.append(obs["instruction"])
                    assert json.loads(obs["history"]) == asked[:-1]
            assert env.episode.requests == tuple(asked)
            content += info["finished"]
            assert reward > 0.3
        assert content >= 9

    def test_the_same_seed_gives_the_same_words(self) -> None:
        said = []
        for _ in range(2):
            env = make(user="scripted", max_turns=4)
            env.reset(seed=3)
            for value in (10, 20, 30):
                env.step(ToolCall("grain", {"value": value}))
            said.append(env.episode.requests)
        assert said[0] == said[1]
        assert len(said[0]) == 4

    def test_finish_asks_the_user_who_may_want_more(self) -> None:
        env = make(user="scripted", max_turns=3)
        first, _ = env.reset(options={"index": 0})
        obs, _, terminated, *_ = env.step(ToolCall("finish"))
        assert not terminated
        assert obs["instruction"]
        assert env.episode.requests[0] == first["instruction"]

    def test_a_refused_turn_leaves_the_request(self) -> None:
        env = make(user="scripted", max_turns=3)
        first, _ = env.reset(options={"index": 0})
        obs, *_ = env.step(ToolCall("exposure", {"value": 1000}))
        assert obs["instruction"] == first["instruction"]
        assert len(env.episode.requests) == 1


@pytest.mark.parametrize("reward", ["likeness", "edit", "pixel-distance"])
def test_turns_that_are_paid_add_up(reward: str) -> None:
    paid, once = make(reward=reward, reward_mode="delta", max_turns=4), make(reward=reward, max_turns=4)
    for env in (paid, once):
        env.reset(seed=6)
    actions = [ToolCall("exposure", {"value": value}) for value in (30, -10, 10, 5)]
    rewards = [paid.step(action)[1] for action in actions]
    last = [once.step(action)[1] for action in actions][-1]
    idle = make(reward=reward, max_turns=1)
    idle.reset(seed=6)
    assert sum(rewards) == pytest.approx(last - idle.step([])[1])
    assert any(rewards[:-1])
