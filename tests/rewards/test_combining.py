"""Means, minima, gates and common ranges; details, errors, and parts that are asked at the same time."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from retouch_gym import Recipe, ToolCall
from retouch_gym.errors import ConfigurationError, RewardError
from retouch_gym.rewards import ByMode, Reward, RewardOutput, WeightedSum, get_reward, score_batch, score_one
from retouch_gym.rewards.base import score_batch_async
from retouch_gym.rewards.combination import GeometricMean, Minimum
from retouch_gym.rewards.gate import Gate
from retouch_gym.rewards.normalise import Normalised
from retouch_gym.tasks import Episode, Turn
from retouch_gym.testing import TinyDataset, TinyRenderer, check_reward, make_episode

RENDERER = TinyRenderer()
GOOD, UNREADABLE = Turn((ToolCall("finish"),)), Turn(error="no JSON", text="hm", parsed=False)


def episode(exposure: int = 0, task: int = 0, turn: Turn = GOOD) -> Episode:
    return make_episode(TinyDataset()[task], Recipe("iea", {"exposure": exposure}), RENDERER, turns=[turn])


class Table(Reward):
    """Scores exposures by a table; what is not in it fails. Notes its batches."""

    def __init__(self, name: str, table: dict[int, float], ends: tuple[float, float] = (0.0, 1.0)) -> None:
        self.name, self.table, self.range = name, table, ends
        self.batches: list[list[int]] = []

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        seen = [int(one.recipe.controls.get("exposure", 0)) for one in episodes]
        self.batches.append(seen)
        return [
            RewardOutput(self.table[one], details={"saw": one})
            if one in self.table
            else RewardOutput(None, error=f"no entry {one}", details={"saw": one})
            for one in seen
        ]


class Away(Reward):
    name = "away"
    range = (0.0, 1.0)

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        raise RewardError("the judge is away")


def of(reward: Reward, *exposures: int) -> list[float | None]:
    return [output.value for output in score_batch(reward, [episode(exposure) for exposure in exposures])]


TEN = Table("ten", {0: 0.0, 1: 2.5, 2: 10.0, 3: 5.0}, (0.0, 10.0))
SIGNED = Table("signed", {0: 1.0, 1: 1.0, 2: 0.0, 3: -1.0}, (-1.0, 1.0))


class TestMeans:
    def test_geometric_by_hand(self) -> None:
        assert of(GeometricMean([(TEN, 1), (SIGNED, 1)]), 0, 1, 2, 3) == [
            0.0,
            pytest.approx(math.sqrt(0.25)),
            pytest.approx(math.sqrt(0.5)),
            0.0,
        ]
        assert of(GeometricMean([(TEN, 3), (SIGNED, 1)]), 2) == [pytest.approx(0.5**0.25)]

    def test_minimum_by_hand(self) -> None:
        assert of(Minimum([TEN, SIGNED]), 0, 1, 2, 3) == [0.0, 0.25, 0.5, 0.0]

    def test_components_are_as_the_parts_gave_them(self) -> None:
        output = score_one(Minimum([TEN, SIGNED]), episode(1))
        assert output.components == {"ten": 2.5, "signed": 1.0}
        assert output.details == {"ten": {"saw": 1}, "signed": {"saw": 1}}

    @pytest.mark.parametrize("kind", [GeometricMean, WeightedSum])
    def test_an_invalid_part_makes_no_number(self, kind: Callable[..., Reward]) -> None:
        good, bad = score_batch(kind([(TEN, 1), (SIGNED, 1)]), [episode(1), episode(7)])
        assert good.valid
        assert bad.value is None
        assert bad.error == "ten: no entry 7; signed: no entry 7"
        assert bad.details == {"ten": {"saw": 7}, "signed": {"saw": 7}}

    def test_a_zero_does_not_hide_an_error(self) -> None:
        broken = Table("broken", {})
        assert of(GeometricMean([(TEN, 1), (broken, 1)]), 0) == of(Minimum([TEN, broken]), 0) == [None]

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: GeometricMean({"edit": 0.0}), "should be above 0"),
            (lambda: GeometricMean({"edit": -1.0}), "should be above 0"),
            (lambda: GeometricMean([(Table("wide", {}, (0, math.inf)), 1)]), "'wide' declares 0..inf"),
            (lambda: Minimum([Table("flat", {}, (1, 1))]), "'flat' declares 1..1"),
            (lambda: Minimum("edit"), "expected a list of rewards"),
            (lambda: Minimum([]), "there are no parts"),
            (lambda: Minimum(["edit", "edit"]), "two parts are named 'edit'"),
        ],
    )
    def test_parts_without_meaning_are_refused(self, make: Any, message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            make()


class TestNormalised:
    def test_by_hand(self) -> None:
        assert of(Normalised(SIGNED, 0, 10), 0, 2, 3) == [10.0, 5.0, 0.0]
        assert of(Normalised(TEN, -1, 1), 0, 1, 2) == [-1.0, -0.5, 1.0]
        assert Normalised(TEN).name == "normalised-ten"
        assert Normalised(SIGNED, -5, 5).range == (-5.0, 5.0)

    def test_a_value_outside_the_declared_range_is_an_error(self) -> None:
        output = score_batch(Normalised(Table("loud", {0: 1.5})), [episode(0)])[0]
        assert output.value is None
        assert "the value 1.5 is outside its range 0.0..1.0" in (output.error or "")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"reward": Table("wide", {}, (-math.inf, 0))}, "finite range"),
            ({"low": 1}, "low < high"),
            ({"high": math.inf}, "low < high"),
        ],
    )
    def test_ranges_without_ends_are_refused(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            Normalised(**options)


class TestGate:
    def test_only_those_that_pass_are_asked_about_in_one_call(self) -> None:
        judge, gate = Table("judge", {1: 7.0, 3: 8.0}, (0, 10)), Table("gate", {0: 0.2, 1: 0.5, 2: 0.4, 3: 1.0})
        outputs = score_batch(Gate(judge, [(gate, 0.5)]), [episode(exposure) for exposure in (0, 1, 2, 3)])
        assert [output.value for output in outputs] == [0.0, 7.0, 0.0, 8.0]
        assert judge.batches == [[1, 3]]
        assert outputs[0].components == {"passed": 0.0, "gate": 0.2}
        assert outputs[1].components == {"passed": 1.0, "gate": 0.5, "judge": 7.0}
        assert outputs[1].details == {"gate": {"saw": 1}, "judge": {"saw": 1}}

    def test_nobody_passes_nobody_asks(self) -> None:
        assert of(Gate(Away(), {"format": 0.5}, failed=-1)) == []
        bad = [episode(turn=UNREADABLE)] * 2
        assert [output.value for output in score_batch(Gate(Away(), {"format": 0.5}, failed=-1), bad)] == [-1.0, -1.0]
        with pytest.raises(RewardError, match="away"):
            score_batch(Gate(Away(), {"format": 0.5}), [episode()])

    def test_every_gate_counts(self) -> None:
        one, two = Table("one", {0: 1, 1: 1, 2: 0}), Table("two", {0: 1, 1: 0, 2: 1})
        assert of(Gate("format", [(one, 1.0), (two, 1.0)]), 0, 1, 2) == [1.0, 0.0, 0.0]

    def test_a_gate_that_fails_lets_nobody_through_and_pays_nobody(self) -> None:
        judge = Table("judge", {0: 1.0})
        gated = Gate(judge, [(Table("gate", {0: 1.0}), 0.5), ("format", 1.0)])
        good, bad = score_batch(gated, [episode(0), episode(5, turn=UNREADABLE)])
        assert good.value == 1.0
        assert (bad.value, bad.error) == (None, "gate: no entry 5")
        assert judge.batches == [[0]]

    def test_a_judge_that_fails_is_named(self) -> None:
        output = score_batch(Gate(Table("judge", {}), {"format": 1.0}), [episode(4)])[0]
        assert (output.value, output.error) == (None, "judge: no entry 4")

    def test_from_json(self) -> None:
        kwargs = json.loads('{"reward": "likeness", "gates": {"format": 1.0}, "failed": -2}')
        gate = get_reward("gate", **kwargs)
        assert gate.range == (-2.0, 1.0)
        assert score_one(gate, episode(turn=UNREADABLE)).value == -2.0

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"gates": {}}, "there are no parts"),
            ({"gates": {"edit": 0.5}}, "two parts are named 'edit'"),
            ({"gates": {"format": 0.0}}, "decides nothing: its values are 0.0..1.0"),
            ({"gates": {"format": 1.5}}, "decides nothing"),
            ({"failed": 0.0}, "Otherwise failing could pay"),
            ({"failed": -math.inf}, "expected a finite number"),
            ({"reward": Table("open", {}, (-math.inf, 0))}, "expected a finite number"),
        ],
    )
    def test_gates_without_meaning_are_refused(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            Gate(**options)


@pytest.mark.parametrize(
    "reward",
    [
        GeometricMean({"edit": 2, "format": 1}),
        Minimum(["likeness", "format"]),
        Normalised("weighted", -3, 3),
        Gate(WeightedSum({"edit": 1, "usefulness": 0.5}), {"format": 0.5}),
        Gate("geometric-mean", [(Normalised("likeness"), 0.6)]),
        ByMode(edit=Gate("edit", {"format": 1})),
        Normalised("rank", 0, 10),
    ],
)
def test_the_checker_accepts_them_nested(reward: Reward) -> None:
    check_reward(reward)


class Meeting(Reward):
    """Answers only once the other part has been asked too."""

    range = (0.0, 1.0)

    def __init__(self, name: str, barrier: threading.Barrier) -> None:
        self.name, self.barrier = name, barrier

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        self.barrier.wait(timeout=20)
        return [RewardOutput(1.0) for _ in episodes]


class Sleeping(Reward):
    """A judge with a loop of its own."""

    range = (0.0, 1.0)

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = "never asked"

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        raise AssertionError("asked without a loop")

    async def score_async(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.ended = "called off"
            raise
        return []


class TestAsync:
    @pytest.mark.parametrize("kind", ["weighted", "geometric-mean", "minimum", "gate", "task"])
    def test_parts_are_asked_at_the_same_time(self, kind: str) -> None:
        barrier = threading.Barrier(2)
        one, two = Meeting("one", barrier), Meeting("two", barrier)
        episodes = [episode(1), episode(2)]
        reward: Reward
        match kind:
            case "minimum":
                reward = Minimum([one, two])
            case "gate":
                reward = Gate("format", [(one, 0.5), (two, 0.5)])
            case "task":
                reward = ByMode(edit=one, match=two)
                task = TinyDataset()[0]
                matching = make_episode(dataclasses.replace(task, mode="match"), Recipe("iea"), RENDERER)
                episodes = [episode(1), matching]
            case _:
                reward = get_reward(kind, parts=[(one, 0.5), (two, 0.5)])
        outputs = asyncio.run(score_batch_async(reward, episodes))
        assert [output.value for output in outputs] == [1.0, 1.0]

    @pytest.mark.parametrize("name", ["likeness", "weighted", "gate", "rank", "task"])
    def test_the_callers_loop_goes_on(self, name: str) -> None:
        """The reward returns only after the loop has answered it."""
        reward, asked, answered = get_reward(name), threading.Event(), threading.Event()
        episodes = [episode(1), episode(2)]

        class Slow(Reward):
            name, range = "slow", (0.0, 1.0)

            def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
                asked.set()
                assert answered.wait(timeout=20), "the loop stood still"
                return [RewardOutput(1.0) for _ in episodes]

        async def caller() -> list[RewardOutput]:
            scoring = asyncio.ensure_future(WeightedSum([(reward, 1), (Slow(), 1)]).score_async(episodes))
            while not asked.is_set():
                await asyncio.sleep(0.001)
            answered.set()
            return await scoring

        found = asyncio.run(caller())
        expected = score_batch(reward, episodes)
        assert [output.value for output in found] == [1 + (output.value or 0.0) for output in expected]

    def test_if_one_fails_the_others_are_called_off(self) -> None:
        judge = Sleeping("sleeping")
        with pytest.raises(RewardError, match="away"):
            asyncio.run(WeightedSum([(judge, 1), (Away(), 1)]).score_async([episode()]))
        assert judge.ended == "called off"

    def test_a_wrong_number_of_outputs_is_noticed(self) -> None:
        class Mute(Sleeping):
            async def score_async(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
                return []

        with pytest.raises(RewardError, match="0 outputs for 1 episodes"):
            asyncio.run(WeightedSum([(Mute("mute"), 1)]).score_async([episode()]))
