"""What a session says of edits that are more than sliders. (No renderer takes part.)"""

from __future__ import annotations

from typing import Any

import pytest

from retouch_gym import ToolCall
from retouch_gym.envs.session import Session
from retouch_gym.tasks import Task
from retouch_gym.testing.doubles import NoisePhoto
from retouch_gym.tools.lightroom import LIGHTROOM

GRADIENT = ("linear_gradient", {"name": "sky", "x0": 0.5, "y0": 0.1, "x1": 0.5, "y1": 0.5})


@pytest.fixture
def session() -> Session:
    return Session.start(LIGHTROOM, 9, Task("a", NoisePhoto(0), "darken the sky"))


def act(session: Session, *calls: tuple[str, dict[str, Any]]) -> bool:
    return session.act([ToolCall(name, arguments) for name, arguments in calls])


@pytest.mark.parametrize(
    ("call", "feedback"),
    [
        (("tone_curve", {"channel": "rgb", "points": [[0, 0], [1, 0.9]]}), "Applied curve through (0, 0) (1, 0.9)."),
        (("crop", {"right": 0.5}), "Applied crop right = 0.5."),
        ((GRADIENT[0], {**GRADIENT[1], "exposure": -1}), "Applied local 'sky': mask begins linear; exposure = -1."),
    ],
)
def test_every_kind_of_edit_counts_and_can_be_taken_back(
    session: Session, call: tuple[str, dict[str, Any]], feedback: str
) -> None:
    assert act(session, call)
    assert session.feedback == feedback
    assert not session.recipe.is_empty
    assert act(session, ("undo", {}))
    assert session.recipe.is_empty


def test_what_does_not_fit_the_recipe_is_feedback_and_changes_nothing(session: Session) -> None:
    assert act(session, ("contrast", {"value": 5}))
    for calls in (
        [("exposure", {"value": 1}), GRADIENT],
        [("exposure", {"value": 1}), ("adjust_local", {"name": "sky", "tint": 4})],
        [("crop", {"left": 0.6}), ("crop", {"right": 0.5})],
    ):
        assert not act(session, *calls)
        assert session.feedback.startswith("Refused, nothing was changed: ")
        assert session.tool_error
        assert session.recipe.controls == {"contrast": 5}
    assert "sky" in session.feedback or "left 0.6 should be below right 0.5" in session.feedback


def test_a_mask_that_is_joined_in_a_later_turn(session: Session) -> None:
    assert act(session, (GRADIENT[0], {**GRADIENT[1], "dehaze": 20}))
    assert act(session, ("luminance_range", {"name": "sky", "low": 0.5, "op": "intersect"}))
    (local,) = session.recipe.locals
    assert [part.op for part in local.parts] == ["add", "intersect"]
    assert not act(session, ("adjust_local", {"name": "sky", "dehaze": 20}))
    assert session.tool_error is None
