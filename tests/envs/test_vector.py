"""Many environments in one: the same episodes as single ones, bit for bit, in batches."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from retouch_gym import Recipe, ToolCall, Unparsable
from retouch_gym.envs.registration import ENV_IDS
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.envs.vector import RetouchVectorEnv
from retouch_gym.errors import ConfigurationError, DatasetError, RendererError, RewardError, StateError
from retouch_gym.rewards import Likeness, RewardOutput
from retouch_gym.tasks import Episode
from retouch_gym.testing import TinyDataset, TinyRenderer
from retouch_gym.types import Image

ANSWERS = (
    '<think>dark</think><answer>{"exposure": 20}</answer>',
    "no answer at all",
    '<think>warm</think><answer>{"temperature": -15, "finish": true}</answer>',
)
CALLS = (
    ToolCall("exposure", {"value": 20}),
    ToolCall("exposure", {"value": 2000}),
    (ToolCall("temperature", {"value": -15}), ToolCall("finish")),
    ToolCall("undo"),
)


class Counting(TinyRenderer):
    """Counts calls and photos."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        self.batches.append(len(photos))
        return super().render(photos, recipes)


class CountingReward(Likeness):
    """Counts episodes per call."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        self.batches.append(len(episodes))
        return super().score(episodes)


class Moody(TinyRenderer):
    """Cannot render an exposure of 13."""

    def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        if any(recipe["exposure"] == 13 for recipe in recipes):
            raise RendererError("thirteen")
        return super().render(photos, recipes)


def make_vector(num_envs: int = 3, **kwargs: Any) -> RetouchVectorEnv:
    return RetouchVectorEnv(num_envs, **{"dataset": TinyDataset(), "renderer": TinyRenderer(), **kwargs})


def plain(value: Any) -> Any:
    """A value that compares bit for bit."""
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return [plain(item) for item in value]
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def action_of(env_id: str, env: Any, number: int, turn: int) -> Any:
    if "Chat" in env_id:
        return ANSWERS[(number + turn) % len(ANSWERS)]
    if "Sliders" in env_id:
        shape = env.single_action_space.shape if hasattr(env, "single_action_space") else env.action_space.shape
        return np.random.default_rng([number, turn]).uniform(-1, 1, shape).astype(np.float32)
    return CALLS[(number + turn) % len(CALLS)]


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("env_id", ENV_IDS)
def test_it_steps_like_gymnasiums_own_vector_of_single_environments(env_id: str, mode: AutoresetMode) -> None:
    kwargs = {"dataset": TinyDataset(), "renderer": TinyRenderer(), "reward": "edit", "max_turns": 3}
    ours = gymnasium.make_vec(env_id, num_envs=3, autoreset_mode=mode, **kwargs)
    theirs = gymnasium.make_vec(
        env_id, num_envs=3, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode, "copy": False}, **kwargs
    )
    assert plain(ours.reset(seed=5)) == plain(theirs.reset(seed=5))
    for turn in range(9):
        actions = [action_of(env_id, ours, number, turn) for number in range(3)]
        batch = np.stack(actions) if "Sliders" in env_id else tuple(actions)
        one, other = ours.step(batch), theirs.step(batch)
        assert plain(one) == plain(other), turn
        assert one[0] in ours.observation_space
        over = one[2] | one[3]
        if mode is AutoresetMode.DISABLED and over.any():
            options = {"reset_mask": over}
            assert plain(ours.reset(options=dict(options))) == plain(theirs.reset(options=dict(options)))
    assert ours.metadata["autoreset_mode"] is mode
    ours.close()
    theirs.close()


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_threads_and_prefetching_change_nothing(env_id: str) -> None:
    seen = []
    for threads, prefetch in ((1, False), (2, True)):
        envs = gymnasium.make_vec(env_id, num_envs=5, threads=threads, prefetch=prefetch, max_turns=2)
        trace = [plain(envs.reset(seed=1))]
        for turn in range(5):
            actions = [action_of(env_id, envs, number, turn) for number in range(5)]
            trace.append(plain(envs.step(np.stack(actions) if "Sliders" in env_id else tuple(actions))))
        seen.append(trace)
        envs.close()
    assert seen[0] == seen[1]


def test_a_step_renders_once_and_scores_once() -> None:
    renderer, reward = Counting(), CountingReward()
    envs = make_vector(4, renderer=renderer, reward=reward, max_turns=1, prefetch=False, autoreset_mode="Disabled")
    envs.reset(seed=0)
    for episode in envs.episodes:
        episode.task.reference.load()  # type: ignore[union-attr]
    renderer.batches.clear()
    envs.step([ToolCall("exposure", {"value": value}) for value in (1, 2, 3, 4)])
    assert renderer.batches == [4]
    assert reward.batches == [4]


def test_groups_share_their_tasks_episode_after_episode() -> None:
    envs = make_vector(6, group_size=3, max_turns=1, autoreset_mode=AutoresetMode.SAME_STEP)
    _, infos = envs.reset(seed=7)
    seen = set()
    for turn in range(5):
        ids = infos["task_id"]
        assert ids[0] == ids[1] == ids[2]
        assert ids[3] == ids[4] == ids[5]
        alone = RetouchEnv(dataset=TinyDataset(), renderer=TinyRenderer())
        if turn == 0:
            assert [alone.reset(seed=7)[1]["task_id"], alone.reset(seed=8)[1]["task_id"]] == [ids[0], ids[3]]
        seen |= set(ids)
        *_, infos = envs.step([ToolCall("exposure", {"value": value}) for value in range(6)])
    assert len(seen) > 1


def test_tasks_are_chosen_for_all_or_for_each() -> None:
    envs = make_vector(3)
    _, infos = envs.reset(options={"index": 2})
    assert infos["task_id"].tolist() == ["tiny/train/2"] * 3
    _, infos = envs.reset(options={"index": [0, 1, 3]})
    assert infos["task_id"].tolist() == ["tiny/train/0", "tiny/train/1", "tiny/train/3"]
    _, infos = envs.reset(options={"task_id": "tiny/train/1", "reset_mask": np.array([True, False, True])})
    assert infos["_task_id"].tolist() == [True, False, True]
    assert [episode.task.id[-1] for episode in envs.episodes] == ["1", "1", "1"]


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"num_envs": 0}, "num_envs is 0"),
        ({"num_envs": 4, "group_size": 3}, "no multiple"),
        ({"autoreset_mode": "NexStep"}, "Did you mean 'NextStep'"),
        ({"threads": 0}, "threads is 0"),
        ({"rewrd": "edit"}, "Did you mean 'reward'"),
        ({"render_mode": "human"}, "Unknown render_mode"),
    ],
)
def test_wrong_arguments_are_named(kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        make_vector(**kwargs)


def test_wrong_resets_and_steps_are_named() -> None:
    envs = make_vector(2, max_turns=1, autoreset_mode="Disabled")
    with pytest.raises(gymnasium.error.ResetNeeded):
        envs.step([ToolCall("undo")] * 2)
    with pytest.raises(ConfigurationError, match="3 seeds for 2"):
        envs.reset(seed=[1, 2, 3])
    with pytest.raises(ConfigurationError, match="reset_mask"):
        envs.reset(options={"reset_mask": np.zeros(2, bool)})
    with pytest.raises(ConfigurationError, match="expected one value or 2"):
        envs.reset(options={"index": [1]})
    with pytest.raises(DatasetError, match=r"0\.\.3"):
        envs.reset(options={"index": 9})
    envs.reset(seed=[3, None])
    with pytest.raises(ConfigurationError, match="1 actions for 2"):
        envs.step([ToolCall("undo")])
    envs.step([ToolCall("undo"), Unparsable("?")])
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"\[0, 1\]"):
        envs.step([ToolCall("undo")] * 2)


def test_one_failing_render_leaves_its_neighbours_alone() -> None:
    envs = make_vector(3, renderer=Moody(), on_reward_error="truncate")
    envs.reset(seed=0)
    actions = [ToolCall("exposure", {"value": value}) for value in (5, 13, 7)]
    _, rewards, terminations, truncations, infos = envs.step(actions)
    assert truncations.tolist() == [False, True, False]
    assert not terminations.any()
    assert not rewards.any()
    assert infos["reward_error"].tolist() == [None, "thirteen", None]
    assert infos["_reward_valid"].tolist() == [False, True, False]
    observations, *_ = envs.step([ToolCall("undo")] * 3)
    assert observations["turns_left"].tolist() == [6, 8, 6]
    raising = make_vector(2, renderer=Moody())
    raising.reset(seed=0)
    with pytest.raises(RendererError, match="thirteen"):
        raising.step(actions[:2])
    raising.reset(seed=0)
    raising.step(actions[::2])


def test_a_reward_that_fails_for_all_raises_or_truncates_all() -> None:
    class Down(Likeness):
        def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
            raise RewardError("judge away")

    envs = make_vector(2, reward=Down(), max_turns=1)
    envs.reset(seed=0)
    with pytest.raises(RewardError, match="judge away"):
        envs.step([ToolCall("undo")] * 2)
    envs = make_vector(2, reward=Down(), max_turns=1, on_reward_error="truncate")
    envs.reset(seed=0)
    _, rewards, _, truncations, infos = envs.step([ToolCall("undo")] * 2)
    assert truncations.all()
    assert not infos["reward_valid"].any()
    assert not rewards.any()


def test_states_travel_between_vectors_and_single_environments() -> None:
    envs = make_vector(2, max_turns=3)
    envs.reset(seed=3)
    envs.step([CALLS[0], CALLS[1]])
    states = envs.get_state()
    copy = pickle.loads(pickle.dumps(make_vector(2, max_turns=3)))
    copy.set_state(states)
    alone = RetouchEnv(dataset=TinyDataset(), renderer=TinyRenderer(), max_turns=3)
    alone.set_state(states[1])
    one, other = envs.step([CALLS[2], CALLS[2]]), copy.step([CALLS[2], CALLS[2]])
    assert plain(one) == plain(other)
    assert alone.step(CALLS[2])[1] == one[1][1]
    assert plain(envs.step([CALLS[0]] * 2)) == plain(copy.step([CALLS[0]] * 2))
    with pytest.raises(StateError, match="1 states for 2"):
        envs.set_state(states[:1])


def test_it_draws_what_a_single_environment_draws() -> None:
    envs = make_vector(2, render_mode="rgb_array")
    with pytest.raises(gymnasium.error.ResetNeeded):
        envs.render()
    envs.reset(options={"index": 1})
    alone = RetouchEnv(dataset=TinyDataset(), renderer=TinyRenderer(), render_mode="rgb_array")
    alone.reset(options={"index": 1})
    frames = envs.render()
    assert frames is not None
    assert all(np.array_equal(frame, alone.render()) for frame in frames)


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_gymnasiums_asynchronous_vector_plays_the_same(env_id: str) -> None:
    kwargs = {"dataset": TinyDataset(), "renderer": TinyRenderer(), "max_turns": 2}
    shared = "Sliders" in env_id
    vector = {"shared_memory": shared, "context": "spawn"}
    theirs = gymnasium.make_vec(env_id, num_envs=2, vectorization_mode="async", vector_kwargs=vector, **kwargs)
    ours = gymnasium.make_vec(env_id, num_envs=2, **kwargs)
    try:
        assert plain(theirs.reset(seed=2)[0]) == plain(ours.reset(seed=2)[0])
        for turn in range(3):
            actions = [action_of(env_id, ours, number, turn) for number in range(2)]
            batch = np.stack(actions) if shared else tuple(actions)
            assert plain(theirs.step(batch)[:4]) == plain(ours.step(batch)[:4])
    finally:
        theirs.close()
