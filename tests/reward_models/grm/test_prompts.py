"""What a judge is shown: photos in order, labels that fit, fields filled once."""

from __future__ import annotations

import numpy as np
import pytest

from retouch_gym.chat import photos_of
from retouch_gym.errors import ConfigurationError, ImageError
from retouch_reward_models.cases import Case
from retouch_reward_models.grm import Criterion, JsonVerdict, JudgePrompt, LineVerdict
from retouch_reward_models.grm.prompts import difference

BEFORE, FIRST, SECOND = (np.full((6, 9, 3), value, np.uint8) for value in (100, 130, 60))
CASE = Case("Brighter.", BEFORE, (FIRST, SECOND), "task")
SPOKEN = LineVerdict()


def user_text(prompt: JudgePrompt, case: Case = CASE) -> str:
    found: str = prompt.verdict(case, SPOKEN)[-1]["content"][-1]["text"]
    return found


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        (("before", "after"), [BEFORE, FIRST, SECOND]),
        (("after",), [FIRST, SECOND]),
        (("before", "difference"), [BEFORE, np.full_like(BEFORE, 158), np.full_like(BEFORE, 88)]),
    ],
)
def test_photos_stand_in_the_order_of_their_labels(views: tuple[str, ...], expected: list[np.ndarray]) -> None:
    prompt = JudgePrompt(views=views)
    shown = photos_of(prompt.verdict(CASE, SPOKEN))
    assert all(np.array_equal(photo, wanted) for photo, wanted in zip(shown, expected, strict=True))
    labels = user_text(prompt).splitlines()[0]
    assert labels.count("Photo ") == len(expected)
    assert labels.index("edit A") < labels.index("edit B")


def test_a_strip_holds_what_belongs_to_one_candidate() -> None:
    prompt = JudgePrompt(views=("before", "after", "difference"), strip=True)
    shown = photos_of(prompt.verdict(CASE, SPOKEN))
    assert [photo.shape for photo in shown] == [(6, 27, 3)] * 2
    assert np.array_equal(shown[1][:, 9:18], SECOND)


def test_photos_are_shrunk_and_candidates_brought_to_the_size_of_before() -> None:
    large = Case("x", np.zeros((40, 80, 3), np.uint8), (np.zeros((10, 20, 3), np.uint8),))
    assert {photo.shape for photo in photos_of(JudgePrompt(longest=16).verdict(large, SPOKEN))} == {(8, 16, 3)}
    assert {photo.shape for photo in photos_of(JudgePrompt(longest=None).verdict(large, SPOKEN))} == {(40, 80, 3)}


def test_criteria_are_asked_for_without_an_edit_in_sight() -> None:
    messages = JudgePrompt().ask_criteria(CASE, JsonVerdict())
    assert len(photos_of(messages)) == 1
    assert np.array_equal(photos_of(messages)[0], BEFORE)
    assert "no edit is shown" in messages[-1]["content"][-1]["text"]


def test_given_criteria_are_shown() -> None:
    messages = JudgePrompt().verdict(CASE, SPOKEN, [Criterion("warm", 1 / 3), Criterion("calm", 2 / 3)])
    assert '"warm\\u007c33.333333\\u000acalm\\u007c66.666667"' in messages[-1]["content"][-1]["text"]


def test_a_template_may_hold_braces_of_its_own() -> None:
    user = 'Form: {"score": 0} { {unknown} {instruction}'
    assert user_text(JudgePrompt(user=user)) == 'Form: {"score": 0} { {unknown} "Brighter."'


def test_no_system_turn_where_it_is_empty() -> None:
    assert [message["role"] for message in JudgePrompt(system="").verdict(CASE, SPOKEN)] == ["user"]
    assert [message["role"] for message in JudgePrompt().verdict(CASE, SPOKEN)] == ["system", "user"]


def test_what_cannot_be_shown_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the edit"):
        JudgePrompt(views=("before",))
    with pytest.raises(ConfigurationError, match="no judge's prompt"):
        JudgePrompt.from_dict({"tone": "kind"})
    with pytest.raises(ImageError, match="at most 8"):
        JudgePrompt().verdict(Case("x", BEFORE, (FIRST,) * 9), SPOKEN)
    with pytest.raises(ImageError):
        JudgePrompt().verdict(Case("x", BEFORE[:, :, 0], (FIRST,)), SPOKEN)


def test_the_difference_is_grey_where_nothing_changed_and_clipped() -> None:
    assert np.array_equal(difference(BEFORE, BEFORE), np.full_like(BEFORE, 128))
    black, white = np.zeros_like(BEFORE), np.full_like(BEFORE, 255)
    assert (difference(black, white).max(), difference(white, black).min()) == (255, 0)
