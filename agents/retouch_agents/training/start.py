"""The model that a run starts from: a folder or id, or a tiny one that is built from nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gymnasium

from retouch_agents.checkpoints import swap_folder
from retouch_agents.tiny import build_tiny
from retouch_agents.training.config import EnvironmentConfig, TrainConfig
from retouch_gym.datasets.base import Dataset
from retouch_gym.datasets.grammar import words
from retouch_gym.spaces import MessagesSpace
from retouch_gym.tools.toolset import get_toolset

_TASKS_READ = 200
"""Tasks of each environment whose words a tiny model knows; the built-in grammar's it knows all."""


def starting_model(config: TrainConfig, folder: Path) -> Path:
    """The folder or id that the first stage starts from; a tiny model is written to `folder` if it is not there.

    Raises:
        DatasetError: If a tiny model's words are to come from a dataset that is not there.
    """
    if config.model.tiny is None:
        return Path(str(config.model.path))
    if not folder.is_dir():
        environments = [config.environment_of(name) for name in config.stages]
        known = sorted({word for environment in environments for word in spoken_words(environment)} | set(words()))
        fresh = folder.with_name(folder.name + ".new")
        toolset = get_toolset(config.environment.toolset)
        swap_folder(build_tiny(fresh, toolset, known, size=config.model.tiny, seed=config.seed), folder)
    return folder


def open_environment(environment: EnvironmentConfig) -> Any:
    """The environment of a configuration, to look at its tasks: a reward that is a model is not loaded."""
    return gymnasium.make(environment.id, disable_env_checker=True, **unjudged(environment))


def unjudged(environment: EnvironmentConfig) -> dict[str, Any]:
    """Arguments of the environment with a reward that loads nothing, for whoever wants its tasks alone."""
    arguments = environment.arguments
    if ":" in environment.reward:
        arguments |= {"reward": "format", "reward_kwargs": None}
        arguments.pop("format_weight", None)
    return arguments


def spoken_words(environment: EnvironmentConfig) -> set[str]:
    """Words of the environment's requests, of the reasoning of its tasks, and of its prompts where it writes them."""
    env = open_environment(environment)
    try:
        texts = []
        dataset = getattr(env.unwrapped, "dataset", None)
        if isinstance(dataset, Dataset):
            tasks = (dataset[index] for index in range(min(_TASKS_READ, len(dataset))))
            texts += [text for task in tasks for text in (task.instruction, task.reasoning)]
        if isinstance(env.observation_space, MessagesSpace):
            messages, _ = env.reset(seed=0)
            texts += [
                block["text"] for message in messages for block in message["content"] if block.get("type") == "text"
            ]
    finally:
        env.close()
    return {word for text in texts for word in re.findall(r"[a-z]+", text.lower())}


def writes_prompts(environment: EnvironmentConfig) -> bool:
    """Whether the environment writes the conversation itself, as `Retouch/Chat-v0` does."""
    env = open_environment(environment)
    try:
        return isinstance(env.observation_space, MessagesSpace)
    finally:
        env.close()
