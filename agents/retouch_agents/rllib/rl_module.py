"""The chat model as an RLlib module: the policy, and on the learner a frozen reference and a value head beside it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from numpy.typing import NDArray
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.utils.torch_utils import convert_to_torch_tensor
from transformers import PreTrainedModel

from retouch_agents.errors import ModelError
from retouch_agents.finetuning import FineTuning, load_trainable_state, reference_of, trainable_state
from retouch_agents.generation import placeholder_ids
from retouch_agents.models import load_model, load_policy
from retouch_agents.rllib.episodes import Episode, answers_of, episodes_of
from retouch_agents.rllib.rollouts import Rollout
from retouch_agents.scoring import Scores, score

ROLLOUTS = "rollouts"
"""Column of a train batch: an object array of `Rollout`."""

_POLICY = "policy."

_KEPT = 16384
"""Answers whose reference scores are kept: more than an iteration has, and small beside the model."""


class ChatModule(TorchRLModule, InferenceOnlyAPI):
    """A policy that answers prompts, the reference that the KL penalty holds it to, and the critic of PPO.

    `model_config` has ``model`` and ``reference`` (folder or id; no reference if None), ``temperature``, ``dtype``,
    and optionally ``value_head`` and ``entropy_gradient`` (bool) and ``tuning`` (the fields of `FineTuning`). Runners
    build it with `inference_only` and have neither reference nor value head.

    Attributes:
        policy: The model that is trained.
        reference: The frozen model; absent on runners, without a KL penalty, and where an adapter is trained: there
            the policy without it is the reference.
        value_head: V(s) = w · h + b of what the policy's output layer sees before the first token of an answer,
            float32; absent without PPO. Begins at 0.
    """

    model_config: Any
    policy: PreTrainedModel
    reference: PreTrainedModel
    value_head: torch.nn.Linear

    def setup(self) -> None:
        """Load the models."""
        settings: Mapping[str, Any] = self.model_config
        # RLlib's seed makes torch choose deterministic algorithms, and that alone would fill every new tensor first.
        cast(Any, torch.utils.deterministic).fill_uninitialized_memory = False
        dtype = getattr(torch, settings["dtype"])
        self.temperature = float(settings["temperature"])
        tuning = FineTuning(**settings.get("tuning", {}))
        self.policy = load_policy(settings["model"], tuning, dtype=dtype)
        self.suppressed = placeholder_ids(self.policy)
        self.pad_id = _padding(self.policy)
        reference = None if self.inference_only else settings["reference"]
        self.own_reference = tuning.lora and reference is not None and reference == settings["model"]
        if reference is not None and not self.own_reference:
            self.reference = load_model(reference, dtype=dtype, attention=tuning.attention).requires_grad_(False)
        self.entropy_gradient = bool(settings.get("entropy_gradient", False))
        if settings.get("value_head", False) and not self.inference_only:
            width = self.policy.get_output_embeddings().weight.shape[1]
            self.value_head = torch.nn.Linear(width, 1)
            torch.nn.init.zeros_(self.value_head.weight)
            torch.nn.init.zeros_(self.value_head.bias)
        self._remembered: dict[tuple[int, int, int, bytes], torch.Tensor] = {}
        self.eval()

    def get_non_inference_attributes(self) -> list[str]:
        """Parts that runners do without."""
        return ["reference", "value_head"]

    def train(self, mode: bool = True) -> ChatModule:
        """Stay in evaluation mode: with dropout, the ratio of new to old probabilities would be noise."""
        super().train(False)
        return self

    def _forward_train(self, batch: Mapping[str, Any], **kwargs: Any) -> dict[str, torch.Tensor]:
        """Score the rollouts of a batch, those of an episode in one piece where they allow it.

        Returns:
            ``logprobs`` with gradient, ``entropy``, ``mask`` and, with a reference, ``ref_logprobs``: all (N, C). With
            a value head ``values``, (N,).
        """
        rollouts: Sequence[Rollout] = batch[ROLLOUTS]
        pieces = episodes_of(rollouts)
        critic = hasattr(self, "value_head")
        found = self._score(self.policy, pieces, states=critic)
        output = {"logprobs": found.logprobs, "entropy": found.entropy, "mask": found.mask}
        if critic and found.states is not None:
            output["values"] = self.value_head(found.states[:, 0].float())[:, 0]
        if self.own_reference or hasattr(self, "reference"):
            output["ref_logprobs"] = self._reference_logprobs(rollouts, found.mask)
        return output

    def _reference_logprobs(self, rollouts: Sequence[Rollout], mask: torch.Tensor) -> torch.Tensor:
        """The reference's scores, (N, C); computed once for all updates on the same rollouts."""
        if len(self._remembered) > _KEPT:
            self._remembered.clear()
        keys = [(one.group, one.member, one.turn, one.token_ids.tobytes()) for one in rollouts]
        missing = [row for row, key in enumerate(keys) if key not in self._remembered]
        if missing:
            with torch.no_grad(), self._reference() as reference:
                fresh = self._score(reference, episodes_of([rollouts[row] for row in missing]))
            for row, logprobs, sampled in zip(missing, fresh.logprobs, fresh.mask, strict=True):
                self._remembered[keys[row]] = logprobs[sampled]
        found = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device)
        found[mask] = torch.cat([self._remembered[key] for key in keys])
        return found

    def _reference(self) -> AbstractContextManager[PreTrainedModel]:
        return reference_of(self.policy) if self.own_reference else nullcontext(self.reference)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over weights: of the policy all that are trained, of the rest those that are here.

        Raises:
            ModelError: If they are not those of this module's policy.
        """
        self._remembered.clear()
        tensors = convert_to_torch_tensor(dict(state))
        mine = {name: tensor for name, tensor in tensors.items() if name.startswith(_POLICY)}
        load_trainable_state(self.policy, {name.removeprefix(_POLICY): tensor for name, tensor in mine.items()})
        self.load_state_dict({name: tensor for name, tensor in tensors.items() if name not in mine}, strict=False)

    def _score(self, model: PreTrainedModel, pieces: Sequence[Episode], *, states: bool = False) -> Scores:
        """Score every answer of some episodes: a row for each, in the order that the rollouts were given in."""
        prompts = {piece.key: piece.prompt for piece in pieces}
        row_of = {key: row for row, key in enumerate(prompts)}
        found = score(
            model,
            list(prompts.values()),
            [row_of[piece.key] for piece in pieces],
            [piece.continuation for piece in pieces],
            pad_id=self.pad_id,
            temperature=self.temperature,
            suppressed=self.suppressed,
            states=states,
            entropy_gradient=self.entropy_gradient,
        )
        return answers_of(found, pieces)

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        inference_only: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """What is trained of the policy, and reference and value head, as NumPy arrays that own their memory.

        NumPy lacks bfloat16; it becomes float32, which is exact.
        """
        state = {f"{_POLICY}{name}": tensor for name, tensor in trainable_state(self.policy).items()}
        if not inference_only:
            state |= {name: tensor for name, tensor in self.state_dict().items() if not name.startswith(_POLICY)}
        # RLlib's own version hands out views of the parameters, which the next update would change.
        return {name: _array(tensor) for name, tensor in state.items()}


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    plain = tensor.detach().cpu()
    return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy().copy()


def _padding(model: PreTrainedModel) -> int:
    """Any text token will do, as padding is masked everywhere; a photo's placeholder would not."""
    text = model.config.get_text_config()
    for source in (model.generation_config, text):
        for name in ("pad_token_id", "eos_token_id"):
            found = getattr(source, name, None)
            first = found[0] if isinstance(found, list) and found else found
            if isinstance(first, int):
                return first
    raise ModelError(f"{type(model).__name__} names neither a padding nor an end token in its configuration.")
