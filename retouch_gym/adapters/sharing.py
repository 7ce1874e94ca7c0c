"""Many environments over one dataset, reward and renderer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.users.base import get_user


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
    shared: dict[str, Any] = {name: getattr(template, name) for name in ("toolset", "dataset", "reward", "renderer")}
    if options.get("user") is not None:
        shared["user"] = get_user(options["user"], **(options.get("user_kwargs") or {}))
    # The template's dataset has its modes applied already.
    plain = {name: value for name, value in options.items() if name != "task" and not name.endswith("_kwargs")}
    return lambda: RetouchEnv(**{**plain, **shared})
