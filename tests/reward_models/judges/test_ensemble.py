"""Several samples of a judge, averaged; invalid only below the quorum."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from retouch_gym.chat import photos_of
from retouch_gym.errors import ConfigurationError
from retouch_gym.renderers.base import get_renderer
from retouch_gym.testing.rewards import check_reward, synthetic_pairs
from retouch_reward_models.backends.base import ChatFailure, ChatRequest
from retouch_reward_models.judges import EditJudge, EditScore, Ensemble, content_seed


def by_seed(scores: dict[int, float | None], order: list[int]):
    """Quality answers 10; the comparison's success is scores[n] for the n-th seed of `order`, None fails."""

    def answer(request: ChatRequest) -> str | ChatFailure:
        if len(photos_of(request.messages)) == 1:
            return json.dumps({"rationale": "q", "naturalness": 10, "artefacts": 10})
        number = order.index(request.seed)
        score = scores[number]
        if score is None:
            return ChatFailure("timeout", "late")
        return json.dumps({"rationale": f"sample {number}", "edit_success": score, "restraint": 10})

    return answer


def seeds(case, count: int) -> list[int]:
    return [content_seed(case, number) for number in range(count)]


def test_averages_the_samples_and_reports_their_spread(doubles: SimpleNamespace) -> None:
    case = doubles.make_case()
    backend = doubles.ScriptedBackend(by_seed({0: 4.9, 1: 6.4, 2: 8.1}, seeds(case, 3)))
    output = Ensemble(EditJudge(backend), 3).judge([case])[0]
    values = [7.0, 8.0, 9.0]
    assert output.value == pytest.approx(8.0)
    assert output.components["sc"] == pytest.approx((4.9 + 6.4 + 8.1) / 3)
    assert output.details["values"] == pytest.approx(values)
    assert output.details["spread"] == pytest.approx(1.0)
    assert (output.details["samples"], output.details["valid"], output.details["attempts"]) == (3, 3, 6)


def test_asks_for_all_samples_of_all_cases_at_once_at_a_temperature(doubles: SimpleNamespace) -> None:
    backend = doubles.ScriptedBackend(doubles.rate_json)
    cases = [doubles.make_case(seed) for seed in range(3)]
    Ensemble(EditJudge(backend), 4, temperature=0.9).judge(cases)
    assert [len(call) for call in backend.calls] == [3 * 4 * 2]
    assert {request.temperature for request in backend.calls[0]} == {0.9}
    assert len({request.seed for request in backend.calls[0]}) == 12


def test_seeds_come_from_the_content_not_from_the_place(doubles: SimpleNamespace) -> None:
    cases = [doubles.make_case(seed) for seed in range(3)]
    asked = []
    for batch in (cases, cases[::-1]):
        backend = doubles.ScriptedBackend(doubles.rate_json)
        Ensemble(EditJudge(backend), 2).judge(batch)
        asked.append({request.seed for request in backend.calls[0]})
    assert asked[0] == asked[1]
    other = doubles.ScriptedBackend(doubles.rate_json)
    Ensemble(EditJudge(other), 2, seed=1).judge(cases)
    assert not asked[0] & {request.seed for request in other.calls[0]}


def test_a_minority_of_invalid_samples_is_left_out(doubles: SimpleNamespace) -> None:
    case = doubles.make_case()
    backend = doubles.ScriptedBackend(by_seed({0: None, 1: 4.9, 2: 8.1}, seeds(case, 3)))
    output = Ensemble(EditJudge(backend), 3).judge([case])[0]
    assert output.value == pytest.approx(8.0)
    assert output.details["values"] == [None, pytest.approx(7.0), pytest.approx(9.0)]
    assert output.details["problems"] == ["comparison: timeout: late"]
    assert output.details["rationale"]["sc"] == "sample 1"


def test_below_the_quorum_there_is_no_number(doubles: SimpleNamespace) -> None:
    case = doubles.make_case()
    backend = doubles.ScriptedBackend(by_seed({0: None, 1: None, 2: 8.1}, seeds(case, 3)))
    output = Ensemble(EditJudge(backend), 3).judge([case])[0]
    assert output.value is None
    assert output.error == "1 of 3 samples are valid, 2 are needed; first: comparison: timeout: late"
    lenient = Ensemble(EditJudge(backend), 3, quorum=1).judge([case])[0]
    assert lenient.value == pytest.approx(9.0)
    assert lenient.details["spread"] == 0.0


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"temperature": 0.0}, {"quorum": 5}, {"quorum": 0}])
def test_refuses_options_that_make_no_sense(doubles: SimpleNamespace, wrong: dict) -> None:
    with pytest.raises(ConfigurationError):
        Ensemble(EditJudge(doubles.ScriptedBackend(doubles.rate_json)), **wrong)


def test_content_seeds_tell_instruction_photos_and_samples_apart(doubles: SimpleNamespace) -> None:
    case = doubles.make_case()
    others = [doubles.make_case(1), doubles.make_case(instruction="Warmer, please."), doubles.make_case(candidates=2)]
    found = [content_seed(case), content_seed(case, 1), *map(content_seed, others)]
    assert len(set(found)) == len(found)
    assert found[0] == content_seed(doubles.make_case())
    assert all(0 <= seed < 2**31 for seed in found)


@pytest.mark.parametrize(("kind", "rate"), [(EditJudge, "rate_json"), (EditScore, "rate_list")])
def test_keeps_the_contract_of_a_reward(doubles: SimpleNamespace, kind: type, rate: str) -> None:
    judge = Ensemble(kind(doubles.ScriptedBackend(getattr(doubles, rate))), 3)
    check_reward(judge)
    episode = synthetic_pairs(get_renderer("retouch_gym.testing.doubles:TinyRenderer"), 1)[0][0]
    assert np.isfinite(judge.score([episode])[0].details["spread"])
