"""The command as a user calls it, in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from retouch_gym.cli import main


@dataclass(frozen=True)
class Said:
    """What a call of the command left behind."""

    code: int
    out: str
    err: str


Train = Callable[..., Said]


@pytest.fixture
def train(capsys: pytest.CaptureFixture[str]) -> Train:
    """``retouch-gym train`` with its arguments."""

    def call(*arguments: str) -> Said:
        capsys.readouterr()
        try:
            main(["train", *arguments])
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return call
