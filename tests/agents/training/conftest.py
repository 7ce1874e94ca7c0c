"""The command as a user calls it, in this process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

Command = Callable[..., Any]


@pytest.fixture
def train(command: Command) -> Command:
    """``retouch-gym train`` with its arguments."""
    return partial(command, "train")
