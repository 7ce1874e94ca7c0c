from __future__ import annotations

import inspect
import math
import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retouch_gym.adapters.blocks import BlockView
from retouch_gym.adapters.trl import (
    REFUSAL,
    ToolEnvironmentFactory,
    episode_of,
    reward_function,
    score,
    task_rows,
    tool_environment,
)
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.errors import ConfigurationError, RendererError, RewardError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.rewards.base import Reward, RewardOutput, get_reward
from retouch_gym.tasks import Episode
from retouch_gym.testing import TinyDataset, TinyRenderer
from retouch_gym.tools import IEA, Toolset
from retouch_gym.tools.base import FinishTool
from retouch_gym.types import Image, ToolCall


class Patchy(Reward):
    """Likeness that fails where the photo was not touched, and counts its batches."""

    name = "patchy"
    range = (-1.0, 1.0)
    components = get_reward("likeness").components
    needs_reference = True

    def __init__(self) -> None:
        self.batches: list[int] = []

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        self.batches.append(len(episodes))
        if len(episodes) == 13:
            raise RewardError("thirteen")
        scored = get_reward("likeness").score(episodes)
        return [
            output if episode.recipe.controls else RewardOutput(None, error="untouched")
            for episode, output in zip(episodes, scored, strict=True)
        ]


class Jammed(TinyRenderer):
    """Fails at a strong exposure."""

    def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        if any(recipe["exposure"] > 90 for recipe in recipes):
            raise RendererError("jammed")
        return super().render(photos, recipes)


def make(**options: Any) -> ToolEnvironmentFactory:
    return tool_environment(**{"dataset": TinyDataset(), "renderer": TinyRenderer(), "max_turns": 4, **options})


def started(**options: Any) -> Any:
    environment = make(**options)()
    environment.reset(task_id="tiny/train/1")
    return environment


def public(value: object) -> set[str]:
    return {name for name in dir(value) if not name.startswith("_")}


def test_nothing_but_the_tools_and_reset_is_public() -> None:
    environment = make()()
    assert public(environment) == {tool.name for tool in IEA.tools} | {"reset"}
    methods = {name for name, _ in inspect.getmembers(type(environment), inspect.isfunction)}
    assert public(environment) <= methods


def test_the_adapter_imports_no_framework() -> None:
    code = "import sys, retouch_gym.adapters.trl; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"trl", "torch", "transformers", "datasets"} & set(done.stdout.split())


def test_the_request_is_the_photo_and_the_words() -> None:
    environment = make()()
    photo, text = environment.reset(task_id="tiny/train/2", prompt=[], unknown=3)
    expected, _ = RetouchEnv(dataset=TinyDataset(), renderer=TinyRenderer()).reset(options={"task_id": "tiny/train/2"})
    assert np.array_equal(np.asarray(photo["image"]), expected["image"])
    assert text == {"type": "text", "text": "Request: Cooler and brighter, please."}


def test_an_accepted_call_shows_the_photo_as_it_is_now() -> None:
    environment = started()
    text, photo = environment.exposure(value=30)
    assert text["text"] == "Applied exposure = 30. (turns left: 3)"
    assert np.array_equal(np.asarray(photo["image"]), episode_of(environment).image)
    assert not np.array_equal(episode_of(environment).image, episode_of(environment).source)


def test_photos_are_shown_small_or_not_at_all() -> None:
    environment = started(longest=16)
    assert max(environment.exposure(value=30)[1]["image"].size) == 16
    assert episode_of(environment).image.shape == (25, 34, 3)
    assert started(image_feedback=False).exposure(value=30) == "Applied exposure = 30. (turns left: 3)"


@pytest.mark.parametrize(
    "arguments",
    [{}, {"value": 101}, {"value": "30"}, {"value": math.nan}, {"self": 3, "value": 3}, {"value": [[]] * 9}],
)
def test_bad_arguments_come_back_as_words_and_cost_a_turn(arguments: dict[str, Any]) -> None:
    environment = started()
    answer = environment.exposure(**arguments)
    assert answer.startswith("Refused, nothing was changed: exposure: ")
    assert answer.endswith("(turns left: 3)")
    assert len(answer) < 500
    assert not episode_of(environment).recipe.controls


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([tool.name for tool in IEA.tools]),
            st.dictionaries(
                st.sampled_from(["value", "self", "x"]),
                st.recursive(st.none() | st.integers() | st.text() | st.floats(), st.lists),
            ),
        ),
        max_size=6,
    )
)
def test_no_call_ever_raises(calls: list[tuple[str, dict[str, Any]]]) -> None:
    environment = started()
    for name, arguments in calls:
        answer = getattr(environment, name)(**arguments)
        assert isinstance(answer, str | list)
    assert reward_function([environment])[0] is not None


