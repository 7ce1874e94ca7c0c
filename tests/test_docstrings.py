"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib

import pytest

# By name: the package `retouch_gym.evaluation` has a function of its module's name.
WITH_EXAMPLES = (
    "retouch_gym.envs.retouch",
    "retouch_gym.envs.chat",
    "retouch_gym.envs.sliders",
    "retouch_gym.envs.vector",
    "retouch_gym.evaluation.evaluate",
    "retouch_gym.spaces",
    "retouch_gym.wrappers.record",
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0
    assert results.failed == 0
