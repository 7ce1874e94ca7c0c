"""The right verdict about edits, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from retouch_gym.datasets.grammar import ADJECTIVES, draw_instruction
from retouch_gym.recipes.recipe import Recipe
from retouch_reward_models.grm import JsonVerdict, LineVerdict
from retouch_reward_models.training.oracle import OTHER, oracle_verdict, requested


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("slightly brighter.", {"brightness": (15, 25)}),
        ("make it much cooler and flatter.", {"temperature": (-65, -50), "contrast": (-45, -30)}),
        ("way more vivid, brighter in the corners.", {"saturation": (70, 90), "vignette": (-45, -30)}),
        ("fix this photo.", {}),
    ],
)
def test_a_request_decides_ranges(request_: str, expected: dict[str, tuple[int, int]]) -> None:
    assert requested(request_) == expected


@pytest.mark.parametrize(
    ("controls", "light", "other"),
    [
        ({"brightness": 20}, 10, 10),
        ({"brightness": 15}, 10, 10),
        ({"brightness": 25}, 10, 10),
        ({}, 7, 10),  # 15 below the range of 15..25: 10 · (1 − 15/50)
        ({"brightness": 50}, 5, 10),  # 25 above it
        ({"brightness": -60}, 0, 10),
        ({"brightness": 20, "contrast": 30, "tint": -20}, 10, 5),  # 50 of 100 that nobody asked for
        ({"brightness": 20, "contrast": 100, "tint": -100}, 10, 0),
    ],
)
def test_scores_fall_with_the_distance_from_what_was_asked_for(
    controls: dict[str, float], light: float, other: float
) -> None:
    verdict = oracle_verdict("slightly brighter.", [Recipe("iea", controls)])
    assert [(item.criterion.name, item.criterion.weight) for item in verdict.scored] == [
        ("brightness", 0.8),
        (OTHER, 0.2),
    ]
    assert [item.scores for item in verdict.scored] == [(light,), (other,)]
    assert verdict.total() == pytest.approx(0.8 * light + 0.2 * other)


def test_weights_go_by_how_strongly_something_is_asked_for() -> None:
    verdict = oracle_verdict("far warmer and slightly flatter.", [Recipe("iea", {"temperature": 80})])
    # Middles 80 and 20 share 80 per cent.
    assert {item.criterion.name: round(100 * item.criterion.weight) for item in verdict.scored} == {
        "temperature": 65,
        "contrast": 15,
        OTHER: 20,
    }
    assert verdict.scored[0].notes == ("80",)


def test_a_vague_request_alone_has_no_right_verdict() -> None:
    with pytest.raises(ValueError, match="names no slider and there is no remedy"):
        oracle_verdict("make it look good.", [Recipe("iea")])


@pytest.mark.parametrize(
    ("controls", "light", "tint", "other"),
    [
        ({"exposure": -60, "tint": 20}, 10, 10, 10),
        ({"exposure": -50, "tint": 30}, 10, 10, 10),  # within the tolerance of 10
        ({"exposure": -25, "tint": 20}, 5, 10, 10),  # 25 of 50 outside it
        ({"tint": 20, "vignette": 40}, 0, 10, 6),
    ],
)
def test_a_vague_request_asks_for_what_the_photo_needs(
    controls: dict[str, float], light: float, tint: float, other: float
) -> None:
    remedy = Recipe("iea", {"exposure": -60, "tint": 20})
    verdict = oracle_verdict("make it look good.", [Recipe("iea", controls)], remedy)
    assert [(item.criterion.name, round(100 * item.criterion.weight)) for item in verdict.scored] == [
        ("exposure", 60),
        ("tint", 20),
        (OTHER, 20),
    ]
    assert [item.scores for item in verdict.scored] == [(light,), (tint,), (other,)]


def test_words_come_before_the_remedy() -> None:
    edit, remedy = Recipe("iea", {"brightness": 20}), Recipe("iea", {"tint": 60})
    assert oracle_verdict("slightly brighter.", [edit], remedy).total() == pytest.approx(10)


@pytest.mark.parametrize("seed", range(20))
def test_the_drawn_recipe_is_right_and_every_verdict_can_be_written(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sliders = rng.choice(list(ADJECTIVES), 1 + seed % 4, replace=False).tolist()
    instruction, _, drawn, read = draw_instruction(rng, sliders)
    verdict = oracle_verdict(instruction, [drawn, read, Recipe("iea")])
    assert verdict.total(0) == verdict.total(1) == pytest.approx(10)
    assert verdict.total(2) < 10
    for spoken in (JsonVerdict(), LineVerdict()):
        again = spoken.parse(spoken.write(verdict), 3)
        assert [again.total(place) for place in range(3)] == pytest.approx([verdict.total(p) for p in range(3)])
