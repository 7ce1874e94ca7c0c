"""The public checkers over everything that the package brings by name."""

from __future__ import annotations

import shutil

import pytest

from retouch_gym.datasets import get_dataset
from retouch_gym.renderers import RENDERERS, get_renderer
from retouch_gym.renderers.engines.darktable import DarktableRenderer
from retouch_gym.renderers.engines.engine import EngineRenderer
from retouch_gym.renderers.engines.rawtherapee import RawTherapeeRenderer
from retouch_gym.testing import TinyDataset, TinyRenderer, check_dataset, check_renderer, check_toolset
from retouch_gym.tools import TOOLSETS

PROGRAMS = {"rawtherapee": RawTherapeeRenderer, "darktable": DarktableRenderer}


@pytest.mark.parametrize("name", TOOLSETS)
def test_every_toolset(name: str) -> None:
    check_toolset(name)


@pytest.mark.filterwarnings("ignore:.*cannot render.*")
@pytest.mark.parametrize("toolset", TOOLSETS)
@pytest.mark.parametrize("renderer", RENDERERS)
def test_every_renderer_with_every_toolset_it_lists(renderer: str, toolset: str) -> None:
    made = PROGRAMS[renderer](on_unsupported="warn") if renderer in PROGRAMS else get_renderer(renderer)
    if toolset not in made.toolsets:
        pytest.skip(f"{renderer} does not render {toolset}")
    if isinstance(made, EngineRenderer) and shutil.which(made.program) is None:
        pytest.skip(f"{made.program} is not installed")
    check_renderer(made, toolset, identity=not toolset.endswith("-compat"))


def test_the_sample_dataset() -> None:
    check_dataset(get_dataset("samples"), other_splits=[get_dataset("samples", split="test")])


def test_the_stand_ins_keep_the_contracts_too() -> None:
    check_renderer(TinyRenderer())
    check_dataset(TinyDataset(), other_splits=[TinyDataset(split="test"), TinyDataset(split="validation")])
