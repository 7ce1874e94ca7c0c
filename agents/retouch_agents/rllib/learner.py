"""The learner: GRPO's loss on RLlib's machinery, with gradients accumulated over micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchDDPRLModule
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from retouch_agents.rllib.losses import grpo_loss
from retouch_agents.rllib.rl_module import ROLLOUTS
from retouch_agents.rllib.rollouts import Rollout

ADVANTAGES = "grpo_advantages"
WEIGHTS = "grpo_weights"
LEARNER_METRICS = ("kl", "clip_fraction", "entropy", "policy_shift")


def train_batch(rollouts: Sequence[Rollout], advantages: np.ndarray, weights: np.ndarray) -> MultiAgentBatch:
    """A batch that RLlib can cut and ship.

    Args:
        rollouts: N answers.
        advantages: float32 (N,).
        weights: Weight of every answer in the loss, float32 (N,).
    """
    column = np.empty(len(rollouts), dtype=object)
    column[:] = list(rollouts)
    columns = {ROLLOUTS: column, ADVANTAGES: advantages, WEIGHTS: weights}
    return MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, env_steps=len(rollouts))


class GRPOLearner(TorchLearner):
    """One optimiser step per `update`; `micro_batch_size` bounds the answers in memory at a time."""

    config: Any

    def get_parameters(self, module: Any) -> list[torch.nn.Parameter]:
        """Parameters to train: all of the policy that are not frozen, none of the reference."""
        return [parameter for parameter in module.parameters() if parameter.requires_grad]

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """GRPO's loss of a micro-batch; see `retouch_agents.rllib.losses.grpo_loss`."""
        mask = fwd_out["mask"]
        old = torch.zeros(mask.shape)
        for row, rollout in enumerate(batch[ROLLOUTS]):
            old[row, : len(rollout.logprobs)] = torch.from_numpy(np.array(rollout.logprobs))
        terms = grpo_loss(
            logprobs=fwd_out["logprobs"],
            old_logprobs=old.to(mask.device),
            ref_logprobs=fwd_out.get("ref_logprobs"),
            entropy=fwd_out["entropy"],
            advantages=batch[ADVANTAGES],
            weights=batch[WEIGHTS],
            mask=mask,
            clip_low=config.clip[0],
            clip_high=config.clip[1],
            kl_coeff=config.kl_coeff,
        )
        for name, total in {**terms.sums, "tokens": terms.tokens}.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(total)
        return terms.loss

    def _uncompiled_update(self, batch: Mapping[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        self._sums: dict[str, float] = {}
        for optimizer in self._optimizer_parameters:
            optimizer.zero_grad(set_to_none=True)
        total: dict[str, torch.Tensor] = {}
        output: Any = {}
        parts = list(self._micro_batches(batch))
        for number, part in enumerate(parts):
            with ExitStack() as stack:
                if number < len(parts) - 1:
                    self._postpone_synchronisation(stack)
                output = self.module.forward_train(part)
                losses = self.compute_losses(fwd_out=output, batch=part)
                # The weights of the answers are those of the whole batch, so that the parts add up.
                torch.stack(list(losses.values())).sum().backward()
            for module_id, loss in losses.items():
                total[module_id] = total.get(module_id, 0.0) + loss.detach()
        gradients = {key: parameter.grad for key, parameter in self._params.items() if parameter.grad is not None}
        self.apply_gradients(self.postprocess_gradients(gradients))
        self._log_terms()
        return output, total, {}

    def _micro_batches(self, batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        rows = len(batch[DEFAULT_MODULE_ID])
        size = self.config.micro_batch_size or rows
        for start in range(0, rows, size):
            yield {DEFAULT_MODULE_ID: batch[DEFAULT_MODULE_ID][start : start + size]}

    def _get_optimizer_state(self) -> dict[str, Any]:
        """The optimiser's state as NumPy arrays; bfloat16, which NumPy lacks, as float32 (exact)."""
        found: dict[str, Any] = {}
        for name, optimizer in self._named_optimizers.items():
            state = optimizer.state_dict()
            arrays = {
                index: {key: _array(value) for key, value in one.items()} for index, one in state["state"].items()
            }
            found[name] = {
                "module_id": self._optimizer_name_to_module[name],
                "state": {**state, "state": arrays},
            }
        return found

    def _postpone_synchronisation(self, stack: ExitStack) -> None:
        """Several learners exchange gradients once per update, with the last micro-batch."""
        for module in self.module.values():
            if isinstance(module, TorchDDPRLModule):
                stack.enter_context(module.no_sync())

    def _log_terms(self) -> None:
        tokens = max(self._sums["tokens"], 1.0)
        for name in LEARNER_METRICS:
            if name in self._sums:
                self.metrics.log_value((DEFAULT_MODULE_ID, name), self._sums[name] / tokens, reduce="mean")


def _array(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    plain = value.detach().cpu()
    # Owns its memory: a view would change with the next step.
    return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy().copy()
