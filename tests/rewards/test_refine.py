"""The reward of a refinement: every part by hand, edge cases, and one batch for the start photos."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retouch_gym import Recipe, ToolCall
from retouch_gym.datasets.modes import ModeDataset
from retouch_gym.datasets.samples import SamplesDataset
from retouch_gym.errors import ConfigurationError, RendererError, RewardError
from retouch_gym.renderers import get_renderer
from retouch_gym.rewards import RefineReward, get_reward, pixel_distance, score_batch, score_one
from retouch_gym.rewards.refine import agreement, difference
from retouch_gym.tasks import Episode, Turn
from retouch_gym.testing import TinyDataset, TinyRenderer, check_reward, make_episode
from retouch_gym.tools import IEA
from retouch_gym.types import Image

RENDERER = TinyRenderer()
RECIPES = st.dictionaries(st.sampled_from(["exposure", "tint", "fade", "grain"]), st.integers(-100, 100)).map(
    lambda controls: Recipe("iea", {name: value for name, value in controls.items() if value})
)


class Fragile(TinyRenderer):
    """Counts its batches and cannot render an odd exposure."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        self.batches.append(len(photos))
        if any(recipe["exposure"] % 2 for recipe in recipes):
            raise RendererError("odd exposure")
        return super().render(photos, recipes)


def recipe(**controls: float) -> Recipe:
    return Recipe("iea", controls)


def episode(start: Recipe | None, new: Recipe, turns: Sequence[Turn] = ()) -> Episode:
    """The first tiny task, whose recipe is exposure 20 and temperature −30."""
    return make_episode(dataclasses.replace(TinyDataset()[0], mode="refine", start=start), new, RENDERER, turns=turns)


def parts(reward: RefineReward, one: Episode) -> dict[str, float]:
    output = score_one(reward, one)
    assert output.value is not None
    return {**output.components, "value": output.value}


@pytest.mark.parametrize(
    ("old", "target", "new", "diff", "iou"),
    [
        ({}, {"a": 40}, {"a": 40}, 1.0, 1.0),
        ({}, {"a": 40}, {"a": 30}, 0.75, 1.0),
        ({}, {"a": 40}, {"a": 90}, 1.0, 1.0),  # too far counts as there
        ({}, {"a": 40}, {"a": -20}, -0.5, 1.0),
        ({}, {"a": 40}, {"a": -90}, -1.0, 1.0),
        ({}, {"a": 40}, {}, 0.0, 0.0),
        ({"a": 40}, {}, {}, 1.0, 1.0),
        ({"a": 40}, {"a": -40}, {"a": 0}, 0.5, 1.0),
        ({"a": 40, "b": 10}, {"a": 20, "b": 10}, {"a": 20}, 1.0, 0.0),
        ({"a": 40, "b": 10}, {"a": 20, "b": 10}, {"a": 40}, 0.0, -1.0),
        ({}, {"a": 40, "b": 40}, {"a": 40}, 0.5, 1.0),
        ({}, {"a": 40}, {"a": 40, "b": 1, "c": 1}, 1.0, -1 / 3),
        ({"a": 40}, {"a": 40}, {"a": 40}, 0.0, 0.0),
        ({"a": 40}, {"a": 40}, {}, 0.0, -1.0),
        ({}, {}, {}, 0.0, 0.0),
    ],
)
def test_diff_and_iou_by_hand(
    old: dict[str, float], target: dict[str, float], new: dict[str, float], diff: float, iou: float
) -> None:
    recipes = (Recipe("iea", old), Recipe("iea", target), Recipe("iea", new))
    assert difference(*recipes) == pytest.approx(diff, abs=1e-12)
    assert agreement(*recipes) == pytest.approx(iou, abs=1e-12)


@given(old=RECIPES, target=RECIPES, new=RECIPES)
def test_parts_are_bounded_and_the_target_itself_is_best(old: Recipe, target: Recipe, new: Recipe) -> None:
    for part in (difference, agreement):
        assert -1 <= part(old, target, new) <= 1
        assert part(old, target, old) <= 0
        assert part(old, target, target) == (1.0 if target != old else 0.0)


@pytest.mark.parametrize("since", ["source", "start"])
def test_the_value_is_the_published_sum(since: str) -> None:
    start, new = recipe(exposure=60, temperature=-30), recipe(exposure=30, temperature=-30, shadows=10)
    found = parts(get_reward("refine", since=since), episode(start, new))  # type: ignore[arg-type]
    assert found["diff"] == pytest.approx(0.75)
    assert found["iou"] == 0.0
    assert found["value"] == pytest.approx(0.3 * found["likeness"] + 0.4 * 0.75, abs=1e-12)


