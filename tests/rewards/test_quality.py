"""Rewards of one metric each: the convention, no edit, too much edit, and what cannot be scored."""

from __future__ import annotations

import dataclasses
import math
import pickle

import numpy as np
import pytest

from retouch_gym import Recipe, ToolCall
from retouch_gym.errors import ConfigurationError
from retouch_gym.images import Pixels
from retouch_gym.metrics import delta_e, histogram_distance, l1, psnr, rmse, ssim
from retouch_gym.renderers import get_renderer
from retouch_gym.rewards import REWARDS, get_reward, score_batch, score_one
from retouch_gym.rewards.quality import PSNR, SSIM, MetricReward
from retouch_gym.tasks import Episode, Task, Turn
from retouch_gym.testing import NoisePhoto, TinyRenderer, make_episode
from retouch_gym.types import Image

RENDERER = TinyRenderer()
NAMES = [name for name in REWARDS if isinstance(get_reward(name), MetricReward)]
REFERENCED = [name for name in REWARDS if get_reward(name).needs_reference and get_reward(name).scope == "episode"]


def episode_of(image: Image, reference: Image) -> Episode:
    task = Task("pair", Pixels(image), "change it", reference=Pixels(reference))
    return Episode(task, image, image, Recipe("iea"), RENDERER)


def noise(seed: int, height: int = 24, width: int = 31) -> Image:
    return NoisePhoto(seed, height, width).load()


def value(name: str, episode: Episode) -> float:
    found = score_one(get_reward(name), episode).value
    assert found is not None
    return found


def test_the_rewards_that_are_tested_here() -> None:
    assert NAMES == ["l1", "l2", "psnr", "ssim", "delta-e", "histogram"]
    assert {"pixel-distance", "likeness", "usefulness", "edit", "refine", *NAMES} <= set(REFERENCED)


def test_each_pays_its_metric() -> None:
    a, b = noise(1), noise(2)
    episode = episode_of(a, b)
    assert value("l1", episode) == -l1(a, b)
    assert value("l2", episode) == -rmse(a, b)
    assert value("psnr", episode) == psnr(a, b)
    assert value("ssim", episode) == ssim(a, b)
    assert value("delta-e", episode) == -delta_e(a, b) / 100
    assert value("histogram", episode) == -histogram_distance(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_an_equal_photo_has_the_best_value_and_no_photo_leaves_the_range(name: str) -> None:
    reward = get_reward(name)
    low, high = reward.range
    assert value(name, episode_of(noise(1), noise(1))) == pytest.approx(high, abs=1e-7)
    black, white, blue = (np.full((9, 9, 3), colour, np.uint8) for colour in (0, 255, (0, 0, 255)))
    green = np.full((9, 9, 3), (0, 255, 0), np.uint8)
    for a, b in ((black, white), (white, black), (blue, green), (white, 255 - noise(1, 9, 9)), (black, black)):
        assert low <= value(name, episode_of(a, b)) <= high


@pytest.mark.parametrize("name", NAMES)
def test_batch_equals_singles_to_the_last_bit(name: str) -> None:
    reward = get_reward(name)
    sizes = [(9 + step, 40 - step) for step in range(20)]
    episodes = [episode_of(noise(seed, *size), noise(seed + 50, *size)) for seed, size in enumerate(sizes)]
    together = score_batch(reward, episodes)
    assert together == [score_one(reward, episode) for episode in episodes]
    assert together[::-1] == score_batch(pickle.loads(pickle.dumps(reward)), episodes[::-1])
    assert reward.splits


def test_the_cap_of_psnr() -> None:
    a = noise(1)
    b = a.copy()
    b[0, 0, 0] += 1
    assert psnr(a, b) > 60
    assert value("psnr", episode_of(a, b)) == 60
    assert score_one(PSNR(cap=45), episode_of(a, a)).value == 45
    assert PSNR(cap=45).range == (0.0, 45.0)
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ConfigurationError, match="PSNR cap"):
            PSNR(wrong)


def test_a_photo_too_small_for_ssim_is_an_error_beside_one_that_is_scored() -> None:
    good, small = episode_of(noise(1), noise(2)), episode_of(noise(1, 6, 30), noise(2, 6, 30))
    first, second, third = score_batch(SSIM(), [good, small, good])
    assert first == third == score_one(SSIM(), good)
    assert second.value is None
    assert "at least 7 × 7" in (second.error or "")


@pytest.fixture(scope="module")
def tried() -> list[Episode]:
    """A photo edited as the expert does, left alone, and edited four times too much; really rendered."""
    renderer = get_renderer("native")
    photo = Pixels(noise(7, 64, 80))
    expert = Recipe("iea", {"exposure": 20, "contrast": 15, "saturation": 20})
    over = Recipe("iea", {name: 4 * number for name, number in expert.controls.items()})
    reference = Pixels(renderer.render([photo.load()], [expert])[0])
    task = Task("over", photo, "brighter", reference=reference, recipe=expert)
    turns = [Turn((ToolCall("finish"),))]
    return [make_episode(task, recipe, renderer, turns=turns) for recipe in (expert, Recipe("iea"), over)]


@pytest.mark.parametrize("name", REFERENCED)
def test_doing_nothing_and_doing_too_much_have_bounds(name: str, tried: list[Episode]) -> None:
    """The expert's edit has the top of the range; nothing and too much lie below it by at least a hundredth of it."""
    expert, untouched, over = (value(name, episode) for episode in tried)
    low, high = get_reward(name).range
    margin = 0.01 * (high - low)
    assert expert == pytest.approx(high, abs=1e-6)
    assert low <= untouched < expert - margin
    assert low <= over < expert - margin


@pytest.mark.parametrize("name", [*NAMES, "pixel-distance", "likeness", "edit"])
def test_too_much_is_worse_than_nothing(name: str, tried: list[Episode]) -> None:
    _, untouched, over = (value(name, episode) for episode in tried)
    if name == "edit":
        assert untouched == -1.0  # it asks for an edit: nothing done is as bad as the worst
        assert over == pytest.approx(-0.7 + 0.3 * value("usefulness", tried[2]))
    else:
        assert over < untouched


@pytest.mark.parametrize(("name", "expected"), [("likeness", 0.0), ("edit", -1.0), ("usefulness", -1.0)])
def test_doing_nothing_has_a_fixed_value(name: str, expected: float, tried: list[Episode]) -> None:
    assert value(name, tried[1]) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_photo_that_needs_nothing_is_best_left_alone(name: str, tried: list[Episode]) -> None:
    done = dataclasses.replace(tried[1].task, reference=tried[1].task.photo)
    untouched, over = (dataclasses.replace(episode, task=done) for episode in tried[1:])
    assert value(name, untouched) == pytest.approx(get_reward(name).range[1], abs=1e-6)
    assert value(name, over) < value(name, untouched)