@pytest.mark.parametrize(("name", "max_turns"), [("finish", 4), ("undo", 1), ("exposure", 1)])
def test_after_the_end_calls_are_refused_in_words(name: str, max_turns: int) -> None:
    environment = started(max_turns=max_turns)
    assert getattr(environment, name)(**({"value": 9} if name == "exposure" else {})).endswith("(the episode is over)")
    before = episode_of(environment)
    assert environment.exposure(value=50) == environment.finish() == environment.tint(value="?") == REFUSAL
    assert episode_of(environment).recipe == before.recipe
    assert len(episode_of(environment).turns) == 1
    environment.reset(task_id="tiny/train/0")
    assert environment.shadows(value=200) != REFUSAL


def test_the_reward_is_the_environments_own() -> None:
    calls = [("exposure", 25), ("temperature", -20), ("exposure", 500)]
    ended, stopped = started(), started()
    env = RetouchEnv(dataset=TinyDataset(), renderer=TinyRenderer(), max_turns=4)
    env.reset(options={"task_id": "tiny/train/1"})
    for name, value in calls:
        for environment in (ended, stopped):
            getattr(environment, name)(value=value)
        env.step(ToolCall(name, {"value": value}))
    ended.finish()
    expected = env.step(ToolCall("finish"))[1]
    assert expected > 0.5
    # A model that just stops writing calls is paid for the photo as it left it.
    assert reward_function([ended, stopped]) == [expected, expected]
    assert [episode_of(environment).finished for environment in (ended, stopped)] == [True, False]


def test_all_rollouts_are_scored_in_one_batch_and_once() -> None:
    reward = Patchy()
    factory = make(reward=reward)
    environments: list[Any] = [factory() for _ in range(5)]
    for number, environment in enumerate(environments):
        environment.reset(task_id="tiny/train/3")
        environment.exposure(value=5 + 5 * number)
        if number % 2:
            environment.finish()
    first = reward_function(environments)
    assert reward_function(environments) == first
    assert reward.batches == [5]
    assert len(set(first)) == 5
    assert environments[0].exposure(value=1) == REFUSAL


def test_a_failed_reward_is_none_and_spoils_no_other() -> None:
    factory = make(reward=Patchy())
    environments: list[Any] = [factory() for _ in range(3)]
    for environment in environments:
        environment.reset(task_id="tiny/train/0")
    environments[1].exposure(value=20)
    logged: dict[str, float] = {}
    rewards = reward_function([*environments, object()], log_metric=logged.__setitem__)
    assert [reward is None for reward in rewards] == [True, False, True, True]
    assert logged["retouch/unscored"] == pytest.approx(2 / 3)
    assert logged["retouch/likeness"] == pytest.approx(rewards[1])
    assert [output.error for output in score(environments)] == ["untouched", None, "untouched"]


def test_a_reward_that_fails_as_a_whole_scores_none() -> None:
    factory = make(reward=Patchy())
    environments = [factory() for _ in range(13)]
    for environment in environments:
        environment.reset(task_id="tiny/train/0")
    assert reward_function(environments) == [None] * 13


def test_errors_are_raised_on_request() -> None:
    environment = started(reward=Patchy(), on_reward_error="raise")
    with pytest.raises(RewardError, match="'tiny/train/1' could not be scored: untouched"):
        reward_function([environment])


@pytest.mark.parametrize("policy", ["truncate", "raise"])
def test_a_failed_renderer_ends_the_rollout_without_a_reward(policy: Any) -> None:
    environment = started(renderer=Jammed(), on_reward_error=policy)
    assert "could not be rendered" in environment.exposure(value=95)
    assert environment.finish() == REFUSAL
    if policy == "truncate":
        assert reward_function([environment]) == [None]
    else:
        with pytest.raises(RewardError, match="jammed"):
            reward_function([environment])


