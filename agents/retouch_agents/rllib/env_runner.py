"""The env runner: groups of episodes of one task each, answered by the policy and scored by the environment."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import gymnasium
import torch
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from retouch_agents.chat import ChatFormat, ConversationFormat
from retouch_agents.generation import Generator
from retouch_agents.models import load_processor
from retouch_agents.rllib.conversing import Chat, Drawing
from retouch_agents.rllib.generators import Follower, make_generator
from retouch_agents.rllib.lanes import play_in_lanes
from retouch_agents.rllib.playing import player_of
from retouch_agents.rllib.rl_module import ChatModule
from retouch_agents.rllib.rollouts import GroupRequest, SampleResult
from retouch_gym.errors import ConfigurationError
from retouch_gym.spaces import MessagesSpace

WEIGHTS_VERSION = "grpo_weights_version"
"""Key of a runner's state: which weights it holds, counted by the algorithm."""

UNKNOWN_VERSION = -1


def default_chat(model: str, env: gymnasium.Env[Any, Any]) -> Chat:
    """The chat format of a checkpoint for an environment.

    Where observations are conversations (`Retouch/Chat-v0`, `Retouch/Judge-v0`) the environment's own prompt counts,
    in the others the one saved with the checkpoint.

    Raises:
        ConfigurationError: If the environment neither writes prompts nor has a toolset.
    """
    if isinstance(env.observation_space, MessagesSpace):
        return ConversationFormat(load_processor(model))
    toolset = getattr(env.unwrapped, "toolset", None)
    if toolset is None:
        raise ConfigurationError(
            f"{type(env.unwrapped).__name__} has no toolset, so the model's answers cannot be read; "
            "pass training(chat_format=function of (model, env))."
        )
    return ChatFormat.from_pretrained(model, toolset)


class RetouchEnvRunner(EnvRunner, Checkpointable):
    """Samples groups on request. Keeps no state but weights: what to sample is the algorithm's decision.

    Args:
        config: The algorithm's config.
        kwargs: RLlib's: ``env_creator``, ``worker_index``, …
    """

    config: Any
    env: Any
    module: ChatModule

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self.weights_version = UNKNOWN_VERSION
        self._env_creator = kwargs["env_creator"]
        self._lane_envs: list[Any] = []
        if self.worker_index:
            torch.set_num_threads(max(1, int(self.config.num_cpus_per_env_runner)))
        self.make_env()
        self.make_module()

    def make_env(self) -> None:
        """Build the environment and the chat format that goes with it.

        Raises:
            ConfigurationError: If the chat format cannot keep prompts within `max_prompt_tokens`.
        """
        self._close_envs()
        self.env = self._another_env()
        chat = self.config.chat_format or default_chat
        self.chat: Chat = chat(self.config.model_path, self.env)
        if self.config.max_prompt_tokens is not None:
            if not isinstance(self.chat, ConversationFormat):
                raise ConfigurationError(
                    f"max_prompt_tokens = {self.config.max_prompt_tokens}, and {type(self.chat).__name__} cuts none. "
                    "Leave it out, or derive the chat format from retouch_agents.chat.ConversationFormat."
                )
            self.chat.max_prompt_tokens = self.config.max_prompt_tokens
        self._lane_envs = [self.env, *(self._another_env() for _ in range(1, self.config.lanes))]
        self.players = [player_of(env, self._another_env) for env in self._lane_envs]

    def _close_envs(self) -> None:
        for env in self._lane_envs:
            env.close()
        self._lane_envs = []

    def _another_env(self) -> Any:
        context = EnvContext(self.config.env_config, worker_index=self.worker_index or 0, num_workers=self.num_workers)
        return self._env_creator(context)

    def make_module(self) -> None:
        """Build the policy without its reference, and the generator that samples from it."""
        spec = self.config.get_rl_module_spec(spaces=self.get_spaces(), inference_only=True)
        self.module = spec.build()
        gpu = self.config.num_gpus_per_env_runner > 0 and torch.cuda.is_available()
        self.module.to("cuda" if gpu else "cpu")
        self.generator: Generator = make_generator(
            self.config.generator, self.module.policy, self.chat, max_rows=self.config.sampler_batch_size
        )

    def num_tasks(self) -> int:
        """Number of tasks in the environment's dataset; 0 if it has none."""
        dataset = getattr(self.env.unwrapped, "dataset", None)
        return 0 if dataset is None else len(dataset)

    def sample(
        self, *, requests: Sequence[GroupRequest] = (), version: int | None = None, **kwargs: Any
    ) -> SampleResult:
        """Play every request G times.

        Args:
            requests: The groups to sample.
            version: Weights to sample with. A runner that holds others, for instance because it was restarted
                a moment ago, answers nothing. None: whatever it holds.
            kwargs: Ignored.

        Returns:
            The rollouts, see `retouch_agents.rllib.conversing.converse`.
        """
        if version is not None and version != self.weights_version:
            return SampleResult()
        config = self.config
        drawing = Drawing(config.group_size, config.temperature, config.max_new_tokens, config.max_turns)
        found = play_in_lanes(self.chat, self.generator, self.players, requests, drawing)
        self.num_env_steps_sampled_lifetime += len(found.rollouts)
        return found

    def get_spaces(self) -> dict[str, tuple[Any, Any]]:
        """The environment's spaces, as RLlib asks for them."""
        spaces = (self.env.observation_space, self.env.action_space)
        return {INPUT_ENV_SPACES: spaces, INPUT_ENV_SINGLE_SPACES: spaces, DEFAULT_MODULE_ID: spaces}

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Weights (unless left out), their version, and the number of answers sampled."""
        state: dict[str, Any] = {
            NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime,
            WEIGHTS_VERSION: self.weights_version,
        }
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = self.module.get_state(inference_only=True)
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over weights. Those that come without a version, from RLlib itself, count as unknown."""
        weights = state.get(COMPONENT_RL_MODULE)
        if weights is not None:
            self.module.set_state(weights.get(DEFAULT_MODULE_ID, weights))
            if isinstance(self.generator, Follower):
                self.generator.follow(self.module.policy)
            self.weights_version = int(state.get(WEIGHTS_VERSION, UNKNOWN_VERSION))
        if NUM_ENV_STEPS_SAMPLED_LIFETIME in state:
            self.num_env_steps_sampled_lifetime = state[NUM_ENV_STEPS_SAMPLED_LIFETIME]

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """How to build this runner again."""
        return (), {"config": self.config, "env_creator": self._env_creator}

    def assert_healthy(self) -> None:
        """Fail if the runner was not built completely."""
        assert self.env is not None
        assert self.module is not None

    def get_metrics(self) -> dict[str, Any]:
        """Nothing: the algorithm computes its numbers from the rollouts."""
        return {}

    def stop(self) -> None:
        """Close the environments, and give back what a generator holds elsewhere."""
        self._close_envs()
        if isinstance(self.generator, Follower):
            self.generator.close()
