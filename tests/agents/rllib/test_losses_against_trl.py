"""Our advantages and losses against TRL's own code on the same tensors.

TRL computes both inside methods of its trainers, which are called here on a stand-in that holds the settings they read.
"""

from __future__ import annotations

import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from retouch_agents.rllib import advantages as ours
from retouch_agents.rllib.losses import answer_weights, objective_loss
from retouch_agents.rllib.objective import Normalise, Objective, Ratio

pytest.importorskip("trl")
from trl import GRPOTrainer, RLOOTrainer  # only where the extra is installed

G = 4
BESSEL = math.sqrt(G / (G - 1))
"""TRL divides deviations by n − 1, ours by n (as in DeepSeekMath's notation)."""


def _same(tensor: torch.Tensor, **_: Any) -> torch.Tensor:
    return tensor


def _trainer(**settings: Any) -> Any:
    """What TRL's methods read of a trainer in one process."""
    trainer = MagicMock()
    trainer.accelerator = SimpleNamespace(
        device=torch.device("cpu"),
        gather=_same,
        gather_for_metrics=_same,
        reduce=_same,
        num_processes=1,
        process_index=0,
    )
    trainer.model = SimpleNamespace(training=True, is_gradient_checkpointing=False)
    trainer.args = SimpleNamespace(
        delta=None,
        use_bias_correction_kl=False,
        steps_per_generation=1,
        gradient_accumulation_steps=1,
        gradient_checkpointing_kwargs=None,
        per_device_train_batch_size=64,
    )
    trainer._metrics = defaultdict(lambda: defaultdict(list))
    plain: dict[str, Any] = {
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "_entropy_bonus_enabled": False,
        "aux_loss_enabled": False,
        "use_vllm": False,
        "vllm_importance_sampling_correction": False,
        "current_gradient_accumulation_steps": 1,
        "beta": 0.0,
    }
    for name, value in (plain | settings).items():
        setattr(trainer, name, value)
    return trainer


def _answers() -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    logprobs, old, ref, sampler = -1.5 * torch.rand((4, 8, 5), generator=rng)
    return {
        "logprobs": logprobs,
        "old": old,
        "ref": ref,
        "sampler": sampler,
        "entropy": torch.rand((8, 5), generator=rng),
        "mask": torch.arange(5) < torch.randint(1, 6, (8, 1), generator=rng),
        "advantages": torch.randn(8, generator=rng),
    }


def _trl_loss(answers: dict[str, torch.Tensor], logprobs: torch.Tensor, importance: Any, **settings: Any) -> Any:
    trainer = _trainer(max_completion_length=7, epsilon_low=0.2, epsilon_high=0.28, beta=0.1, **settings)
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (logprobs, answers["entropy"], None)
    mask = answers["mask"].long()
    inputs = {
        "prompt_ids": torch.zeros((8, 1), dtype=torch.long),
        "prompt_mask": torch.ones((8, 1), dtype=torch.long),
        "completion_ids": torch.zeros_like(mask),
        "completion_mask": mask,
        "advantages": answers["advantages"],
        "old_per_token_logps": answers["old"],
        "ref_per_token_logps": answers["ref"],
        "num_items_in_batch": mask.sum(),
    }
    if importance is not None:
        trainer.use_vllm = trainer.vllm_importance_sampling_correction = True
        inputs["importance_sampling_ratio"] = importance
    return GRPOTrainer._compute_loss(trainer, None, inputs), trainer._metrics["train"]


def _trl_advantages(kind: Any, rewards: np.ndarray, **settings: Any) -> tuple[np.ndarray, Any]:
    """Advantages of groups of G, with NaN for a reward that could not be computed."""
    count = len(rewards)
    trainer = _trainer(
        environment_factories=None,
        environments=None,
        tools=None,
        pad_to_multiple_of=None,
        mask_truncated_completions=False,
        num_iterations=1,
        num_generations=G,
        multi_objective_aggregation="sum_then_normalize",
        reward_weights=torch.ones(1),
        reward_clip_range=None,
        reward_func_names=["reward"],
        log_multimodal=False,
        _pending_extra_logs={},
        _pending_metrics={},
        **settings,
    )
    trainer._tokenizer.pad_token_id = 0
    ids = [[1, 2]] * count
    generated: tuple[Any, ...] = (ids, ids, None, ["x"] * count, None, {}, None, None)
    trainer._generate = lambda _: generated if kind is GRPOTrainer else (*generated[:2], ["x"] * count)
    trainer._calculate_rewards = lambda *_: torch.from_numpy(rewards)[:, None]
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (torch.zeros(count, 2), None, None)
    found = kind._generate_and_score_completions(trainer, [{"prompt": "p"}] * count)
    return found["advantages"].numpy(), trainer._metrics["train"]


