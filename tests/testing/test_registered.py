"""The public checkers over everything that the package brings by name."""

from __future__ import annotations

import pytest

from retouch_gym.datasets import get_dataset
from retouch_gym.renderers import RENDERERS, get_renderer
from retouch_gym.testing import TinyDataset, TinyRenderer, check_dataset, check_renderer, check_toolset
from retouch_gym.tools import TOOLSETS


@pytest.mark.parametrize("name", TOOLSETS)
def test_every_toolset(name: str) -> None:
    check_toolset(name)


@pytest.mark.parametrize("toolset", TOOLSETS)
@pytest.mark.parametrize("renderer", RENDERERS)
def test_every_renderer_with_every_toolset_it_lists(renderer: str, toolset: str) -> None:
    if toolset not in get_renderer(renderer).toolsets:
        pytest.skip(f"{renderer} does not render {toolset}")
    check_renderer(renderer, toolset, identity=not toolset.endswith("-compat"))


def test_the_sample_dataset() -> None:
    check_dataset(get_dataset("samples"), other_splits=[get_dataset("samples", split="test")])


def test_the_stand_ins_keep_the_contracts_too() -> None:
    check_renderer(TinyRenderer())
    check_dataset(TinyDataset(), other_splits=[TinyDataset(split="test"), TinyDataset(split="validation")])
