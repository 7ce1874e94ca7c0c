"""Good form, weighted sums, and the choice of a reward by the task's mode."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Sequence
from typing import Any

import pytest

from retouch_gym import Recipe, ToolCall
from retouch_gym.datasets.modes import ModeDataset
from retouch_gym.errors import ConfigurationError
from retouch_gym.rewards import (
    ByMode,
    EditReward,
    FormatReward,
    Likeness,
    PixelDistance,
    RefineReward,
    Reward,
    RewardOutput,
    SummaryReward,
    WeightedSum,
    get_reward,
    score_batch,
    score_one,
)
from retouch_gym.tasks import MODES, Episode, Mode, Turn
from retouch_gym.testing import BrokenPhoto, TinyDataset, TinyRenderer, check_reward, make_episode

RENDERER = TinyRenderer()
GOOD, REFUSED = Turn((ToolCall("finish"),)), Turn((ToolCall("tnit"),), error="unknown tool")
UNREADABLE = Turn(error="no JSON", text="hm", parsed=False)


class Counting(Likeness):
    """Notes the size of every batch."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        self.batches.append(len(episodes))
        return super().score(episodes)


def edited(**controls: float) -> Episode:
    return make_episode(TinyDataset()[0], Recipe("iea", controls), RENDERER, turns=[GOOD, REFUSED])


def mixed() -> list[tuple[Episode, Episode]]:
    """(expert, untouched) episodes of every mode, in turn."""
    pairs = []
    for task in ModeDataset(TinyDataset(3)):
        start = task.start or Recipe("iea")
        best = start if task.mode == "summary" else task.recipe or start
        expert = make_episode(task, best, RENDERER, turns=[GOOD], answer=task.answer or None)
        pairs.append((expert, make_episode(task, start, RENDERER, turns=[UNREADABLE])))
    return pairs


class TestFormat:
    @pytest.mark.parametrize(
        ("turns", "parsed", "valid"),
        [
            ([], 0.0, 0.0),
            ([GOOD], 1.0, 1.0),
            ([REFUSED], 1.0, 0.0),
            ([UNREADABLE], 0.0, 0.0),
            ([GOOD, REFUSED, UNREADABLE, GOOD], 0.75, 0.5),
        ],
    )
    def test_by_hand(self, turns: list[Turn], parsed: float, valid: float) -> None:
        episode = make_episode(TinyDataset()[0], Recipe("iea"), RENDERER, turns=turns)
        assert score_one(FormatReward(), episode) == RewardOutput(valid, {"parsed": parsed, "valid": valid})

    def test_it_looks_at_no_photo(self) -> None:
        episode = edited()
        blind = dataclasses.replace(episode, task=dataclasses.replace(episode.task, reference=BrokenPhoto()))
        assert score_one(FormatReward(), blind).value == 0.5


