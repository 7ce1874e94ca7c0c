"""The generalist reward model through its public interface, with backends that say what they are told."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from retouch_agents.pipelines.tiny_judge import TINY_PROMPT, build_tiny_judge
from retouch_agents.tiny import TinySize
from retouch_gym.chat import photos_of
from retouch_gym.errors import ConfigurationError, RewardError
from retouch_gym.renderers.base import get_renderer
from retouch_gym.rewards.base import get_reward, score_one
from retouch_gym.testing.rewards import check_reward, synthetic_pairs
from retouch_reward_models.backends import Backend, ChatFailure, ChatReply, ChatRequest, FakeBackend, TokenChoice
from retouch_reward_models.backends.keys import request_text
from retouch_reward_models.cases import Case
from retouch_reward_models.errors import BackendError
from retouch_reward_models.grm import GeneralistReward, JudgePrompt, load_judge_prompt, save_judge_prompt
from retouch_reward_models.grm.formats import JsonVerdict, LineVerdict
from retouch_reward_models.grm.scoring import expected_total

PAIRS = synthetic_pairs(get_renderer("retouch_gym.testing.doubles:TinyRenderer"), 3)
CRITERIA = '{"criteria": [{"criterion": "light", "weight": 60}, {"criterion": "rest", "weight": 40}]}'


def verdict(light: float, rest: float = 5, names: Sequence[str] = ("light", "rest")) -> str:
    rows = [
        {"criterion": names[0], "weight": 60, "note": "seen", "score": light},
        {"criterion": names[1], "weight": 40, "score": rest},
    ]
    return json.dumps({"criteria": rows, "rationale": "because"})


def look(request: ChatRequest) -> str:
    """Scores the change of light that it sees; a photo alone gets criteria."""
    before, *after = (photo.astype(float) for photo in photos_of(request.messages))
    if not after:
        return CRITERIA
    return verdict(float(np.clip(abs(after[0] - before).mean() / 8, 0, 10)))


def case(task: str = "task", instruction: str = "Brighter.", value: int = 90) -> Case:
    return Case(instruction, np.full((8, 8, 3), 80, np.uint8), (np.full((8, 8, 3), value, np.uint8),), task)


class Sequenced(Backend):
    """Gives one answer after another and keeps what it was asked."""

    name = "sequenced"

    def __init__(self, *answers: str | ChatReply | ChatFailure) -> None:
        self.answers = list(answers)
        self.asked: list[ChatRequest] = []

    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply | ChatFailure]:
        self.asked += requests
        found = [self.answers.pop(0) for _ in requests]
        return [ChatReply(answer, seconds=0.25) if isinstance(answer, str) else answer for answer in found]


@pytest.mark.parametrize("criteria", ["own", "shared"])
def test_the_public_checker_passes(criteria: str) -> None:
    check_reward(GeneralistReward(FakeBackend(look), criteria=criteria), pairs=PAIRS)  # type: ignore[arg-type]


def test_the_value_is_the_weighted_sum_and_the_details_say_how_it_came_about() -> None:
    output = GeneralistReward(Sequenced(verdict(8, 3))).score([PAIRS[0][0]])[0]
    assert output.value == pytest.approx(0.6 * 8 + 0.4 * 3)
    assert output.components == {"criteria": 2.0, "attempts": 1.0}
    assert output.details == {
        "criteria": [
            {"criterion": "light", "weight": 60.0, "note": "seen", "score": 8.0},
            {"criterion": "rest", "weight": 40.0, "note": "", "score": 3.0},
        ],
        "rationale": "because",
        "attempts": 1,
        "seconds": 0.25,
    }
    json.dumps(output.details)


def test_an_answer_that_cannot_be_read_is_asked_for_again_and_not_greedily() -> None:
    backend = Sequenced("I like it: 10", verdict(4))
    output = GeneralistReward(backend, attempts=3).score([PAIRS[0][0]])[0]
    assert output.value == pytest.approx(0.6 * 4 + 2)
    assert output.components["attempts"] == 2
    first, second = backend.asked
    assert (first.temperature, first.seed) == (0, None)
    assert second.temperature > 0
    assert second.seed is not None


def test_after_the_attempts_there_is_an_error_and_never_a_number() -> None:
    backend = Sequenced(*["10"] * 3)
    reward = GeneralistReward(backend, attempts=3)
    output = reward.score([PAIRS[0][0]])[0]
    assert (output.value, len(backend.asked)) == (None, 3)
    assert output.details["answer"] == "10"
    assert output.details["attempts"] == 3
    backend.answers = ["10"] * 3
    with pytest.raises(RewardError, match="could not score"):
        score_one(reward, PAIRS[0][0])


def test_what_the_backend_failed_at_is_not_asked_again() -> None:
    backend = Sequenced(ChatFailure("timeout", "60 seconds", attempts=4, seconds=60))
    output = GeneralistReward(backend, attempts=3).score([PAIRS[0][0]])[0]
    assert output.error == "timeout: 60 seconds"
    assert output.details["attempts"] == 4
    assert len(backend.asked) == 1


@pytest.mark.parametrize("spoken", ["json", "lines"])
def test_an_answer_that_was_cut_off_is_no_verdict(spoken: str) -> None:
    whole = verdict(1) if spoken == "json" else "light|100|=1"
    for complete in (True, False):
        backend = Sequenced(ChatReply(whole, complete=complete))
        output = GeneralistReward(backend, verdict_format=spoken, attempts=1).score([PAIRS[0][0]])[0]
        assert output.valid == complete
    assert output.error is not None
    assert "cut off" in output.error


def test_one_failing_item_leaves_its_neighbours_as_they_are() -> None:
    hurt = dataclasses.replace(PAIRS[1][0], requests=("poison",))
    reward = GeneralistReward(FakeBackend(look, failures={"poison": "server"}))
    alone = [reward.score([pair[0]])[0].value for pair in PAIRS]
    found = reward.score([PAIRS[0][0], hurt, PAIRS[2][0]])
    assert [output.value for output in found] == [alone[0], None, alone[2]]


@pytest.mark.parametrize("criteria", ["own", "shared"])
def test_a_photo_that_is_none_fails_alone(criteria: str) -> None:
    broken = dataclasses.replace(case(task="x"), before=np.zeros((8, 8), np.uint8))
    many = dataclasses.replace(case(task="y"), candidates=case().candidates * 9)
    reward = GeneralistReward(FakeBackend(look), criteria=criteria)  # type: ignore[arg-type]
    found = reward.judge([case(), broken, many, case(value=200)])
    assert [answer.result is None for answer in found] == [False, True, True, False]
    assert "at most 8" in str(found[2].problem)


def test_a_backend_that_cannot_be_used_is_a_reward_error() -> None:
    class Gone(Backend):
        name = "gone"

        def complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply | ChatFailure]:
            raise BackendError("no model here")

    with pytest.raises(RewardError, match="no model here"):
        GeneralistReward(Gone()).score([PAIRS[0][0]])


def test_shared_criteria_are_written_once_for_task_request_and_model() -> None:
    backend = FakeBackend(look)
    reward = GeneralistReward(backend, criteria="shared")

    def written() -> int:
        return sum(len(photos_of(request.messages)) == 1 for request in backend.requests)

    reward.judge([case(value=value) for value in (85, 90, 95)])
    assert written() == 1
    reward.judge([case(value=120)])
    assert written() == 1
    reward.judge([case(instruction="Darker.")])
    assert written() == 2
    reward.judge([case(task="other")])
    assert written() == 3
    backend.name = "fake@2"
    reward.judge([case()])
    assert written() == 4
    shown = [request_text(request) for request in backend.requests if len(photos_of(request.messages)) > 1]
    assert all("Score exactly these criteria" in text and "light" in text for text in shown)


@pytest.mark.parametrize(
    "answer",
    [
        verdict(10, names=("light", "bonus")),
        verdict(10, names=("rest", "light")),
        verdict(10).replace("60", "90").replace("40", "10"),
        json.dumps({"criteria": [{"criterion": "light", "weight": 100, "score": 10}]}),
    ],
)
def test_a_verdict_about_other_criteria_than_those_given_is_none(answer: str) -> None:
    reward = GeneralistReward(Sequenced(CRITERIA, answer), criteria="shared", attempts=1)
    output = reward.score([PAIRS[0][0]])[0]
    assert output.value is None
    assert "should be those that were given" in str(output.error)


def test_criteria_with_compatibility_characters_come_back_as_they_were_shown() -> None:
    name = "light\u2026 \ufb01ne\u00a0tones"
    criteria = json.dumps({"criteria": [{"criterion": name, "weight": 100}]})
    answer = json.dumps({"criteria": [{"criterion": "light... fine tones", "weight": 100, "score": 6}]})
    assert GeneralistReward(Sequenced(criteria, answer), criteria="shared").score([PAIRS[0][0]])[0].value == 6


def test_a_dozen_long_criteria_are_shown_whole() -> None:
    rows = [{"criterion": f"{number:02d} " + '"' * 117, "weight": 100 / 12} for number in range(12)]
    backend = Sequenced(json.dumps({"criteria": rows}), "none")
    GeneralistReward(backend, criteria="shared", attempts=1).score([PAIRS[0][0]])
    assert "characters left out" not in request_text(backend.asked[-1])


def test_without_criteria_nothing_is_scored_and_they_are_asked_for_again_next_time() -> None:
    backend = Sequenced("none", "none", CRITERIA, verdict(7))
    reward = GeneralistReward(backend, criteria="shared")
    first = reward.score([PAIRS[0][0]])[0]
    assert first.value is None
    assert str(first.error).startswith("no criteria: ")
    assert reward.score([PAIRS[0][0]])[0].value == pytest.approx(0.6 * 7 + 2)


def test_a_pickled_copy_scores_alike_and_keeps_its_criteria() -> None:
    reward = GeneralistReward(FakeBackend(look), criteria="shared")
    expected = reward.score([PAIRS[0][0]])[0].value
    copy = pickle.loads(pickle.dumps(reward))
    assert copy.score([PAIRS[0][0]])[0].value == expected
    assert all(len(photos_of(request.messages)) > 1 for request in copy.backend.requests)


@pytest.mark.parametrize("options", [{"criteria": "mine"}, {"scoring": "mean"}, {"attempts": 0}, {"max_tokens": 0}])
def test_options_without_meaning_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="should be"):
        GeneralistReward(FakeBackend(), **options)  # type: ignore[arg-type]


def tokens(*pieces: tuple[str, dict[str, float]]) -> ChatReply:
    choices = tuple(
        TokenChoice(text, {name: float(np.log(share)) for name, share in likely.items()}) for text, likely in pieces
    )
    return ChatReply("".join(text for text, _ in pieces), tokens=choices)


def test_expected_scores_are_the_mean_over_the_numbers_that_could_have_stood_there() -> None:
    reply = tokens(
        ("light|60|", {}),
        ("=8", {"=8": 0.5, "=6": 0.25, "=11": 0.15, "|7": 0.05, "=x": 0.05}),
        ("\nrest|40|=", {}),
        ("3", {"3": 0.9, "5": 0.1, "٩": 0.0001}),
    )
    read = LineVerdict().parse(reply.text)
    # 11 is no score, "|7" and "=x" stand for something else; what is left is scaled to 1.
    light = (8 * 0.5 + 6 * 0.25) / 0.75
    assert expected_total(read, reply) == pytest.approx(0.6 * light + 0.4 * (3 * 0.9 + 5 * 0.1))
    assert read.total() == pytest.approx(0.6 * 8 + 0.4 * 3)


def test_scores_over_several_tokens_or_without_alternatives_count_as_written() -> None:
    split = tokens(("light|100|=", {}), ("1", {"1": 0.5, "9": 0.5}), ("0", {"0": 1.0}))
    assert expected_total(LineVerdict().parse(split.text), split) == 10
    bare = ChatReply("light|100|=7")
    assert expected_total(LineVerdict().parse(bare.text), bare) == 7
    odd = tokens(("light|100|=", {}), ("7", {"x": 1.0}))
    assert expected_total(LineVerdict().parse(odd.text), odd) == 7


def test_each_candidate_of_a_json_verdict_has_its_own_expectation() -> None:
    head = '{"criteria": [{"criterion": "light", "weight": 100, "scores": ['
    reply = tokens((head, {}), ("2", {"2": 0.5, "4": 0.5}), (", ", {}), ("9", {"9": 0.5, "8": 0.5}), ("]}]}", {}))
    read = JsonVerdict().parse(reply.text, 2)
    assert [expected_total(read, reply, place) for place in (0, 1)] == pytest.approx([3, 8.5])


def test_alternatives_are_asked_for_only_where_they_are_used() -> None:
    for scoring, wanted in (("greedy", 0), ("expected", 20)):
        backend = FakeBackend(look)
        GeneralistReward(backend, scoring=scoring).score([PAIRS[0][0]])  # type: ignore[arg-type]
        assert backend.requests[0].top_logprobs == wanted


SIZE = TinySize(hidden=32, layers=1, heads=2, vision_hidden=16, vision_layers=1, image_side=32)


def test_a_folder_brings_prompt_and_format_along(tmp_path: Path) -> None:
    folder = build_tiny_judge(tmp_path / "judge", size=SIZE)
    named = get_reward(
        "retouch_reward_models:load_generalist", folder=str(folder), version="3", max_tokens=4, attempts=1
    )
    assert isinstance(named, GeneralistReward)
    assert named.prompt == TINY_PROMPT
    assert (named.format.name, named.scoring) == ("lines", "expected")
    assert named.backend.name == f"{folder}@3"
    # Random weights write no verdict, and that is an error.
    outputs = named.score([PAIRS[0][0], PAIRS[0][1]])
    assert [output.value for output in outputs] == [None, None]
    greedy = GeneralistReward.from_pretrained(folder, scoring="greedy", verdict_format="json")
    assert (greedy.scoring, greedy.format.name) == ("greedy", "json")
    with pytest.raises(BackendError, match="No image-text-to-text model"):
        GeneralistReward.from_pretrained(tmp_path / "nowhere")


def test_the_prompt_beside_the_weights_is_checked(tmp_path: Path) -> None:
    assert load_judge_prompt(tmp_path)[0] == JudgePrompt()
    prompt = JudgePrompt(system="", user="{instruction}", views=("difference",), strip=True, longest=64)
    save_judge_prompt(tmp_path, prompt, LineVerdict())
    loaded, spoken = load_judge_prompt(tmp_path)
    assert loaded == prompt
    assert isinstance(spoken, LineVerdict)
    (tmp_path / "retouch_judge.json").write_text('{"prompt": {"tone": "kind"}, "verdict_format": "json"}')
    with pytest.raises(ConfigurationError, match="no judge's prompt"):
        load_judge_prompt(tmp_path)
