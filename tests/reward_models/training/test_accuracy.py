"""Accuracy on pairs by hand: judges whose verdicts are known."""

from __future__ import annotations

import re

import numpy as np
import pytest

from retouch_gym.chat import photos_of
from retouch_gym.recipes import Recipe
from retouch_gym.tasks import Task
from retouch_gym.testing.doubles import NoisePhoto, TinyRenderer, make_episode
from retouch_reward_models.backends import ChatRequest, FakeBackend
from retouch_reward_models.backends.keys import request_text
from retouch_reward_models.grm import GeneralistReward, JudgePrompt
from retouch_reward_models.training.accuracy import score_pairs
from retouch_reward_models.training.controls import RandomReward
from retouch_reward_models.training.pairs import Pair

PROMPT = JudgePrompt(system="", user="{instruction}", views=("before", "difference"), longest=None)


def pairs(count: int = 6) -> list[Pair]:
    """Brighter is better in the even ones, darker in the odd ones, and their instructions say so."""
    made = []
    for number in range(count):
        task = Task(f"t{number}", NoisePhoto(number), "make it brighter." if number % 2 == 0 else "make it darker.")
        bright, dark = Recipe("iea", {"exposure": 40}), Recipe("iea", {"exposure": -40})
        better, worse = (bright, dark) if number % 2 == 0 else (dark, bright)
        made.append(Pair(f"p{number}", task, better, worse))
    return made


def lighter_is_better(request: ChatRequest) -> str:
    return verdict([float(np.mean(photo)) / 25.5 for photo in photos_of(request.messages)[1:]])


def as_asked(request: ChatRequest) -> str:
    lighter = [float(np.mean(photo)) / 25.5 for photo in photos_of(request.messages)[1:]]
    return verdict(lighter if "brighter" in request_text(request) else [10 - score for score in lighter])


def verdict(scores: list[float]) -> str:
    return "all|100" + "".join(f"|={score:.3f}" for score in scores)


def judge(answer: object) -> GeneralistReward:
    return GeneralistReward(FakeBackend(answer), verdict_format="lines", prompt=PROMPT, attempts=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("together", [False, True])
def test_a_judge_that_reads_is_right_and_one_that_does_not_is_right_by_half(together: bool) -> None:
    right = score_pairs(judge(as_asked), pairs(), together=together)
    half = score_pairs(judge(lighter_is_better), pairs(), together=together)
    assert right.accuracy == 1
    assert half.outcomes.tolist() == [1, 0] * 3
    assert right.valid_rate == half.valid_rate == 1
    assert right.asked == (6 if together else 12)


@pytest.mark.parametrize("together", [False, True])
def test_the_instruction_of_the_next_pair_turns_a_reader_round(together: bool) -> None:
    assert score_pairs(judge(as_asked), pairs(), together=together, control="instruction_swapped").accuracy == 0


def test_the_photo_before_is_grey_in_its_control() -> None:
    seen = FakeBackend("all|100|=5")
    reward = GeneralistReward(seen, verdict_format="lines", prompt=PROMPT, attempts=1)
    score_pairs(reward, pairs(1), control="before_blanked")
    before, difference = photos_of(seen.requests[0].messages)
    assert (before == 128).all()
    assert difference.std() > 0


def test_ties_count_half_and_unreadable_verdicts_count_as_wrong() -> None:
    tied = score_pairs(judge("all|100|=5"), pairs())
    assert tied.accuracy == 0.5
    lost = score_pairs(judge("all|90|=5"), pairs())
    assert (lost.accuracy, lost.valid_rate) == (0, 0)


def test_the_interval_holds_the_accuracy_and_narrows() -> None:
    few, many = (score_pairs(judge(lighter_is_better), pairs(count)) for count in (6, 24))
    for scores in (few, many):
        low, high = scores.interval()
        assert low < scores.accuracy < high
    assert np.diff(many.interval()) < np.diff(few.interval())


def test_a_random_reward_depends_on_the_edit_the_task_and_its_seed_alone() -> None:
    task = Task("x" * 200, NoisePhoto(0), "brighter.")
    other = Task("y", NoisePhoto(0), "brighter.")
    edits = [Recipe("iea", {"exposure": value}) for value in (0, 20)]
    first, second = (make_episode(task, recipe, TinyRenderer()) for recipe in edits)
    reward = RandomReward()
    values = [
        output.value for output in reward.score([first, second, first, make_episode(other, edits[0], TinyRenderer())])
    ]
    assert values[0] == values[2]
    assert len(set(values)) == 3
    assert all(value is not None and 0 <= value <= 10 for value in values)
    assert RandomReward(1).score([first])[0].value != values[0]


def test_what_a_prompt_of_a_control_says_is_the_same() -> None:
    seen = FakeBackend("all|100|=5")
    reward = GeneralistReward(seen, verdict_format="lines", prompt=PROMPT, attempts=1)
    score_pairs(reward, pairs(2))
    score_pairs(reward, pairs(2), control="before_blanked")
    texts = [re.sub(r"\s+", " ", request_text(request)) for request in seen.requests]
    assert texts[: len(texts) // 2] == texts[len(texts) // 2 :]
