"""Plain data: actions and the protocol of a photo."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from retouch_gym import ToolCall, Unparsable
from retouch_gym.images import Pixels
from retouch_gym.types import Photo


def test_tool_calls_compare_hash_and_pickle_by_value() -> None:
    call = ToolCall("exposure", {"value": 4})
    assert call == ToolCall("exposure", {"value": 4})
    assert call != ToolCall("exposure", {"value": 5})
    assert len({call, ToolCall("exposure", {"value": 4})}) == 1
    assert pickle.loads(pickle.dumps(call)) == call
    assert ToolCall("finish").arguments == {}


def test_numpy_scalars_become_python_numbers() -> None:
    call = ToolCall("exposure", {"value": np.int64(4), "amount": np.float32(0.5)})
    assert [type(value) for value in call.arguments.values()] == [int, float]


def test_actions_are_frozen() -> None:
    for action, field in ((ToolCall("a"), "name"), (Unparsable("why", "text"), "reason")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(action, field, "b")


def test_a_photo_is_whatever_loads() -> None:
    assert isinstance(Pixels(np.zeros((2, 2, 3), np.uint8)), Photo)
    assert not isinstance(np.zeros((2, 2, 3), np.uint8), Photo)
