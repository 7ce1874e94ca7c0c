"""Tiny models of the families that agents are tested with."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

NAMES = ("qwen3_vl", "qwen2_5_vl", "smolvlm", "idefics3", "llava", "internvl")


@pytest.fixture(scope="session")
def families() -> ModuleType:
    """The module beside this file; tests are no packages, so that it cannot be imported by name."""
    spec = importlib.util.spec_from_file_location("retouch_test_families", Path(__file__).with_name("families.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", params=NAMES)
def family(request: pytest.FixtureRequest, families: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny model of every family in turn."""
    build = families.FAMILIES[request.param]
    folder: Path = build(tmp_path_factory.mktemp(request.param))
    return folder


@pytest.fixture(scope="session")
def qwen(families: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny Qwen3-VL, where one family is enough."""
    folder: Path = families.qwen3_vl(tmp_path_factory.mktemp("qwen"))
    return folder
