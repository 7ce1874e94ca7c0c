"""One Ray cluster, one tiny model and the bandit for all tests of RLlib."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import ray
from ray.tune.registry import register_env

from retouch_agents.rllib import GRPO, GRPOConfig, start_ray
from retouch_agents.tiny import TinySize, build_tiny
from retouch_gym.tools.iea import IEA

Build = Callable[..., GRPO]


@pytest.fixture(scope="session")
def bandit() -> ModuleType:
    """The module beside this file, which workers get by value, as they cannot import tests."""
    spec = importlib.util.spec_from_file_location("retouch_word_bandit", Path(__file__).with_name("bandit.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    ray.cloudpickle.register_pickle_by_value(module)
    return module


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, bandit: ModuleType) -> Path:
    size = TinySize(hidden=32, layers=2, heads=2, vision_hidden=16, vision_layers=1)
    return build_tiny(tmp_path_factory.mktemp("tiny"), IEA, bandit.WORDS, size=size)


@pytest.fixture(scope="session")
def cluster(bandit: ModuleType) -> Iterator[None]:
    start_ray(num_cpus=4)
    register_env("word-bandit", bandit.make_env)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def config(tiny: Path, bandit: ModuleType, cluster: None) -> Callable[..., GRPOConfig]:
    """A config on the bandit; keyword arguments go to `training`, `env` and `runners` elsewhere."""

    def make(env: dict[str, Any] | None = None, runners: int = 0, **training: Any) -> GRPOConfig:
        settings: dict[str, Any] = {
            "model": tiny,
            "chat_format": bandit.make_chat,
            "group_size": 4,
            "prompts_per_iteration": 6,
            "max_new_tokens": 6,
            "lr": 3e-3,
        }
        found = GRPOConfig().environment("word-bandit", env_config=env or {})
        found.training(**{**settings, **training})
        found.env_runners(num_env_runners=runners)
        return found

    return make


@pytest.fixture
def build(config: Callable[..., GRPOConfig]) -> Iterator[Build]:
    """Builds algorithms and stops them after the test."""
    built: list[GRPO] = []

    def make(**changes: Any) -> GRPO:
        built.append(config(**changes).build_algo())
        return built[-1]

    yield make
    for algo in built:
        algo.stop()
