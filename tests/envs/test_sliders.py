"""The numeric view."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from retouch_gym.envs.sliders import SlidersEnv, from_unit, hash_words, to_unit, tokenize
from retouch_gym.errors import ConfigurationError
from retouch_gym.testing import TinyDataset, TinyRenderer
from retouch_gym.tools import IEA


def make(**kwargs: Any) -> SlidersEnv:
    return SlidersEnv(**{"dataset": TinyDataset(), "renderer": TinyRenderer(), "size": 8, **kwargs})


@given(name=st.sampled_from(sorted(IEA.controls)), unit=st.floats(-1.5, 1.5))
def test_units_stand_for_valid_slider_values(name: str, unit: float) -> None:
    control = IEA.controls[name]
    value = from_unit(unit, control)
    assert isinstance(value, int)
    assert control.low <= value <= control.high
    assert from_unit(to_unit(value, control), control) == value
    assert from_unit(0.0, control) == control.default


def test_a_box_sets_every_slider_at_once() -> None:
    env = make(sliders=["exposure", "shadows", "fade"], max_turns=3)
    assert env.action_space == spaces.Box(-1, 1, (3,), np.float32)
    env.reset(seed=0)
    obs, *_ = env.step(np.array([0.5, -0.25, -1.0], np.float32))
    assert dict(env.episode.recipe.controls) == {"exposure": 50, "shadows": -25}
    assert obs["controls"].tolist() == [0.5, -0.25, 0.0]
    env.step(np.array([0.0, -0.25, 1.0], np.float32))
    assert dict(env.episode.recipe.controls) == {"shadows": -25, "fade": 100}


def test_multi_discrete_sets_one_slider_to_a_level_or_finishes_or_undoes() -> None:
    env = make(actions="multi-discrete", sliders=["exposure", "shadows"], levels=5, max_turns=9)
    assert env.action_space == spaces.MultiDiscrete([4, 5])
    env.reset(seed=0)
    env.step([0, 4])
    env.step([1, 1])
    assert dict(env.episode.recipe.controls) == {"exposure": 100, "shadows": -50}
    env.step([3, 0])
    assert dict(env.episode.recipe.controls) == {"exposure": 100}
    env.step([0, 2])
    assert env.episode.recipe.is_empty
    assert env.step([2, 3])[2]


def test_discrete_is_the_same_as_one_number() -> None:
    env = make(actions="discrete", sliders=["exposure", "shadows"], levels=5, max_turns=9)
    assert env.action_space == spaces.Discrete(12)
    env.reset(seed=0)
    for action, expected in ((4, {"exposure": 100}), (6, {"exposure": 100, "shadows": -50}), (11, {"exposure": 100})):
        env.step(np.int64(action))
        assert dict(env.episode.recipe.controls) == expected
    assert env.step(10)[2]


def test_masked_actions_are_those_that_would_do_nothing() -> None:
    env = make(actions="discrete", sliders=["exposure", "fade"], levels=5, max_turns=40)
    _, info = env.reset(seed=0)
    for _ in range(2):
        mask = env.action_masks()
        assert np.array_equal(mask, info["action_mask"])
        state, recipe = env.get_state(), env.episode.recipe
        for action, moves in enumerate(mask):
            env.set_state(state)
            _, _, terminated, _, step = env.step(action)
            changed = env.episode.recipe != recipe or terminated
            assert changed == moves, action
            assert (step["tool_error"] is None) or not moves
        env.set_state(state)
        *_, info = env.step(3)
    flat = make(actions="multi-discrete", sliders=["exposure"], levels=3)
    flat.reset()
    assert flat.action_masks().tolist() == [True, True, False, True, True, True]
    assert make().action_space.shape == (16,)


@pytest.mark.parametrize("actions", ["box", "multi-discrete", "discrete"])
@pytest.mark.parametrize("action", [None, "x", [], [np.nan] * 2, [1e9, -1e9], {"a": 1}, -1, 10**9, [[1, 2]], object()])
def test_whatever_is_no_action_costs_a_turn_at_most(actions: Any, action: Any) -> None:
    env = make(actions=actions, sliders=["exposure", "shadows"], max_turns=3)
    env.reset(seed=0)
    obs, reward, terminated, truncated, info = env.step(action)
    assert obs in env.observation_space
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert len(env.episode.turns) == 1
    env.episode.recipe.check(IEA)
    assert info["tool_error"] is not None or actions == "box"


def test_photos_are_shown_at_one_size_and_the_goal_with_them() -> None:
    env = make(task="match", size=6)
    obs, _ = env.reset(options={"index": 0})
    assert set(obs) == {"image", "original", "context_1", "controls", "turns_left", "instruction"}
    assert obs["image"].shape == (6, 6, 3)
    assert not np.array_equal(obs["context_1"], obs["image"])
    flat = make(task="match", flat=True, size=6)
    vector, _ = flat.reset(options={"index": 0})
    assert vector.shape == flat.observation_space.shape == (3 * 6 * 6 * 3 + 16 + 1 + 64,)
    assert np.allclose(vector[:108], obs["image"].ravel() / 255)


def test_observations_are_the_agents_own() -> None:
    env = make(size=32, max_turns=2)
    obs, _ = env.reset(options={"index": 0})
    obs["image"][:] = 0
    assert env.episode.image.any()


@given(st.text(max_size=60))
def test_instructions_become_vectors(text: str) -> None:
    vector = hash_words(text, 32)
    assert vector.shape == (32,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5) or not vector.any()
    assert np.array_equal(vector, hash_words(text.upper().lower(), 32)) or text.lower() != text.upper().lower()
    ids = tokenize(text, 5, 50)
    assert ids.shape == (5,)
    assert ((ids >= 0) & (ids < 50)).all()


def test_different_words_differ_and_their_order_counts() -> None:
    assert not np.array_equal(hash_words("much warmer", 64), hash_words("much cooler", 64))
    assert not np.array_equal(hash_words("warmer not cooler", 64), hash_words("cooler not warmer", 64))
    assert tokenize("warmer, please", 4, 1000)[2:].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"task": "summary"}, "answered in words"),
        ({"levels": 4}, "odd number"),
        ({"size": 0}, "size is 0"),
        ({"actions": "bax"}, "Did you mean 'box'"),
        ({"sliders": ["exposur"]}, "Did you mean 'exposure'"),
        ({"sliders": []}, "1..64 sliders"),
        ({"words": "hsh"}, "Did you mean 'hash'"),
    ],
)
def test_wrong_arguments_are_named(kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        make(**kwargs)
