"""The reward that needs no reference: free where experts leave photos, falling with every fault."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from retouch_gym import Recipe
from retouch_gym.images import Pixels
from retouch_gym.rewards import RewardOutput, get_reward, score_batch, score_one
from retouch_gym.rewards.statistics import StatisticsReward
from retouch_gym.tasks import Episode, Task
from retouch_gym.testing import TinyRenderer, check_reward, make_episode
from retouch_gym.types import Image

RENDERER = TinyRenderer()
RAMP = np.linspace(40, 200, 60)[None, :, None] * np.ones((40, 1, 3))


def photo(levels: np.ndarray) -> Image:
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def score(levels: np.ndarray) -> RewardOutput:
    image = photo(levels)
    return score_one(StatisticsReward(), Episode(Task("t", Pixels(image), ""), image, image, Recipe("iea"), RENDERER))


def value(levels: np.ndarray) -> float:
    found = score(levels).value
    assert found is not None
    return found


def test_a_sound_photo_costs_nothing_and_no_reference_is_asked_for() -> None:
    assert score(RAMP) == RewardOutput(0.0, {"clipping": 0.0, "cast": 0.0, "contrast": 0.0})
    assert not get_reward("statistics").needs_reference


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("contrast", lambda x, amount: 120 + (1 - amount) * (x - 120)),
        ("clipping", lambda x, amount: x - 200 * amount),
        ("clipping", lambda x, amount: x + 215 * amount),
        ("cast", lambda x, amount: x + amount * np.array([100, 0, -100])),
    ],
)
def test_more_of_a_fault_costs_more(fault: str, change: object) -> None:
    assert callable(change)
    costs = [score(change(RAMP, amount)).components[fault] for amount in (0.1, 0.4, 0.48)]
    assert costs[0] < costs[1] < costs[2]
    values = [value(change(RAMP, amount)) for amount in (0.1, 0.4, 0.48)]
    assert values == sorted(values, reverse=True)


def test_too_much_contrast_is_a_fault_as_too_little_is() -> None:
    assert score(128 + 9 * (RAMP - 120)).components["contrast"] > 0.5
    assert score(RAMP * 0 + 128).components["contrast"] == pytest.approx(1.0, abs=1e-6)


def test_the_ends_of_the_range() -> None:
    assert score(RAMP * 0).components == pytest.approx({"clipping": 1.0, "cast": 0.0, "contrast": 1.0}, abs=1e-6)
    red = np.zeros((20, 20, 3)) + np.array([255, 0, 0])
    assert value(red) == pytest.approx(-1.0, abs=1e-6)
    rng = np.random.default_rng(0)
    assert all(-1 <= value(rng.integers(0, 256, (9, 12, 3))) <= 0 for _ in range(50))


def test_batch_equals_singles_and_the_checker_agrees() -> None:
    reward = StatisticsReward()
    grey = Pixels(photo(RAMP))
    task = Task("orange", Pixels(photo(RAMP + np.array([50, 0, -50]))), "too warm.", reference=grey)
    pair = tuple(make_episode(task, Recipe("iea", {"temperature": t}), RENDERER) for t in (-75, 0))
    check_reward(reward, pairs=[(pair[0], pair[1])])
    episodes = [dataclasses.replace(pair[0], image=photo(RAMP * gain)) for gain in (0.1, 1.0, 1.7)] * 3
    assert score_batch(reward, episodes) == [score_one(reward, episode) for episode in episodes]
    assert score_batch(pickle.loads(pickle.dumps(reward)), episodes) == score_batch(reward, episodes)


def test_the_grey_photo_of_an_idle_agent_is_not_the_best() -> None:
    """No gain in flattening a sound photo: what has no fault cannot be improved."""
    assert value(120 + 0.2 * (RAMP - 120)) < value(RAMP)
