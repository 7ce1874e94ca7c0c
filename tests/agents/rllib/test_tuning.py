"""GRPO of an adapter, of a model with a frozen tower, and with gradient checkpointing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.util.debug import reset_log_once
from transformers import AutoModelForImageTextToText

from retouch_agents.finetuning import FineTuning
from retouch_agents.models import load_model
from retouch_agents.rllib import GRPO, GRPOConfig
from retouch_agents.rllib.rl_module import ChatModule
from retouch_gym.errors import ConfigurationError

pytestmark = pytest.mark.ray
Build = Callable[..., GRPO]
LORA = FineTuning(lora_rank=4, lora_alpha=16)


def module_of(algo: GRPO) -> ChatModule:
    found: ChatModule = algo.learner_group._learner.module[DEFAULT_MODULE_ID]
    return found


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_the_adapter_alone_travels_and_the_base_is_the_reference(build: Build) -> None:
    algo = build(tuning=LORA, num_updates=3)
    module = module_of(algo)
    base = {name: tensor.clone() for name, tensor in module.policy.state_dict().items() if ".lora_" not in name}
    first = algo.train()["grpo"]
    assert not hasattr(module, "reference")
    state = module.get_state()
    assert all(".lora_" in name for name in state)
    assert same(algo.env_runner_group.local_env_runner.module.get_state(), state)
    assert all(torch.equal(tensor, module.policy.state_dict()[name]) for name, tensor in base.items())
    assert any(np.abs(array).max() > 0 for name, array in state.items() if ".lora_B" in name)
    assert first["kl"] >= 0.0
    assert algo.train()["grpo"]["kl"] > first["kl"]  # away from the base


def test_an_adapter_learns(build: Build) -> None:
    # The output layer is random and stays: at a temperature of 1 no adapter below it can make it say anything for sure.
    algo = build(
        tuning={"lora_rank": 8, "lora_alpha": 32},
        temperature=0.15,
        prompts_per_iteration=8,
        group_size=8,
        num_updates=2,
        lr=1e-2,
    )
    rewards = [algo.train()["grpo"]["reward_mean"] for _ in range(25)]
    assert np.mean(rewards[:3]) < 0.1
    assert np.mean(rewards[-3:]) > 0.5


def test_training_of_an_adapter_resumes(build: Build, tmp_path: Path) -> None:
    algo = build(tuning=LORA)
    algo.train()
    path = algo.save_to_path(tmp_path / "checkpoint")
    expected = algo.train()["grpo"]["reward_mean"]
    resumed = GRPO.from_checkpoint(path)
    try:
        assert resumed.train()["grpo"]["reward_mean"] == expected
        assert same(module_of(resumed).get_state(), module_of(algo).get_state())
    finally:
        resumed.stop()


def test_an_adapter_is_exported_alone_or_merged_and_trained_further(build: Build, tiny: Path, tmp_path: Path) -> None:
    algo = build(tuning=LORA)
    algo.train()
    adapter = algo.export_policy(tmp_path / "adapter")
    merged = load_model(algo.export_policy(tmp_path / "merged", merge=True)).state_dict()
    wrapped = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(tiny), str(adapter))
    for name, tensor in wrapped.merge_and_unload().state_dict().items():
        assert torch.allclose(tensor, merged[name], atol=1e-6)
    again = build(model=adapter, tuning=LORA)
    assert same(module_of(again).get_state(), module_of(algo).get_state())
    assert again.train()["grpo"]["kl"] == pytest.approx(0.0, abs=1e-5)  # the adapter's start is its reference


def test_another_reference_is_a_second_model(build: Build, tiny: Path, tmp_path: Path) -> None:
    other = build().export_policy(tmp_path / "other")
    algo = build(tuning=LORA, reference=other)
    assert algo.train()["grpo"]["kl"] == pytest.approx(0.0, abs=1e-5)
    assert hasattr(module_of(algo), "reference")


def test_a_frozen_tower_does_not_travel(build: Build) -> None:
    algo = build(tuning=FineTuning(freeze_vision=True), kl_coeff=0.0)
    before = module_of(algo).get_state()
    algo.train()
    after = module_of(algo).get_state()
    assert not any("visual.blocks" in name for name in before)
    assert all(not np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("tuning", [FineTuning(), LORA], ids=["full", "lora"])
def test_gradient_checkpointing_changes_nothing_but_memory(build: Build, tuning: FineTuning) -> None:
    weights = []
    for checkpointing in (False, True):
        settings = {**tuning.__dict__, "gradient_checkpointing": checkpointing}
        algo = build(tuning=settings)
        algo.train()
        weights.append(module_of(algo).get_state())
    # Adam's first step is the sign of the gradient, so that gradients near 0 may go either way.
    differing = [float((np.abs(weights[0][name] - weights[1][name]) > 1e-4).mean()) for name in weights[0]]
    assert np.mean(differing) < 0.02


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"lora_alpha": 8}, "set lora_rank"), ({"attention": "flash_attention_2"}, "sdpa")],
)
def test_tuning_that_cannot_be_is_refused(
    config: Callable[..., GRPOConfig], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        config(tuning=settings).validate()


def test_full_fine_tuning_in_bfloat16_is_warned_of(
    config: Callable[..., GRPOConfig], caplog: pytest.LogCaptureFixture
) -> None:
    reset_log_once("grpo_bfloat16_without_adapter")
    with caplog.at_level(logging.WARNING):
        config(dtype="bfloat16", tuning=LORA).validate()
        assert "bfloat16" not in caplog.text
        config(dtype="bfloat16").validate()
    assert "round to nothing (2% of" in caplog.text
