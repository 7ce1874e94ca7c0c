"""Damaged recipes: by rule and by a model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retouch_gym.recipes.recipe import Recipe
from retouch_gym.tools.toolset import get_toolset
from retouch_reward_models.backends import FakeBackend
from retouch_reward_models.backends.keys import request_text
from retouch_reward_models.training.perturbing import LEAST_CHANGE, ChatPerturber, RulePerturber

NAMES = sorted(get_toolset("iea").controls)
RECIPES = st.dictionaries(
    st.sampled_from(NAMES), st.integers(-20, 20).map(lambda step: 5 * step).filter(bool), min_size=1, max_size=5
).map(lambda controls: Recipe("iea", controls))


def one(recipe: Recipe, seed: int, perturber: RulePerturber) -> Recipe:
    found = perturber.perturb([recipe], ["brighter."], np.random.default_rng(seed))[0]
    assert found is not None
    return found


@settings(max_examples=300, deadline=None)
@given(recipe=RECIPES, seed=st.integers(0, 2**31), extra=st.sampled_from([0.0, 0.1, 1.0]))
def test_one_parameter_is_left_out_or_far_from_where_it_was(recipe: Recipe, seed: int, extra: float) -> None:
    perturber = RulePerturber(extra=extra)
    worse = one(recipe, seed, perturber)
    different = [name for name in NAMES if worse[name] != recipe[name]]
    assert len(different) == 1
    name = different[0]
    control = get_toolset("iea").controls[name]
    if worse[name]:
        assert abs(worse[name] - recipe[name]) >= LEAST_CHANGE * (control.high - control.low)
    assert control.low <= worse[name] <= control.high
    assert worse[name] % 5 == 0
    if extra in (0, 1):
        assert (name in recipe.controls) == (extra == 0)
    assert one(recipe, seed, perturber) == worse


@settings(max_examples=200, deadline=None)
@given(recipe=RECIPES, seed=st.integers(0, 2**31), faults=st.integers(2, 5))
def test_several_controls_are_damaged_at_once(recipe: Recipe, seed: int, faults: int) -> None:
    perturber = RulePerturber(extra=0.3, faults=faults)
    worse = one(recipe, seed, perturber)
    different = [name for name in NAMES if worse[name] != recipe[name]]
    assert 1 <= len(different) <= faults
    for name in different:
        control = get_toolset("iea").controls[name]
        far = LEAST_CHANGE * (control.high - control.low)
        assert name in recipe.controls if not worse[name] else abs(worse[name] - recipe[name]) >= far
    assert one(recipe, seed, perturber) == worse


def test_every_number_of_faults_is_drawn() -> None:
    recipe = Recipe("iea", {"exposure": 40, "contrast": -30, "tint": 60, "vignette": 30})
    found = RulePerturber(faults=3).perturb([recipe] * 300, [""] * 300, np.random.default_rng(0))
    counts = [sum(worse[name] != recipe[name] for name in NAMES) for worse in found if worse is not None]
    assert {count: 70 < counts.count(count) < 130 for count in set(counts)} == {1: True, 2: True, 3: True}
    with pytest.raises(ValueError, match="faults = 0"):
        RulePerturber(faults=0)


def test_every_kind_of_damage_is_drawn() -> None:
    recipe = Recipe("iea", {"exposure": 40, "contrast": -30})
    rng = np.random.default_rng(0)
    kinds = set()
    for worse in RulePerturber(extra=0.2, extras=["tint"]).perturb([recipe] * 400, [""] * 400, rng):
        assert worse is not None
        if worse["tint"]:
            kinds.add("extra")
        elif worse["exposure"] != 40:
            value = worse["exposure"]
            kinds.add("left out" if not value else "wrong side" if value < 0 else "weak" if value < 40 else "strong")
        assert set(worse.controls) <= {"exposure", "contrast", "tint"}
    assert kinds == {"extra", "left out", "wrong side", "weak", "strong"}


def test_ranges_of_other_toolsets_are_kept() -> None:
    tools = get_toolset("lightroom")
    narrow = [name for name, control in tools.controls.items() if control.high - control.low < 100]
    recipe = Recipe("lightroom", {name: tools.controls[name].high for name in tools.controls})
    found = RulePerturber("lightroom").perturb([recipe] * 300, [""] * 300, np.random.default_rng(1))
    for worse in found:
        assert worse is not None
        worse.check(tools)
    assert any(worse is not None and worse[name] != recipe[name] for worse in found for name in narrow)


def test_an_empty_recipe_cannot_be_damaged() -> None:
    assert RulePerturber().perturb([Recipe("iea")], [""], np.random.default_rng(0)) == [None]


STRONG = Recipe("iea", {"exposure": 40, "contrast": 20})


def ask(answer: str) -> Recipe | None:
    perturber = ChatPerturber(FakeBackend(answer))
    return perturber.perturb([STRONG], ["brighter."], np.random.default_rng(0))[0]


def test_a_model_s_worse_recipe_is_taken() -> None:
    assert ask('{"exposure": 10, "contrast": 20}') == Recipe("iea", {"exposure": 10, "contrast": 20})
    assert ask('```json\n{"exposure": -40, "contrast": 0}\n```') == Recipe("iea", {"exposure": -40})
    assert ask("{}") == Recipe("iea")


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "less exposure",
        "[10]",
        "10",
        '{"exposure": "10"}',
        '{"exposure": null}',
        '{"exposure": true}',
        '{"exposure": [10]}',
        '{"exposure": {"value": 10}}',
        '{"exposure": 1000}',
        '{"exposure": NaN}',
        '{"exposure": 1e999}',
        '{"sparkle": 10}',
        '{"exposure": 10, "exposure": 20}',
        '{"exposure": 10} instead',
        json.dumps(dict(STRONG.controls)),
    ],
)
def test_anything_else_is_asked_for_again_and_then_nothing(answer: str) -> None:
    backend = FakeBackend(answer)
    perturber = ChatPerturber(backend, attempts=3)
    assert perturber.perturb([STRONG], ["brighter."], np.random.default_rng(0)) == [None]
    assert len(backend.requests) == 3


def test_what_is_asked_depends_on_recipe_request_and_rng_alone() -> None:
    backend = FakeBackend('{"exposure": 10}')
    for _ in range(2):
        ChatPerturber(backend).perturb([STRONG], ["a touch brighter."], np.random.default_rng(3))
    first, second = backend.requests
    assert first == second
    assert first.temperature > 0
    text = request_text(first)
    assert 'REQUEST: "a touch brighter."' in text
    assert "exposure -100..100" in text
    assert '\\u007b\\"contrast\\": 20, \\"exposure\\": 40\\u007d' in text
