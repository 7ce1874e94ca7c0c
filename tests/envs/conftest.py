from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.testing import TinyDataset, TinyRenderer


@pytest.fixture
def make_env() -> Callable[..., RetouchEnv]:
    """Builds a small, fast environment; arguments replace the defaults."""

    def make(**kwargs: Any) -> RetouchEnv:
        return RetouchEnv(**{"dataset": TinyDataset(), "renderer": TinyRenderer(), **kwargs})

    return make