REWARDS = np.random.default_rng(0).uniform(-1, 1, 3 * G).astype(np.float32)
GROUPS = np.repeat(np.arange(3), G)
UNSCORED = np.where(np.arange(3 * G) == 5, np.float32(math.nan), REWARDS)


def test_grpo_advantages_are_trls() -> None:
    found, _ = _trl_advantages(GRPOTrainer, REWARDS, scale_rewards="group")
    # (r − mean) / (b·std + ε) = (1/b) (r − mean) / (std + ε/b)
    assert ours.grpo(REWARDS, GROUPS, epsilon=1e-4 / BESSEL) / BESSEL == pytest.approx(found, rel=1e-4, abs=1e-6)


def test_advantages_over_the_batchs_deviation_are_trls() -> None:
    found, _ = _trl_advantages(GRPOTrainer, REWARDS, scale_rewards="batch")
    bessel = math.sqrt(len(REWARDS) / (len(REWARDS) - 1))
    mine = ours.grpo_batch(REWARDS, GROUPS, epsilon=1e-4 / bessel) / bessel
    assert mine == pytest.approx(found, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("rewards", [REWARDS, UNSCORED])
def test_advantages_without_deviation_are_trls(rewards: np.ndarray) -> None:
    found, _ = _trl_advantages(GRPOTrainer, rewards, scale_rewards="none")
    assert ours.dr_grpo(rewards, GROUPS, np.isfinite(rewards)) == pytest.approx(found, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("rewards", [REWARDS, UNSCORED])
def test_rloo_advantages_are_trls(rewards: np.ndarray) -> None:
    found, _ = _trl_advantages(RLOOTrainer, rewards, normalize_advantages=False)
    assert ours.rloo(rewards, GROUPS, np.isfinite(rewards)) == pytest.approx(found, rel=1e-4, abs=1e-6)


def test_reinforce_pp_advantages_are_the_published_formula() -> None:
    """TRL has none; here in plain NumPy, arXiv 2501.03262."""
    whole = (REWARDS - REWARDS.mean()) / (REWARDS.std() + 1e-4)
    assert ours.reinforce_pp(REWARDS, GROUPS) == pytest.approx(whole, rel=1e-4)
    centred = REWARDS - REWARDS.reshape(3, G).mean(axis=1).repeat(G)
    assert ours.reinforce_pp_baseline(REWARDS, GROUPS) == pytest.approx(centred / (centred.std() + 1e-4), rel=1e-4)


@pytest.mark.parametrize(
    ("loss_type", "normalise"), [("grpo", "sequence"), ("dapo", "token"), ("bnpo", "token"), ("dr_grpo", "constant")]
)
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("cap", [None, 1.5])
def test_the_loss_and_its_gradient_are_trls(
    loss_type: str, normalise: Normalise, level: Ratio, cap: float | None
) -> None:
    answers = _answers()
    objective = Objective(
        normalise=normalise, ratio=level, clip=(0.2, 0.28), kl_coeff=0.1, kl_estimator="k3", importance_cap=cap
    )
    mask = answers["mask"]
    lengths, valid = mask.sum(dim=1).numpy(), np.ones(8, dtype=np.bool_)
    weights = answer_weights(lengths, valid, normalise=normalise, max_length=7)
    mine = answers["logprobs"].clone().requires_grad_()
    terms = objective_loss(
        objective,
        logprobs=mine,
        old_logprobs=answers["old"],
        ref_logprobs=answers["ref"],
        sampler_logprobs=answers["sampler"],
        entropy=answers["entropy"],
        advantages=answers["advantages"],
        weights=torch.from_numpy(weights),
        mask=mask,
    )
    terms.loss.backward()
    theirs = answers["logprobs"].clone().requires_grad_()
    # TRL's formula of its truncated importance sampling: exp(old − sampler) on sampled tokens, clamped from above.
    capped = None if cap is None else torch.exp((answers["old"] - answers["sampler"]) * mask).clamp(max=cap)
    loss, logged = _trl_loss(answers, theirs, capped, loss_type=loss_type, importance_sampling_level=level)
    loss.backward()
    assert terms.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert torch.allclose(mine.grad, theirs.grad, rtol=1e-4, atol=1e-7)
    tokens = terms.tokens.item()
    assert terms.sums["kl"].item() / tokens == pytest.approx(logged["kl"][0], rel=1e-5)
    assert terms.sums["entropy"].item() / tokens == pytest.approx(logged["entropy"][0], rel=1e-5)
    if level == "token":  # of sequences, TRL logs the share of sequences, we that of their tokens
        for side in ("low", "high"):
            assert terms.sums[f"clip_fraction_{side}"].item() / tokens == pytest.approx(
                logged[f"clip_ratio/{side}_mean"][0]
            )
