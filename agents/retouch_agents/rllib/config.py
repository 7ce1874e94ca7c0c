"""Settings of GRPO."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal

import gymnasium
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.from_config import NotProvided
from ray.util.debug import log_once

from retouch_agents.finetuning import FineTuning, check_attention
from retouch_agents.rllib.conversing import Chat
from retouch_agents.rllib.env_runner import RetouchEnvRunner
from retouch_agents.rllib.generators import GeneratorChoice
from retouch_agents.rllib.learner import GRPOLearner
from retouch_agents.rllib.objective import Objective, algorithm_options
from retouch_agents.rllib.rl_module import ChatModule
from retouch_agents.serving import EndpointSettings
from retouch_gym.errors import ConfigurationError

logger = logging.getLogger(__name__)

ChatFactory = Callable[[str, gymnasium.Env[Any, Any]], Chat]
"""From the model's folder and the environment to the chat format between them; has to be picklable."""


class GRPOSettings(AlgorithmConfig):
    """Every setting of GRPO with its default. Use `retouch_agents.rllib.GRPOConfig`, which knows its algorithm.

    What RLlib already has keeps its name and place: ``environment(id, env_config=…)``,
    ``env_runners(num_env_runners=…)``, ``learners(num_learners=…, num_gpus_per_learner=…)``,
    ``debugging(seed=…)``, and in ``training(…)``: ``lr``, ``grad_clip``, ``minibatch_size``. The fields of `Objective`,
    which say what is optimised, are attributes of the same names.
    """

    # RLlib leaves these without a type.
    algo_class: Any
    env_runner_cls: Any
    grad_clip: Any
    merge_env_runner_states: Any
    seed: Any
    clip: tuple[float, float]
    kl_coeff: float

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.model_path: str | None = None
        self.reference_path: str | None = None
        self.chat_format: ChatFactory | None = None
        self.dtype: Literal["float32", "bfloat16"] = "float32"
        self.tuning = FineTuning()
        self.group_size = 8
        self.prompts_per_iteration = 16
        self.max_new_tokens = 128
        self.temperature = 1.0
        self.sampler_batch_size = 256
        self.lanes = 1
        self.generator: GeneratorChoice = None
        self.num_updates = 1
        self.micro_batch_size: int | None = None
        self.dynamic_sampling = False
        self.max_extra_rounds = 3
        self.max_staleness = 0
        self.max_turns = 32
        self.max_prompt_tokens: int | None = None
        self.value_lr_scale = 10.0
        for field in fields(Objective):
            setattr(self, field.name, field.default)
        # RLlib's own settings, where GRPO needs others than RLlib's defaults.
        self.lr = 1e-6
        self.grad_clip = 1.0
        self.grad_clip_by = "global_norm"
        self.seed = 0
        self.env_runner_cls = RetouchEnvRunner
        self.sample_timeout_s = 900.0
        # With remote runners, a local one would only hold one more copy of the model.
        self.create_local_env_runner = False
        # No connectors: observations become tokens in the runner, and rollouts go to the learner as they are.
        self.add_default_connectors_to_env_to_module_pipeline = False
        self.add_default_connectors_to_module_to_env_pipeline = False
        self.add_default_connectors_to_learner_pipeline = False
        self.merge_env_runner_states = False
        self.broadcast_env_runner_states = False
        self.restart_failed_env_runners = True
        self.delay_between_env_runner_restarts_s = 0.0
        self.env_runner_health_probe_timeout_s = 30.0

    def training(
        self,
        *,
        model: str | Path | Any = NotProvided,
        reference: str | Path | Any = NotProvided,
        chat_format: ChatFactory | Any = NotProvided,
        dtype: Literal["float32", "bfloat16"] | Any = NotProvided,
        tuning: FineTuning | Mapping[str, Any] | Any = NotProvided,
        group_size: int | Any = NotProvided,
        prompts_per_iteration: int | Any = NotProvided,
        max_new_tokens: int | Any = NotProvided,
        temperature: float | Any = NotProvided,
        sampler_batch_size: int | Any = NotProvided,
        lanes: int | Any = NotProvided,
        generator: GeneratorChoice | Any = NotProvided,
        num_updates: int | Any = NotProvided,
        micro_batch_size: int | Any | None = NotProvided,
        dynamic_sampling: bool | Any = NotProvided,
        max_extra_rounds: int | Any = NotProvided,
        max_staleness: int | Any = NotProvided,
        max_turns: int | Any = NotProvided,
        max_prompt_tokens: int | Any | None = NotProvided,
        value_lr_scale: float | Any = NotProvided,
        **kwargs: Any,
    ) -> GRPOSettings:
        """Set what is particular to GRPO.

        Args:
            model: Folder or id of the policy to start from; opens with `AutoModelForImageTextToText`.
            reference: Folder or id of the model that the KL penalty holds the policy to. Default: `model`.
            chat_format: From (model, environment) to the chat format between them. Default: `ChatFormat`.
            dtype: Type of the weights, in runners and learner.
            tuning: What of the model is trained: all of it (the default), an adapter, all but the vision tower; a
                `FineTuning` or a mapping of its fields. Of an adapter, nothing else travels to the runners.
            group_size: G, episodes per task; at least 2, or 1 with a critic.
            prompts_per_iteration: Prompts per iteration, over all runners together.
            max_new_tokens: Most tokens of an answer.
            temperature: Sampling temperature; probabilities in the loss are at this temperature too.
            sampler_batch_size: Most answers that a runner draws at a time.
            lanes: Parts that a runner's groups are shared into, each with an environment of its own. With 2, one part's
                answers are rendered and scored while the other's are drawn: for rewards computed elsewhere.
            generator: What runners sample with. None: the policy, with transformers. An `EndpointSettings`: a server,
                which gets the policy's adapter (``docs/generation.md``). Otherwise a function of policy and chat
                format that returns a `Generator`, and has to be picklable.
            num_updates: Passes over the answers of an iteration, in minibatches of `minibatch_size` (None: one step).
            micro_batch_size: Answers per backward pass; gradients add up. Changes memory, not the result.
            dynamic_sampling: Replace groups whose rewards agree by further tasks' (DAPO, arXiv 2503.14476).
            max_extra_rounds: How often in an iteration; then it learns from what it has.
            max_staleness: 0: sample, then learn. k of 1 or more: remote runners draw the next k batches while the
                learner updates, with weights at most k updates older than those that learn from them; correct for it
                with `importance_cap`. See docs/scaling.md.
            max_turns: Most answers of an episode, for environments that would go on; ours end by themselves.
            max_prompt_tokens: Most tokens of a prompt, photos included. Longer conversations lose text, never a photo.
            value_lr_scale: Learning rate of PPO's value head, as a multiple of ``lr``: it starts from nothing.
            kwargs: Those of `Objective` (``advantage``, ``normalise``, ``ratio``, ``clip``, ``kl_coeff``,
                ``kl_estimator``, ``importance_cap``, ``entropy_coeff``, and for PPO ``gamma``, ``lam``,
                ``value_coeff``, ``value_clip``), and RLlib's: ``lr`` (a number or a schedule over answers
                sampled), ``grad_clip``, ``minibatch_size``, …

        Returns:
            This config.
        """
        objective = {field.name: kwargs.pop(field.name) for field in fields(Objective) if field.name in kwargs}
        super().training(**kwargs)
        given = {
            "model_path": model if model is NotProvided else str(model),
            "reference_path": reference if reference in (NotProvided, None) else str(reference),
            "chat_format": chat_format,
            "dtype": dtype,
            "tuning": FineTuning(**tuning) if isinstance(tuning, Mapping) else tuning,
            "group_size": group_size,
            "prompts_per_iteration": prompts_per_iteration,
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "sampler_batch_size": sampler_batch_size,
            "lanes": lanes,
            "generator": generator,
            "num_updates": num_updates,
            "micro_batch_size": micro_batch_size,
            "dynamic_sampling": dynamic_sampling,
            "max_extra_rounds": max_extra_rounds,
            "max_staleness": max_staleness,
            "max_turns": max_turns,
            "max_prompt_tokens": max_prompt_tokens,
            "value_lr_scale": value_lr_scale,
        }
        return self._set(given | objective)

    def _set(self, values: dict[str, Any]) -> GRPOSettings:
        for name, value in values.items():
            if name == "clip" and isinstance(value, (int, float)):
                self.clip = (float(value), float(value))
            elif value is not NotProvided:
                setattr(self, name, value)
        return self

    def algorithm(self, name: str) -> GRPOSettings:
        """Set the options that make up a published algorithm; call `training` afterwards to change some of them.

        Args:
            name: A key of `retouch_agents.rllib.objective.ALGORITHMS`: ``"grpo"``, ``"dr_grpo"``, ``"dapo"``, ….

        Returns:
            This config.

        Raises:
            ConfigurationError: If there is no such algorithm.
        """
        return self.training(**algorithm_options(name))

    @property
    def objective(self) -> Objective:
        """What is optimised.

        Raises:
            ConfigurationError: If a choice is not one of those there are.
        """
        chosen: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(Objective)}
        return Objective(**chosen)

    def validate(self) -> None:
        """Check every setting.

        Raises:
            ConfigurationError: With the setting, its value and what is expected.
        """
        # Said once already: keeps RLlib from announcing that its new API stack is the default.
        log_once(f"{self.algo_class.__name__}_on_new_api_stack")
        super().validate()
        if not self.model_path:
            raise ConfigurationError("No model; give a folder or id: training(model=…).")
        compared = 1 if self.objective.critic else 2  # a critic compares an answer with what it expected
        for name, least in (
            ("group_size", compared),
            ("prompts_per_iteration", 1),
            ("max_new_tokens", 1),
            ("num_updates", 1),
            ("max_turns", 1),
            ("lanes", 1),
        ):
            if getattr(self, name) < least:
                raise ConfigurationError(f"{name} = {getattr(self, name)} should be at least {least}.")
        if self.temperature <= 0:
            raise ConfigurationError(f"temperature = {self.temperature} should be above 0; GRPO has to explore.")
        if self.value_lr_scale <= 0:
            raise ConfigurationError(f"value_lr_scale = {self.value_lr_scale} should be above 0.")
        if self.max_prompt_tokens is not None and self.max_prompt_tokens < 1:
            raise ConfigurationError(f"max_prompt_tokens = {self.max_prompt_tokens} should be at least 1, or None.")
        if self.dynamic_sampling and self.max_extra_rounds < 1:
            raise ConfigurationError(
                f"max_extra_rounds = {self.max_extra_rounds} should be at least 1; without extra rounds leave out "
                "dynamic_sampling."
            )
        self._check_staleness()
        if self.dtype not in ("float32", "bfloat16"):
            raise ConfigurationError(f"dtype = {self.dtype!r} should be 'float32' or 'bfloat16'.")
        if isinstance(self.generator, EndpointSettings) and not self.tuning.lora:
            raise ConfigurationError(
                f"generator = a server at {self.generator.base_url}, which takes new weights as a low-rank adapter "
                "alone. Train one, tuning=FineTuning(lora_rank=…), or leave out generator to sample in the runners."
            )
        check_attention(self.tuning.attention, getattr(torch, self.dtype))
        if self.dtype == "bfloat16" and not self.tuning.lora and log_once("grpo_bfloat16_without_adapter"):
            logger.warning(
                "dtype = 'bfloat16' without an adapter: steps of a small learning rate round to nothing (2% of the "
                "weights move at 1e-6). Train an adapter, tuning=FineTuning(lora_rank=…), whose weights are float32."
            )
        if self.evaluation_interval:
            raise ConfigurationError("evaluation_interval is not supported; export the policy and evaluate that.")

    def _check_staleness(self) -> None:
        stale = self.max_staleness
        if stale < 0:
            raise ConfigurationError(f"max_staleness = {stale} should be 0 or more.")
        # RLlib checks a copy for evaluation too, which has no runners.
        if stale and not self.num_env_runners and not self.in_evaluation:
            raise ConfigurationError(
                f"max_staleness = {stale} needs runners beside the learner; set env_runners(num_env_runners=1) or more."
            )
        if stale and self.dynamic_sampling:
            raise ConfigurationError(
                f"max_staleness = {stale} draws batches before it is known which groups teach; leave out it or "
                "dynamic_sampling."
            )

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The chat model, with a reference if there is a KL penalty and a value head if there is a critic."""
        settings = {
            "model": self.model_path,
            "reference": (self.reference_path or self.model_path) if self.kl_coeff > 0 else None,
            "temperature": self.temperature,
            "dtype": self.dtype,
            "tuning": asdict(self.tuning),
            "value_head": self.objective.critic,
            "entropy_gradient": self.objective.entropy_coeff > 0,
        }
        return RLModuleSpec(module_class=ChatModule, model_config=settings)

    def get_default_learner_class(self) -> type[GRPOLearner]:
        """`GRPOLearner`."""
        return GRPOLearner
