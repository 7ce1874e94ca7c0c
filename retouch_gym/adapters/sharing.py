"""Many environments over one dataset, reward and renderer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from retouch_gym.envs.retouch import RetouchEnv


def env_factory(**options: Any) -> Callable[[], RetouchEnv]:
    """A factory of environments that are built alike and share their dataset, reward, renderer and user.

    What is expensive (listing a dataset, loading a judge) happens once and here, and so do complaints about
    the options. The environments may be used in different threads, one thread at a time each; a reward that
    cannot be called from several threads has to lock itself.

    Args:
        options: Arguments of `RetouchEnv`.

    Returns:
        A function without arguments that makes an environment.

    Raises:
        ConfigurationError: If an option is not known or the options do not go together.
        DatasetError: If the dataset cannot be found or is empty.
    """
    template = RetouchEnv(**options)
    with_kwargs = {name.removesuffix("_kwargs") for name in options if name.endswith("_kwargs")}
    shared = {name: getattr(template, name) for name in {"toolset", "dataset", "reward", "renderer"} | with_kwargs}
    plain = {name: value for name, value in options.items() if not name.endswith("_kwargs")}
    return lambda: RetouchEnv(**{**plain, **shared})
