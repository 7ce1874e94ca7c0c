"""The spaces: membership, sampling, JSON, pickling, and what Gymnasium does with them."""

from __future__ import annotations

import json
import pickle
import time
from typing import Any

import numpy as np
import pytest
from gymnasium import Space
from gymnasium.spaces import Dict
from gymnasium.vector.utils import batch_space
from hypothesis import given
from hypothesis import strategies as st

from retouch_gym import ToolCall, Unparsable
from retouch_gym.errors import ConfigurationError
from retouch_gym.spaces import ImageSpace, PlanSpace, TextSpace
from retouch_gym.tools import IEA, IEA_COMPAT

SPACES = [
    ImageSpace(),
    ImageSpace(1, 1),
    TextSpace(0),
    TextSpace(500),
    PlanSpace(IEA),
    PlanSpace(IEA, max_calls=1),
    PlanSpace(IEA_COMPAT, max_calls=3),
]


def equal(a: Any, b: Any) -> bool:
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else bool(a == b)


@pytest.mark.parametrize("space", SPACES, ids=repr)
class TestEverySpace:
    def test_samples_are_members_and_follow_the_seed(self, space: Space[Any]) -> None:
        space.seed(3)
        first = [space.sample() for _ in range(30)]
        space.seed(3)
        second = [space.sample() for _ in range(30)]
        assert all(sample in space for sample in first)
        assert all(equal(a, b) for a, b in zip(first, second, strict=True))

    def test_json_and_back(self, space: Space[Any]) -> None:
        space.seed(1)
        samples = [space.sample() for _ in range(10)]
        back = space.from_jsonable(json.loads(json.dumps(space.to_jsonable(samples))))
        assert all(equal(a, b) for a, b in zip(samples, back, strict=True))
        assert all(type(a) is type(b) for a, b in zip(samples, back, strict=True))

    def test_a_pickled_copy_is_equal_and_goes_on_alike(self, space: Space[Any]) -> None:
        space.seed(5)
        space.sample()
        copy = pickle.loads(pickle.dumps(space))
        assert copy == space
        assert hash(copy) == hash(space)
        assert equal(copy.sample(), space.sample())

    def test_junk_is_no_member(self, space: Space[Any]) -> None:
        for junk in (None, 1, 1.5, object(), {}, [1], np.zeros(3), b"x", Unparsable("x")):
            assert junk not in space

    def test_it_nests_and_batches(self, space: Space[Any]) -> None:
        nested = Dict({"a": space, "b": space})
        nested.seed(0)
        assert nested.sample() in nested
        batch = batch_space(space, 3)
        batch.seed(0)
        assert batch.sample() in batch

    def test_gymnasium_may_ask_whether_it_is_flat(self, space: Space[Any]) -> None:
        assert space.is_np_flattenable is False
        assert repr(space).startswith(type(space).__name__)


def test_spaces_differ_when_their_arguments_do() -> None:
    for index, space in enumerate(SPACES):
        assert [space == other for other in SPACES] == [index == other for other in range(len(SPACES))]


class TestImageSpace:
    def test_any_photo_is_a_member_whatever_its_size(self) -> None:
        space = ImageSpace(4, 8)
        assert np.zeros((1, 1, 3), np.uint8) in space
        assert np.zeros((600, 7, 3), np.uint8) in space
        for bad in (np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)):
            assert bad not in space

    def test_sampled_sides_are_bounded_and_a_mask_fixes_them(self) -> None:
        space = ImageSpace(4, 8, seed=0)
        sides = {side for _ in range(60) for side in space.sample().shape[:2]}
        assert sides == {4, 5, 6, 7, 8}
        assert space.sample(mask=(2, 20)).shape == (2, 20, 3)

    def test_impossible_sides_are_refused(self) -> None:
        for sides in ((0, 4), (5, 4)):
            with pytest.raises(ConfigurationError, match="min_side"):
                ImageSpace(*sides)


class TestTextSpace:
    @given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60))
    def test_any_unicode_text_is_a_member(self, text: str) -> None:
        assert text in TextSpace(60)
        assert (text in TextSpace(10)) == (len(text) <= 10)

    def test_a_lone_surrogate_is_not(self) -> None:
        assert "\ud800" not in TextSpace(10)
        assert "\U0001f3a8" in TextSpace(1)

    def test_a_mask_fixes_the_length(self) -> None:
        space = TextSpace(300, seed=0)
        assert len(space.sample(mask=300)) == 300
        with pytest.raises(ConfigurationError, match=r"0\.\.300"):
            space.sample(mask=301)

    def test_it_costs_next_to_nothing(self) -> None:
        start = time.perf_counter()
        space = TextSpace(65_536)
        assert len(pickle.dumps(space)) < 500
        assert time.perf_counter() - start < 0.1

    def test_a_negative_length_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="-1"):
            TextSpace(-1)


class TestPlanSpace:
    def test_members_are_what_the_toolset_takes(self) -> None:
        space = PlanSpace(IEA, max_calls=2)
        good, bad = ToolCall("exposure", {"value": 5}), ToolCall("exposure", {"value": 500})
        assert all(member in space for member in (good, (good,), [good, good], (), ToolCall("finish")))
        assert all(
            other not in space for other in (bad, (good, bad), (good, good, good), (good, "finish"), ToolCall("x"))
        )

    def test_samples_cover_single_calls_plans_and_every_tool(self) -> None:
        space = PlanSpace(IEA, seed=0)
        samples = [space.sample() for _ in range(300)]
        plans = [sample for sample in samples if isinstance(sample, tuple)]
        assert 90 < len(plans) < 210
        assert max(len(plan) for plan in plans) == len(IEA.tools)
        names = {call.name for sample in samples for call in (sample if isinstance(sample, tuple) else (sample,))}
        assert names == set(IEA.by_name)
        assert all(len({call.name for call in plan}) == len(plan) for plan in plans)

    def test_mask_and_probability_choose_tools(self) -> None:
        space = PlanSpace(IEA, seed=0)
        names = list(IEA.by_name)
        mask = np.zeros(len(names), np.int8)
        mask[[0, 2]] = 1
        for kwargs in ({"mask": mask}, {"probability": mask / 2}):
            samples = [space.sample(**kwargs) for _ in range(50)]
            drawn = {call.name for sample in samples for call in (sample if isinstance(sample, tuple) else (sample,))}
            assert drawn == {names[0], names[2]}

    def test_a_wrong_mask_is_refused(self) -> None:
        space, count = PlanSpace(IEA), len(IEA.tools)
        for mask in (np.ones(3, np.int8), np.zeros(count, np.int8), -np.ones(count, np.int8)):
            with pytest.raises(ConfigurationError, match="18 weights"):
                space.sample(mask=mask)
        with pytest.raises(ConfigurationError, match="not both"):
            space.sample(mask=np.ones(count, np.int8), probability=np.ones(count))
        with pytest.raises(ConfigurationError, match=r"1\.\.64"):
            PlanSpace(IEA, max_calls=65)