class TestWeightedSum:
    def test_by_hand(self) -> None:
        episode = edited(exposure=10)
        output = score_one(WeightedSum({"likeness": 2, "format": -0.5}), episode)
        likeness = score_one(Likeness(), episode)
        assert likeness.value is not None
        assert output.value == pytest.approx(2 * likeness.value - 0.5 * 0.5)
        assert output.components == {
            "likeness": likeness.value,
            **{f"likeness.{name}": value for name, value in likeness.components.items()},
            "format": 0.5,
            "format.parsed": 1.0,
            "format.valid": 0.5,
        }

    def test_range_and_needs_follow_from_the_parts(self) -> None:
        penalty = WeightedSum({"likeness": 2, "format": -0.5})
        assert penalty.range == (-2.5, 2.0)
        assert penalty.needs_reference
        plain = WeightedSum([("format", 3), (SummaryReward(), 0)])
        assert plain.range == (0.0, 3.0)
        assert not plain.needs_reference
        assert WeightedSum().range == pytest.approx((-0.9, 1.0))

    def test_one_call_per_part(self) -> None:
        part = Counting()
        episodes = [edited(exposure=value) for value in (1, 2, 3)]
        together = score_batch(WeightedSum([(part, 1), ("format", 1)]), episodes)
        assert part.batches == [3]
        assert together == [score_one(WeightedSum({"likeness": 1, "format": 1}), one) for one in episodes]

    def test_an_error_names_the_part_and_stays_with_its_episode(self) -> None:
        good = edited()
        task = dataclasses.replace(good.task, id="lost", answer="", reference=None)
        outputs = score_batch(
            WeightedSum({"format": 1, "summary": 1, "edit": 1}), [good, dataclasses.replace(good, task=task), good]
        )
        assert [output.valid for output in outputs] == [True, False, True]
        error = outputs[1].error or ""
        assert "summary: task 'lost' has no answer" in error
        assert "edit: task 'lost' has no reference" in error
        assert outputs[1].components["format"] == 0.5

    def test_parts_come_from_json_and_nest(self) -> None:
        kwargs = json.loads('{"parts": [["edit", 0.9], ["format", 0.1]]}')
        assert score_one(get_reward("weighted", **kwargs), edited()) == score_one(WeightedSum(), edited())
        nested = WeightedSum([(WeightedSum({"format": 0.5}), 2)])
        output = score_one(nested, edited())
        assert output.value == 0.5
        assert output.components["weighted.format.valid"] == 0.5

    @pytest.mark.parametrize("parts", [{"edit": 0.3, "format": 0.3, "usefulness": 0.1}, {"task": 1, "format": 0.25}])
    def test_the_checker_accepts_it(self, parts: dict[str, float]) -> None:
        check_reward(WeightedSum(parts))

    @pytest.mark.parametrize(
        ("parts", "message"),
        [
            ({}, "there are no parts"),
            ([("edit", 1), (EditReward(0.5), 1)], "two parts are named 'edit'"),
            ({"edit": float("nan")}, "should be a finite number"),
            ({"edit": True}, "should be a finite number"),
            ({"edit": "much"}, "should be a finite number"),
            (["edit", "format"], "should be a reward and its weight"),
            ([("edit", 1, 2)], "should be a reward and its weight"),
            ({"edti": 1}, "Did you mean 'edit'"),
        ],
    )
    def test_parts_without_meaning_are_refused(self, parts: Any, message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            WeightedSum(parts)


class TestByMode:
    def test_each_mode_is_paid_by_its_own_reward(self) -> None:
        own: dict[Mode, Reward] = {
            "edit": EditReward(),
            "refine": RefineReward(),
            "summary": SummaryReward(),
            "match": Likeness(),
            "transfer": Likeness(),
        }
        episodes = [episode for pair in mixed() for episode in pair]
        assert {episode.task.mode for episode in episodes} == set(MODES)
        expected = [score_one(own[episode.task.mode], episode) for episode in episodes]
        assert score_batch(ByMode(), episodes) == expected

    def test_the_checker_accepts_it_with_every_mode_in_one_batch(self) -> None:
        check_reward("task", pairs=mixed())
        check_reward(WeightedSum({"task": 1, "format": 0.2}), pairs=mixed())

    def test_one_call_per_part_even_if_it_serves_two_modes(self) -> None:
        match, edit = Counting(), Counting()
        reward = ByMode(edit=edit, match=match, transfer=match)
        episodes = [episode for pair in mixed() for episode in pair]
        score_batch(reward, episodes)
        assert (edit.batches, match.batches) == ([6], [12])
        named = ByMode()
        assert named.parts["match"] is named.parts["transfer"]
        copy = pickle.loads(pickle.dumps(named))
        assert copy.parts["match"] is copy.parts["transfer"]

    def test_parts_can_be_replaced(self) -> None:
        reward = get_reward("task", edit="pixel-distance", summary="format", refine=RefineReward(since="start"))
        assert score_one(reward, edited()) == score_one(PixelDistance(), edited())
        assert reward.range == (-1.0, 1.0)
        assert reward.needs_reference
        assert not ByMode(*["format"] * 5).needs_reference
        assert ByMode(*["format"] * 5).range == (0.0, 1.0)
        with pytest.raises(ConfigurationError, match="Did you mean 'refine'"):
            get_reward("task", refine="refin")