def test_the_likeness_is_relative_to_the_source_or_to_the_start() -> None:
    start, new = recipe(exposure=40, temperature=-30), recipe(exposure=30, temperature=-30)
    one = episode(start, new)
    reference = one.reference
    assert reference is not None
    began = RENDERER.render([one.source], [start])[0]
    now, source, first = (pixel_distance(image, reference) for image in (one.image, one.source, began))
    assert parts(RefineReward(), one)["likeness"] == pytest.approx(1 - now / source)
    assert parts(RefineReward(since="start"), one)["likeness"] == pytest.approx(1 - now / first)


def test_doing_nothing_and_nothing_to_do() -> None:
    start, target = recipe(exposure=25, temperature=-30), recipe(exposure=20, temperature=-30)
    idle = (Turn((ToolCall("finish"),)),)
    left = parts(RefineReward(since="start"), episode(start, start, idle))
    assert left == {"likeness": 0.0, "diff": 0.0, "iou": 0.0, "value": 0.0}
    assert parts(RefineReward(), episode(start, start, idle))["value"] > 0
    content = parts(RefineReward(since="start"), episode(target, target, idle))
    assert content["value"] == 0.0
    spoilt = parts(RefineReward(since="start"), episode(target, recipe(exposure=20), idle))
    assert spoilt == {"likeness": -1.0, "diff": 0.0, "iou": -1.0, "value": pytest.approx(-0.6)}


def test_nothing_but_refused_turns_is_worth_minus_one() -> None:
    start, refused = recipe(exposure=40), Turn(error="unknown tool")
    assert parts(RefineReward(), episode(start, start, [refused, refused]))["value"] == -1.0
    assert parts(RefineReward(), episode(start, start, [refused, Turn()]))["value"] > -1.0


def test_without_a_start_the_old_recipe_is_empty() -> None:
    new = recipe(exposure=10)
    for reward in (RefineReward(), RefineReward(since="start")):
        assert score_one(reward, episode(None, new)) == score_one(reward, episode(Recipe("iea"), new))


def test_start_photos_are_one_batch_and_only_where_there_is_one() -> None:
    renderer = Fragile()
    starts = [None, recipe(exposure=2), Recipe("iea"), recipe(tint=4)]
    episodes = [dataclasses.replace(episode(start, recipe(shadows=5)), renderer=renderer) for start in starts]
    together = score_batch(RefineReward(since="start"), episodes)
    assert renderer.batches == [2]
    assert together == [score_one(RefineReward(since="start"), one) for one in episodes]
    renderer.batches.clear()
    score_batch(RefineReward(), episodes)
    assert renderer.batches == []


def test_a_start_that_cannot_be_rendered_hurts_its_own_episode_only() -> None:
    starts = [recipe(exposure=2), recipe(exposure=3), recipe(exposure=4)]
    episodes = [dataclasses.replace(episode(start, recipe(shadows=5)), renderer=Fragile()) for start in starts]
    outputs = score_batch(RefineReward(since="start"), episodes)
    assert [output.valid for output in outputs] == [True, False, True]
    assert outputs[1].error == "odd exposure"
    assert outputs[::2] == [score_one(RefineReward(since="start"), one) for one in episodes[::2]]


def test_a_task_without_a_recipe_is_an_error() -> None:
    good = episode(recipe(exposure=40), recipe(exposure=20))
    lost = dataclasses.replace(good, task=dataclasses.replace(good.task, id="lost", recipe=None))
    outputs = score_batch(RefineReward(), [good, lost, good])
    assert [output.valid for output in outputs] == [True, False, True]
    with pytest.raises(RewardError, match="'lost' has no recipe to compare with"):
        score_one(RefineReward(), lost)


def test_the_checker_accepts_it_on_refine_tasks() -> None:
    native = get_renderer("native")
    tasks = list(ModeDataset(SamplesDataset("test", size=8), ("refine",)))
    pairs = [
        (
            make_episode(task, task.recipe or Recipe("iea"), native),
            make_episode(task, task.start or Recipe("iea"), native),
        )
        for task in tasks
    ]
    for since in ("source", "start"):
        reward = get_reward("refine", since=since)
        check_reward(reward, pairs=pairs)
        assert [score_one(reward, expert).value for expert, _ in pairs] == [1.0] * len(pairs)


def test_the_perfect_reader_of_the_words_earns_nearly_all() -> None:
    native = get_renderer("native")
    values = []
    for task in ModeDataset(SamplesDataset("test", size=30), ("refine",)):
        read = Recipe("iea", task.metadata["reader_recipe"]).check(IEA)  # type: ignore[arg-type]
        values.append(score_one(RefineReward(since="start"), make_episode(task, read, native)).value or 0.0)
    assert sum(values) / len(values) > 0.85


def test_since_is_checked() -> None:
    with pytest.raises(ConfigurationError, match="'source' or 'start'"):
        get_reward("refine", since="yesterday")
