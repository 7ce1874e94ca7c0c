"""A tiny model and a stage of reinforcement on it, for tests of whole runs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from ray import cloudpickle

from retouch_agents.tiny import TinySize, build_tiny
from retouch_gym.cli import main
from retouch_gym.tools import IEA


@dataclass(frozen=True)
class Said:
    """What a call of the command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """``retouch-gym`` with its arguments, as a user calls it, in this process."""

    def call(*arguments: str) -> Said:
        capsys.readouterr()
        try:
            main(list(arguments))
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def dice() -> ModuleType:
    """The module beside this file, which workers get by value, as they cannot import tests."""
    spec = importlib.util.spec_from_file_location("retouch_dice", Path(__file__).with_name("dice.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    cloudpickle.register_pickle_by_value(module)
    return module


@pytest.fixture(scope="session")
def seedling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of about 50,000 random weights."""
    size = TinySize(hidden=32, layers=1, heads=2, vision_hidden=16, vision_layers=1, image_side=32)
    return build_tiny(tmp_path_factory.mktemp("seedling"), IEA, ["cooler", "brighter", "please"], size=size)
