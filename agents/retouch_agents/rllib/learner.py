"""The learner: the objective's loss on RLlib's machinery, with gradients accumulated over micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchDDPRLModule
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from retouch_agents.rllib.lessons import Lesson
from retouch_agents.rllib.losses import objective_loss
from retouch_agents.rllib.rl_module import ROLLOUTS
from retouch_agents.rllib.rollouts import Rollout
from retouch_agents.rllib.turns import value_loss

ADVANTAGES = "grpo_advantages"
WEIGHTS = "grpo_weights"
RETURNS = "grpo_returns"
VALUE_WEIGHTS = "grpo_value_weights"
LEARNER_METRICS = (
    "kl",
    "clip_fraction",
    "clip_fraction_low",
    "clip_fraction_high",
    "entropy",
    "policy_shift",
    "importance_mean",
    "importance_max",
    "value_loss",
)


def train_batch(lesson: Lesson, weights: NDArray[np.float32], value_weights: NDArray[np.float32]) -> MultiAgentBatch:
    """A batch that RLlib can cut and ship.

    Args:
        lesson: N answers.
        weights: Weight of every answer in the loss of the policy, float32 (N,).
        value_weights: In that of the values, float32 (N,).
    """
    column = np.empty(len(lesson.rollouts), dtype=object)
    column[:] = list(lesson.rollouts)
    columns = {
        ROLLOUTS: column,
        ADVANTAGES: lesson.advantages,
        RETURNS: lesson.returns,
        WEIGHTS: weights,
        VALUE_WEIGHTS: value_weights,
    }
    return MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, env_steps=len(lesson.rollouts))


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a learner says of an answer before it learns from it.

    Args:
        logprobs: log-probability of each token, float32 (C,).
        value: V of what was shown; 0 without a critic.
    """

    logprobs: NDArray[np.float32]
    value: float


class GRPOLearner(TorchLearner):
    """One optimiser step per `update`; `micro_batch_size` bounds the answers in memory at a time."""

    config: Any

    def get_parameters(self, module: Any) -> list[torch.nn.Parameter]:
        """Parameters to train: all of the policy that are not frozen, none of the reference."""
        return [parameter for parameter in module.parameters() if parameter.requires_grad]

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Adam for the policy, and one with a learning rate of its own for the critic's head, which begins at 0."""
        module: Any = self.module[module_id]
        parameters = self.get_parameters(module)
        head = list(module.unwrapped().value_head.parameters()) if config.objective.critic else []
        known = {id(parameter) for parameter in head}
        rest = [parameter for parameter in parameters if id(parameter) not in known]
        self.register_optimizer(
            module_id=module_id, optimizer=torch.optim.Adam(rest), params=rest, lr_or_lr_schedule=config.lr
        )
        if head:
            self.register_optimizer(
                module_id=module_id,
                optimizer_name="critic",
                optimizer=torch.optim.Adam(head),
                params=head,
                lr_or_lr_schedule=_scaled(config.lr, config.value_lr_scale),
            )

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """The loss of a micro-batch; see `losses.objective_loss`, and `turns.value_loss` for the critic's."""
        mask = fwd_out["mask"]
        sampled = _padded([rollout.logprobs for rollout in batch[ROLLOUTS]], mask)
        corrected = config.objective.importance_cap is not None
        own = _padded([rollout.learner_logprobs for rollout in batch[ROLLOUTS]], mask) if corrected else sampled
        terms = objective_loss(
            config.objective,
            logprobs=fwd_out["logprobs"],
            old_logprobs=own,
            entropy=fwd_out["entropy"],
            advantages=batch[ADVANTAGES],
            weights=batch[WEIGHTS],
            mask=mask,
            ref_logprobs=fwd_out.get("ref_logprobs"),
            sampler_logprobs=sampled if corrected else None,
        )
        for name, total in {**terms.sums, "tokens": terms.tokens}.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(total)
        for name, largest in terms.maxima.items():
            self._maxima[name] = max(self._maxima.get(name, 0.0), float(largest))
        loss: torch.Tensor = terms.loss
        if not config.objective.critic:
            return loss
        values = fwd_out["values"]
        before = torch.tensor([rollout.value for rollout in batch[ROLLOUTS]], device=values.device)
        counted = batch[VALUE_WEIGHTS] > 0
        errors = value_loss(
            values[:, None], before[:, None], batch[RETURNS][:, None], counted[:, None], config.objective.value_clip
        )[:, 0]
        value_total = (errors * batch[VALUE_WEIGHTS]).sum()
        self._value_loss += float(value_total.detach())
        return torch.add(loss, value_total, alpha=config.objective.value_coeff)

    def score(self, rollouts: Sequence[Rollout]) -> list[Judgement]:
        """Answers under the weights of now, as the loss computes them."""
        module: Any = self.module[DEFAULT_MODULE_ID].unwrapped()
        size = self.config.micro_batch_size or len(rollouts)
        found: list[Judgement] = []
        for start in range(0, len(rollouts), size):
            with torch.no_grad():
                output = module.forward_train({ROLLOUTS: rollouts[start : start + size]})
            values = output["values"].tolist() if "values" in output else [0.0] * len(output["mask"])
            for logprobs, sampled, value in zip(output["logprobs"], output["mask"], values, strict=True):
                found.append(Judgement(logprobs[sampled].float().cpu().numpy(), float(value)))
        return found

    def score_share(self, rollouts: Sequence[Rollout], count: int) -> dict[int, Judgement]:
        """`score` of the answers that fall to this learner out of `count`, by their place in `rollouts`."""
        rows = np.array_split(np.arange(len(rollouts)), count)[self._learner_index].tolist()
        return dict(zip(rows, self.score([rollouts[row] for row in rows]), strict=True)) if rows else {}

    def _uncompiled_update(self, batch: Mapping[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        self._sums: dict[str, float] = {}
        self._maxima: dict[str, float] = {}
        self._value_loss = 0.0
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
        means = {name: total / tokens for name, total in self._sums.items()}
        critic = {"value_loss": self._value_loss} if self.config.objective.critic else {}
        for name, value in {**means, **self._maxima, **critic}.items():
            if name in LEARNER_METRICS:
                self.metrics.log_value((DEFAULT_MODULE_ID, name), value, reduce="mean")


def _scaled(lr: Any, factor: float) -> Any:
    """A learning rate, or a schedule of [timestep, rate] pairs, times a factor."""
    return [[at, rate * factor] for at, rate in lr] if isinstance(lr, (list, tuple)) else lr * factor


def _padded(rows: Sequence[NDArray[np.float32]], mask: torch.Tensor) -> torch.Tensor:
    """float32 (N, C), 0 outside the mask."""
    found = torch.zeros(mask.shape)
    for number, row in enumerate(rows):
        found[number, : len(row)] = torch.from_numpy(np.array(row))
    return found.to(mask.device)


def _array(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    plain = value.detach().cpu()
    # Owns its memory: a view would change with the next step.
    return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy().copy()
