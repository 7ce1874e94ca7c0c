"""GRPO on a cheap environment with one local runner: what it learns, what it leaves alone, what it survives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from retouch_agents.models import load_model, load_processor
from retouch_agents.rllib import GRPO, GRPOConfig
from retouch_agents.rllib.grpo import GRPOError
from retouch_agents.rllib.rl_module import ChatModule
from retouch_agents.scoring import alike
from retouch_gym.errors import ConfigurationError

pytestmark = pytest.mark.ray
Build = Callable[..., GRPO]


def module_of(algo: GRPO) -> ChatModule:
    found: ChatModule = algo.learner_group._learner.module[DEFAULT_MODULE_ID]
    return found


def weights_of(algo: GRPO) -> dict[str, np.ndarray]:
    return module_of(algo).get_state()


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_every_parameter_of_the_policy_moves_and_none_of_the_reference(build: Build) -> None:
    algo = build()
    before = weights_of(algo)
    result = algo.train()
    after = weights_of(algo)
    policy = [name for name, _ in module_of(algo).policy.named_parameters(prefix="policy")]
    still = [name for name in policy if np.array_equal(before[name], after[name])]
    assert still == []
    reference = [name for name in before if name.startswith("reference.")]
    assert len(reference) >= len(policy)
    assert all(np.array_equal(before[name], after[name]) for name in reference)
    runner = algo.env_runner_group.local_env_runner.module
    assert not hasattr(runner, "reference")
    assert same(runner.get_state(), module_of(algo).get_state(inference_only=True))
    numbers = result["grpo"]
    assert numbers["answers"] == 24
    assert numbers["lost_groups"] == numbers["failed_groups"] == 0
    assert 0 < numbers["entropy"] < np.log(300)
    assert numbers["kl"] == pytest.approx(0.0, abs=1e-5)  # the first step starts at the reference
    assert {"reward_mean", "component/share", "group_reward_std", "tokens_per_second", "sync_seconds"} <= set(numbers)
    assert result["env_runners"]["episode_return_mean"] == numbers["reward_mean"]


def test_it_learns(build: Build) -> None:
    algo = build(prompts_per_iteration=8, group_size=8, num_updates=2)
    rewards = [algo.train()["grpo"]["reward_mean"] for _ in range(30)]
    assert np.mean(rewards[:3]) < 0.1
    assert np.mean(rewards[-3:]) > 0.5


def test_without_kl_there_is_no_reference(build: Build) -> None:
    algo = build(kl_coeff=0.0)
    assert "kl" not in algo.train()["grpo"]
    assert not hasattr(module_of(algo), "reference")


def test_the_samplers_probabilities_are_the_learners(build: Build) -> None:
    """With the same weights the ratio is 1: nothing is clipped and the policy has not shifted."""
    numbers = build(temperature=0.8).train()["grpo"]
    assert numbers["clip_fraction"] == 0.0
    assert numbers["policy_shift"] == pytest.approx(0.0, abs=1e-8)


def _gradients(algo: GRPO) -> dict[str, torch.Tensor]:
    algo.train()
    named = module_of(algo).policy.named_parameters()
    return {name: parameter.grad.clone() for name, parameter in named if parameter.grad is not None}


@pytest.mark.parametrize(
    ("micro", "normalise"), [(1, "sequence"), (5, "sequence"), (8, "sequence"), (1, "token"), (1, "constant")]
)
def test_micro_batches_add_up_to_the_same_gradient(build: Build, micro: int, normalise: str) -> None:
    settings: dict[str, Any] = {"normalise": normalise, "grad_clip": None}
    whole, parts = (_gradients(build(micro_batch_size=size, **settings)) for size in (None, micro))
    assert whole.keys() == parts.keys()
    scale = max(float(gradient.abs().max()) for gradient in whole.values())
    for name, gradient in whole.items():
        assert torch.allclose(gradient, parts[name], rtol=1e-3, atol=1e-5 * scale), name


def test_minibatches_take_more_steps(build: Build) -> None:
    algo = build(minibatch_size=8, num_updates=2)
    algo.train()
    optimiser = algo.learner_group._learner.get_optimizer(DEFAULT_MODULE_ID)
    steps = {int(state["step"]) for state in optimiser.state.values()}
    assert steps == {6}  # 24 answers in groups of 4: three minibatches, twice


def test_the_learning_rate_follows_a_schedule_over_answers(build: Build, tmp_path: Path) -> None:
    def rate(algo: GRPO) -> float:
        found: float = algo.learner_group._learner.get_optimizer(DEFAULT_MODULE_ID).param_groups[0]["lr"]
        return found

    algo = build(lr=[[0, 1e-3], [48, 1e-4]])
    assert rate(algo) == pytest.approx(1e-3)
    algo.train()
    algo.train()
    assert rate(algo) == pytest.approx(5.5e-4)  # 24 of 48 answers were drawn before this update
    resumed = GRPO.from_checkpoint(algo.save_to_path(tmp_path / "half-way"))
    try:
        resumed.train()
        assert rate(resumed) == pytest.approx(1e-4)
    finally:
        resumed.stop()


def test_only_sampled_tokens_carry_loss(build: Build) -> None:
    algo = build(prompts_per_iteration=3)
    learner = algo.learner_group._learner
    outputs: list[torch.Tensor] = []

    def keep(_: Any, __: Any, output: torch.Tensor) -> None:
        if output.requires_grad:
            output.retain_grad()
            outputs.append(output)

    module_of(algo).policy.lm_head.register_forward_hook(keep)
    seen: dict[str, torch.Tensor] = {}
    original = learner.compute_loss_for_module

    def spy(**arguments: Any) -> torch.Tensor:
        seen["mask"] = arguments["fwd_out"]["mask"]
        # Equal answers have no advantage; the penalty alone would be 0 in the first step.
        arguments["batch"]["grpo_advantages"] = torch.linspace(-1, 1, len(seen["mask"]))
        loss: torch.Tensor = original(**arguments)
        return loss

    learner.compute_loss_for_module = spy
    algo.train()
    prompt_logits, answer_logits = outputs
    assert prompt_logits.shape[1] == 1, "only the prompt's last token, which predicts the first sampled one"
    assert answer_logits.grad is not None
    reached = answer_logits.grad.abs().amax(dim=-1) > 0
    (order,) = alike(seen["mask"].sum(dim=1).tolist())  # few answers are scored in one part, by length
    following = seen["mask"][order, 1:]
    assert not reached[~following].any()
    assert reached[following].float().mean() > 0.9


def test_invalid_rewards_are_masked(build: Build) -> None:
    algo = build(env={"unscorable_tasks": (1, 4)}, prompts_per_iteration=12)
    numbers = algo.train()["grpo"]
    assert numbers["valid_rate"] == pytest.approx(10 / 12)
    assert numbers["answers"] == 48
    assert all(np.isfinite(value) for value in numbers.values())
    assert all(np.isfinite(array).all() for array in weights_of(algo).values())


def test_a_task_that_raises_costs_only_its_group(build: Build) -> None:
    algo = build(env={"broken_tasks": (2,)}, prompts_per_iteration=12)
    numbers = algo.train()["grpo"]
    assert numbers["failed_groups"] == 1
    assert numbers["answers"] == 44


def test_nothing_to_learn_from_is_said_and_not_trained_on_for_ever(build: Build) -> None:
    algo = build(env={"broken_tasks": tuple(range(12))})
    before = weights_of(algo)
    for _ in range(2):
        assert algo.train()["grpo"]["answers"] == 0
    assert same(before, weights_of(algo))
    with pytest.raises(GRPOError, match=r"photo .* is gone"):
        algo.train()


def test_an_environment_without_a_dataset(build: Build) -> None:
    assert build(env={"dataset": False}).train()["grpo"]["answers"] == 24


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group_size": 1}, "group_size = 1"),
        ({"temperature": 0.0}, "temperature = 0.0"),
        ({"clip": 1.5}, "clip = "),
        ({"kl_coeff": -0.1}, "kl_coeff = -0.1"),
        ({"dtype": "float16"}, "dtype = 'float16'"),
        ({"advantage": "gropo"}, "advantage = 'gropo'.*Did you mean 'grpo'"),
        ({"normalise": "words"}, "normalise = 'words' should be one of 'sequence', 'token', 'constant'"),
        ({"ratio": "turn"}, "ratio = 'turn'"),
        ({"kl_estimator": "k4"}, "kl_estimator = 'k4'"),
        ({"importance_cap": 0.5}, "importance_cap = 0.5"),
        ({"dynamic_sampling": True, "max_extra_rounds": 0}, "max_extra_rounds = 0"),
        ({"num_updates": 0}, "num_updates = 0"),
    ],
)
def test_wrong_settings_are_named(config: Callable[..., GRPOConfig], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        config(**change).validate()


def test_a_model_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="No model"):
        GRPOConfig().environment("word-bandit").validate()


def test_resuming_continues_where_it_was(build: Build, tmp_path: Path) -> None:
    algo = build(minibatch_size=8, num_updates=2)
    for _ in range(2):
        algo.train()
    path = algo.save_to_path(tmp_path / "checkpoint")
    saved = weights_of(algo)
    expected = algo.train()

    resumed = GRPO.from_checkpoint(path)
    try:
        assert resumed.training_iteration == 2
        assert same(weights_of(resumed), saved)
        found = resumed.train()
        assert found["training_iteration"] == 3
        # The same tasks, answers, minibatches and optimiser state lead to the same weights.
        assert found["grpo"]["reward_mean"] == expected["grpo"]["reward_mean"]
        assert same(weights_of(resumed), weights_of(algo))
    finally:
        resumed.stop()


def test_going_back_to_an_earlier_checkpoint(build: Build, tmp_path: Path) -> None:
    algo = build()
    algo.train()
    path = algo.save_to_path(tmp_path / "early")
    early = weights_of(algo)
    for _ in range(2):
        algo.train()
    algo.restore_from_path(path)
    assert same(weights_of(algo), early)
    assert same(
        algo.env_runner_group.local_env_runner.module.get_state(), module_of(algo).get_state(inference_only=True)
    )
    assert algo.train()["training_iteration"] == 2


def test_the_exported_policy_is_an_ordinary_model(build: Build, tmp_path: Path) -> None:
    algo = build()
    algo.train()
    folder = algo.export_policy(tmp_path / "policy")
    model = load_model(folder)
    trained = module_of(algo).policy.state_dict()
    assert all(torch.equal(tensor, trained[name]) for name, tensor in model.state_dict().items())
    assert load_processor(folder).tokenizer.eos_token_id == model.config.get_text_config().eos_token_id
    again = build(model=folder)
    assert same(weights_of(again), {name: weights_of(again)[name] for name in weights_of(algo)})
    assert again.train()["grpo"]["kl"] == pytest.approx(0.0, abs=1e-5)


def test_nothing_is_left_in_the_users_home(build: Build) -> None:
    algo = build()
    folder = Path(algo.logdir)
    algo.stop()
    assert not folder.exists()


def test_bfloat16_weights_travel(build: Build, tmp_path: Path) -> None:
    algo = build(dtype="bfloat16")
    algo.train()
    assert next(module_of(algo).policy.parameters()).dtype == torch.bfloat16
    path = algo.save_to_path(tmp_path / "half")
    resumed = GRPO.from_checkpoint(path)
    try:
        assert same(weights_of(resumed), weights_of(algo))
        resumed.train()
    finally:
        resumed.stop()