def test_rows_name_tasks_that_the_environment_knows() -> None:
    rows = task_rows(TinyDataset(3))
    assert [row["task_id"] for row in rows] == ["tiny/train/0", "tiny/train/1", "tiny/train/2"]
    assert [message["role"] for message in rows[0]["prompt"]] == ["system", "user"]
    assert [len(row["prompt"]) for row in task_rows(TinyDataset(), system="", limit=2)] == [1, 1]
    first, second = make()(), make()()
    for row in rows:
        assert first.reset(**row) == second.reset(**row)
        assert episode_of(first).task.id == row["task_id"]


def test_tasks_without_an_id_are_drawn_from_the_seed() -> None:
    def draws(factory: ToolEnvironmentFactory) -> list[list[str]]:
        drawn = []
        for environment in (factory(), factory()):
            drawn.append([environment.reset() and episode_of(environment).task.id for _ in range(6)])
        return drawn

    factory = make(dataset=TinyDataset(50), seed=7)
    copy = pickle.loads(pickle.dumps(factory))
    one, two = draws(factory)
    assert one != two
    assert draws(copy) == [one, two]


def test_markers_of_the_chat_template_are_taken_out_of_every_text() -> None:
    environment = make(special_tokens=["</s>"])()
    environment.reset()
    answer = environment.exposure(value="<|image_pad|></s>")
    assert "exposure: value" in answer
    assert "image_pad" not in answer
    assert "</s>" not in answer


def test_further_photos_and_earlier_requests_are_part_of_the_request() -> None:
    photos = [np.full((8, 9, 3), level, np.uint8) for level in (1, 2, 3)]
    view = BlockView(True, None, "{photos}{history}{recipe}{instruction} ({turns_left})", ())
    observation = {"image": photos[0], "context": tuple(photos[1:]), "task": "transfer", "turns_left": 3}
    observation |= {"recipe": '{"exposure": 20, "tint": -5}'}
    *images, text = view.ask(observation | {"history": '["warmer", "darker"]', "instruction": "Same."})
    assert [int(np.asarray(block["image"])[0, 0, 0]) for block in images] == [1, 2, 3]
    assert text["text"] == (
        "Photos: 1 the photo as it is now; 2 an example before its edit; 3 the example after it.\n"
        "Earlier requests: warmer; darker\nSet already: exposure = 20, tint = -5\nSame. (3)"
    )


@pytest.mark.parametrize(
    ("task", "photos", "words"),
    [
        ("edit", 1, ()),
        ("refine", 1, ("Earlier requests: Cooler and brighter", "Set already: ")),
        ("summary", 2, ("2 the photo after the edit",)),
        ("match", 2, ("1 the photo as it is now; 2 the goal",)),
        ("transfer", 3, ("2 an example before its edit; 3 the example after it",)),
    ],
)
def test_every_task_is_shown_with_its_photos(task: Any, photos: int, words: tuple[str, ...]) -> None:
    factory = make(task=task)
    rows = task_rows(factory)
    environment = factory()
    *images, text = environment.reset(**rows[0])
    assert len(rows) == 4
    assert [block["type"] for block in images] == ["image"] * photos
    assert all(word in text["text"] for word in words)
    assert ("summarize" in public(environment)) == (task == "summary")
    assert reward_function([environment])[0] is not None


def test_a_user_who_asks_for_more_is_heard() -> None:
    factory = make(user="scripted", max_turns=8)
    (row,) = task_rows(factory, limit=1)
    first, second = factory(), factory()
    assert first.reset(**row) == second.reset(**row)
    answers = [environment.shadows(value=90) for environment in (first, second)]
    assert answers[0] == answers[1]
    assert "The user now asks: " in answers[0][0]["text"]


def test_wrong_options_are_named() -> None:
    with pytest.raises(ConfigurationError, match="longest is 0"):
        make(longest=0)
    with pytest.raises(ConfigurationError, match="unknown field"):
        make(request="{photo}")
    with pytest.raises(ConfigurationError, match="one reward for a whole rollout"):
        make(reward_mode="delta")
    with pytest.raises(ConfigurationError, match="Rename it"):
        make(toolset=Toolset("iea", (Reset(),)))


class Reset(FinishTool):
    name = "reset"
