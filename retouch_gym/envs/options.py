"""The arguments that every environment takes, and the engine that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from retouch_gym.datasets.base import Dataset, get_dataset
from retouch_gym.datasets.modes import ModeDataset
from retouch_gym.envs.engine import Engine, OnError, one_of
from retouch_gym.envs.scoring import RewardMode
from retouch_gym.envs.view import View
from retouch_gym.renderers.base import Renderer, get_renderer
from retouch_gym.rewards.base import Reward, get_reward
from retouch_gym.tasks import MODES, Mode
from retouch_gym.tools.toolset import Toolset, get_toolset
from retouch_gym.users.base import User, get_user


class EnvOptions(TypedDict, total=False):
    """Arguments of every environment; `RetouchEnv` explains them."""

    toolset: str | Toolset
    dataset: str | Dataset
    dataset_kwargs: Mapping[str, Any] | None
    task: Mode | Sequence[Mode] | None
    user: str | User | None
    user_kwargs: Mapping[str, Any] | None
    reward: str | Reward
    reward_kwargs: Mapping[str, Any] | None
    reward_mode: RewardMode
    discount: float
    renderer: str | Renderer
    max_turns: int
    on_reward_error: OnError
    cache_mb: float
    render_mode: str | None


def make_engine(view: View, options: EnvOptions, *, prefetch: bool = False, threads: int = 1) -> Engine:
    """The engine of what an environment's arguments name.

    Raises:
        ConfigurationError: If an argument is not known or the arguments do not go together.
        DatasetError: If the dataset cannot be found or is empty.
    """
    for name in options:
        one_of("argument", name, EnvOptions.__annotations__)
    user = options.get("user")
    return Engine(
        view=view,
        toolset=get_toolset(options.get("toolset", "iea")),
        renderer=get_renderer(options.get("renderer", "native")),
        reward=get_reward(options.get("reward", "likeness"), **(options.get("reward_kwargs") or {})),
        dataset=_tasks(options),
        user=None if user is None else get_user(user, **(options.get("user_kwargs") or {})),
        max_turns=options.get("max_turns", 8),
        reward_mode=options.get("reward_mode", "final"),
        discount=options.get("discount", 1.0),
        on_reward_error=options.get("on_reward_error", "raise"),
        cache_mb=options.get("cache_mb", 128),
        prefetch=prefetch,
        threads=threads,
    )


def _tasks(options: EnvOptions) -> Dataset:
    dataset = get_dataset(options.get("dataset", "samples"), **(options.get("dataset_kwargs") or {}))
    task = options.get("task")
    if task is None:
        return dataset
    modes = (task,) if isinstance(task, str) else tuple(task)
    for mode in modes:
        one_of("task", mode, MODES)
    return ModeDataset(dataset, modes)
