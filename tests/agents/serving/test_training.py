"""GRPO whose runners sample from a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from retouch_agents.finetuning import FineTuning
from retouch_agents.rllib import GRPO, GRPOConfig, start_ray
from retouch_agents.serving import EndpointGenerator, EndpointSettings
from retouch_gym.errors import ConfigurationError
from retouch_reward_models.backends import Backoff

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ours = not ray.is_initialized()
    start_ray(num_cpus=4)
    yield
    if ours:
        ray.shutdown()


@pytest.fixture
def build(tiny_folder: Path, cluster: None) -> Iterator[Callable[..., GRPO]]:
    """Builds algorithms on the sample photos."""
    built: list[GRPO] = []

    def make(max_turns: int = 1, **training: Any) -> GRPO:
        config = GRPOConfig().environment(
            "Retouch/Retouch-v0", env_config={"dataset": "samples", "reward": "edit", "max_turns": max_turns}
        )
        config.training(
            model=tiny_folder,
            **{"group_size": 3, "prompts_per_iteration": 2, "max_new_tokens": 6, "lr": 1e-3, **training},
        )
        config.env_runners(num_env_runners=0)
        built.append(config.build_algo())
        return built[-1]

    yield make
    for algo in built:
        algo.stop()


def test_a_generator_of_ones_own_with_importance_weights(server: Any, build: Callable[..., GRPO]) -> None:
    settings = EndpointSettings("tiny", server.url, backoff=Backoff(0.01, 0.05))

    def answer_there(policy: Any, chat: Any) -> EndpointGenerator:
        placeholders = [policy.config.image_token_id, policy.config.video_token_id]
        return EndpointGenerator(settings, eos_ids=[chat.eos_id], suppressed=placeholders)

    # Nothing is pushed to this server: its weights are those of the beginning, so the learner's drift away from them;
    # by the entropy's gradient, as a random model's answers are all worth the same.
    algo = build(generator=answer_there, importance_cap=2.0, temperature=0.8, entropy_coeff=1.0)
    first = algo.train()["grpo"]
    assert first["answers"] == 6
    assert first["importance_mean"] == pytest.approx(1.0, abs=1e-3)
    assert first["importance_max"] == pytest.approx(1.0, abs=1e-3)
    second = algo.train()["grpo"]
    assert all(np.isfinite(value) for value in second.values())
    assert second["importance_max"] > 1.001
    groups = [body for body in server.bodies("/inference/v1/generate") if body["sampling_params"]["n"] == 3]
    assert len(groups) == 4


def test_an_adapter_is_pushed_after_every_update(server: Any, build: Callable[..., GRPO]) -> None:
    settings = EndpointSettings("tiny", server.url, backoff=Backoff(0.01, 0.05))
    algo = build(
        generator=settings, tuning=FineTuning(lora_rank=4), importance_cap=2.0, temperature=0.8, entropy_coeff=1.0
    )
    names = []
    for _ in range(3):
        numbers = algo.train()["grpo"]
        # The server answers with the weights that the learner has now, so that sampler and learner agree.
        assert numbers["answers"] == 6
        assert numbers["importance_max"] == pytest.approx(1.0, abs=1e-3)
        names.append(server.bodies("/inference/v1/generate")[-1]["model"])
        assert len(server.adapters) == 1
    assert len(set(names)) == 3
    algo.stop()
    assert not server.adapters


def test_several_turns(server: Any, build: Callable[..., GRPO]) -> None:
    settings = EndpointSettings("tiny", server.url, backoff=Backoff(0.01, 0.05))
    algo = build(
        max_turns=2,
        generator=settings,
        tuning=FineTuning(lora_rank=4),
        importance_cap=2.0,
        group_size=2,
        prompts_per_iteration=1,
    )
    numbers = algo.train()["grpo"]
    assert numbers["turns_mean"] == 2.0
    assert numbers["importance_max"] == pytest.approx(1.0, abs=1e-3)
    # The group begins with one request, and then each of its episodes goes its own way.
    asked = [body["sampling_params"]["n"] for body in server.bodies("/inference/v1/generate")]
    assert asked[-3:] == [2, 1, 1]


def test_full_weights_are_refused(server: Any, build: Callable[..., GRPO]) -> None:
    with pytest.raises(ConfigurationError, match="lora_rank"):
        build(generator=EndpointSettings("tiny", server.url))
