"""Which of two edits is better: both orders are asked, their answers averaged."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from retouch_gym.chat import photos_of
from retouch_gym.errors import RewardError
from retouch_gym.rewards.pairwise import compare_batch
from retouch_gym.rewards.ranking import Tournament
from retouch_gym.testing.doubles import TinyRenderer
from retouch_gym.testing.rewards import check_reward, synthetic_pairs
from retouch_reward_models.backends.base import ChatFailure, ChatReply, ChatRequest
from retouch_reward_models.backends.fake import FakeBackend
from retouch_reward_models.errors import BackendError
from retouch_reward_models.judges import PairwiseJudge, UnifiedRewardEditPairs


def likes(photo: bytes, words: tuple[str, str] = ("A", "B")):
    """A judge that likes one photo wherever it stands."""

    def answer(request: ChatRequest) -> str:
        _, first, _ = photos_of(request.messages)
        return json.dumps({"rationale": "r", "better": words[0] if first.tobytes() == photo else words[1]})

    return answer


def says(text: str):
    return lambda _: text


def test_a_judge_with_an_opinion_is_followed_in_both_orders(doubles: SimpleNamespace) -> None:
    case = doubles.make_case(candidates=2)
    for number, expected in ((0, 1.0), (1, 0.0)):
        judge = PairwiseJudge(doubles.ScriptedBackend(likes(case.candidates[number].tobytes())))
        found = judge.compare_cases([case])[0]
        assert found.first == expected
        assert found.details["orders"] == [expected, expected]
        assert found.details["agree"] is True


@pytest.mark.parametrize("better", ["A", "B"])
def test_liking_a_place_gains_nothing(doubles: SimpleNamespace, better: str) -> None:
    backend = doubles.ScriptedBackend(says(json.dumps({"rationale": "r", "better": better})))
    found = PairwiseJudge(backend).compare_cases([doubles.make_case(candidates=2)])[0]
    assert found.first == 0.5
    assert found.details["agree"] is False


def test_a_tie_in_one_order_is_half_a_preference(doubles: SimpleNamespace) -> None:
    case = doubles.make_case(candidates=2)
    backend = doubles.ScriptedBackend(likes(case.candidates[0].tobytes(), ("A", "tie")))
    found = PairwiseJudge(backend).compare_cases([case])[0]
    assert found.first == 0.75
    assert found.details["orders"] == [1.0, 0.5]


def test_shows_source_and_both_edits_in_both_orders_in_one_call(doubles: SimpleNamespace) -> None:
    backend = doubles.ScriptedBackend(says('{"rationale": "", "better": "tie"}'))
    cases = [doubles.make_case(seed, candidates=2) for seed in range(3)]
    PairwiseJudge(backend).compare_cases(cases)
    assert len(backend.calls) == 1
    shown = [[photo.tobytes() for photo in photos_of(request.messages)] for request in backend.calls[0]]
    before, one, other = (photo.tobytes() for photo in (cases[1].before, *cases[1].candidates))
    assert shown[2:4] == [[before, one, other], [before, other, one]]


@pytest.mark.parametrize("text", ["A", '{"better": "A"}', '{"rationale": "r", "better": "a"}', '{"rationale": 1}'])
def test_unreadable_answers_are_errors_not_ties(doubles: SimpleNamespace, text: str) -> None:
    found = PairwiseJudge(doubles.ScriptedBackend(says(text))).compare_cases([doubles.make_case(candidates=2)])[0]
    assert found.first is None
    assert found.error is not None


def test_one_order_alone_is_no_verdict_and_neighbours_stay(doubles: SimpleNamespace) -> None:
    cases = [doubles.make_case(seed, candidates=2) for seed in range(2)]
    second = cases[0].candidates[1].tobytes()
    fair = likes(cases[1].candidates[1].tobytes())

    def answer(request: ChatRequest) -> str | ChatFailure:
        swapped = photos_of(request.messages)[1].tobytes() == second
        return ChatFailure("server", "500") if swapped else fair(request)

    alone = doubles.make_case(9, candidates=1)
    found = PairwiseJudge(doubles.ScriptedBackend(answer)).compare_cases([cases[0], alone, cases[1]])
    assert found[0].error == "swapped: server: 500"
    assert found[1].error is not None
    assert found[2].first == 0.0


RANKS = [
    ("Edited image 1 is better", 1.0),
    ("Image 1 keeps more detail.\n**Edited image 2 is better.**", 0.0),
    ("Both edited images are equally good.", 0.5),
    ("Edited image 1 is better. Edited image 2 is better.", None),
    ("Edited image 1 is better.\nI am not sure.", None),
    ("Edited image 12 is better", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "value"), RANKS)
def test_unified_reward_ranks_by_its_last_line(doubles: SimpleNamespace, text: str, value: float | None) -> None:
    judge = UnifiedRewardEditPairs(doubles.ScriptedBackend(says(text)), "rank")
    found = judge.compare_cases([doubles.make_case(candidates=2)])[0]
    if value is None:
        assert found.error is not None
        assert "verdicts" in found.error
    else:
        # The same words whatever the order: a preference for a place, unless it is a tie.
        assert found.details["orders"] == [value, 1.0 - value]


SCORES = [
    ("Image 1: 3.25, image 2: 2.10", 1.0),
    ("Image 1: -3.25\nImage 2: -2.10", 0.0),
    ("Image 1: −1.5, image 2: 1.0.", 0.0),
    ("2.0 and 2.00", 0.5),
    ("Image 1 scores 3, image 2 scores 2", None),
    ("1.0, 2.0 and 3.0", None),
    ("version 1.2.3 and 4.5", None),
]


@pytest.mark.parametrize(("text", "value"), SCORES)
def test_unified_reward_reads_two_signed_scores(doubles: SimpleNamespace, text: str, value: float | None) -> None:
    judge = UnifiedRewardEditPairs(doubles.ScriptedBackend(says(text)), "score")
    found = judge.compare_cases([doubles.make_case(candidates=2)])[0]
    if value is None:
        assert found.error is not None
        assert "decimal point" in found.error
    else:
        assert found.details["orders"] == [value, 1.0 - value]


def test_compares_episodes_as_a_pairwise_reward(doubles: SimpleNamespace) -> None:
    expert, untouched = synthetic_pairs(TinyRenderer(), 1)[0]

    def answer(request: ChatRequest) -> str:
        before, first, _ = photos_of(request.messages)
        return json.dumps({"rationale": "r", "better": "B" if (before == first).all() else "A"})

    backend = doubles.ScriptedBackend(answer)
    found = compare_batch(PairwiseJudge(backend), [(expert, untouched), (untouched, expert)])
    assert [preference.first for preference in found] == [1.0, 0.0]
    assert [len(call) for call in backend.calls] == [4]


def prefers_changes(request: ChatRequest) -> str:
    """A function of the module, so that it can be pickled: the edit that changed more is better."""
    before, first, second = (photo.astype(float) for photo in photos_of(request.messages))
    gap = abs(first - before).mean() - abs(second - before).mean()
    return json.dumps({"rationale": "r", "better": "tie" if gap == 0 else "A" if gap > 0 else "B"})


def test_a_tournament_of_it_keeps_the_contract_of_a_reward() -> None:
    check_reward(Tournament(PairwiseJudge(FakeBackend(prefers_changes))))


def test_a_backend_that_cannot_be_used_is_a_reward_error(doubles: SimpleNamespace) -> None:
    def answer(request: ChatRequest) -> str:
        raise BackendError("no model")

    with pytest.raises(RewardError, match="no model"):
        PairwiseJudge(doubles.ScriptedBackend(answer)).compare(synthetic_pairs(TinyRenderer(), 1))


def test_an_answer_that_was_cut_off_is_an_error(doubles: SimpleNamespace) -> None:
    backend = doubles.ScriptedBackend(lambda _: ChatReply("Edited image 1 is better", complete=False))
    found = UnifiedRewardEditPairs(backend).compare_cases([doubles.make_case(candidates=2)])[0]
    assert found.error is not None
    assert "cut off" in found.error
