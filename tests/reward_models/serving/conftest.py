"""One Ray for the pools, episodes on tiny photos, and the doubles beside this file."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import ray

from retouch_agents.rllib import start_ray
from retouch_gym.recipes import Recipe
from retouch_gym.tasks import Episode
from retouch_gym.testing import TinyDataset, TinyRenderer, make_episode
from retouch_reward_models.serving.pool import RewardPool


@pytest.fixture(scope="session")
def doubles() -> ModuleType:
    spec = importlib.util.spec_from_file_location("retouch_serving_doubles", Path(__file__).with_name("doubles.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def cluster(doubles: ModuleType) -> Iterator[None]:
    # Workers cannot import tests, so they get the module by value.
    ray.cloudpickle.register_pickle_by_value(doubles)
    start_ray(num_cpus=4)
    yield
    ray.shutdown()


@pytest.fixture
def pool(cluster: None, doubles: ModuleType) -> Iterator[Callable[..., RewardPool]]:
    """Starts pools of `Brightness` and closes them after the test; no core is reserved."""
    opened: list[RewardPool] = []

    def start(reward_kwargs: dict[str, Any] | None = None, reward: Any = None, **options: Any) -> RewardPool:
        settings = {"num_cpus": 0, "max_actors": 1, "timeout_s": 60, "start_timeout_s": 60, **options}
        opened.append(RewardPool(reward or doubles.make, reward_kwargs, **settings))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture
def episodes() -> Callable[..., list[Episode]]:
    """`count` episodes, `group` on each task; `instructions` replaces those of single episodes by place."""

    def make(count: int = 8, group: int = 2, instructions: dict[int, str] | None = None) -> list[Episode]:
        tasks = list(TinyDataset(-(-count // group)))
        found = [
            make_episode(tasks[n // group], Recipe("iea", {"exposure": 7 * n - 30}), TinyRenderer())
            for n in range(count)
        ]
        for place, words in (instructions or {}).items():
            task = dataclasses.replace(found[place].task, id=f"odd/{place}", instruction=words)
            found[place] = dataclasses.replace(found[place], task=task)
        return found

    return make
