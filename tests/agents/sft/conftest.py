"""One tiny model, and demonstrations of mixed lengths, for all tests of supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from retouch_agents.models import load_model
from retouch_agents.sft import Demonstration
from retouch_agents.tiny import TinySize, build_tiny
from retouch_gym.chat import assistant_message, user_message
from retouch_gym.tools import IEA

WORDS = ["cooler", "and", "brighter", "please", "the", "photo", "is", "too", "warm", "dark"]
SIZE = TinySize(hidden=32, layers=2, heads=2, vision_hidden=16, vision_layers=1, image_side=32)


def talk(seed: int, count: int) -> str:
    return "".join(f" {WORDS[(seed + place) % len(WORDS)]}" for place in range(count))


def photo(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


class Mixed:
    """Requests of 1 to 60 words with a photo, and answers of 1 to 5."""

    def __init__(self, count: int = 24) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Demonstration:
        words = 1 + 37 * index % 60
        return [user_message(talk(index, words), [photo(index)])], talk(index + 1, 1 + index % 5)


class Talks(Mixed):
    """Conversations of two turns, with a photo in each."""

    def __getitem__(self, index: int) -> Demonstration:
        return [
            user_message(talk(index, 3 + index % 4), [photo(index)]),
            assistant_message(talk(index + 1, 2)),
            user_message(talk(index + 2, 4), [photo(index + 100)]),
            assistant_message(talk(index + 3, 3)),
        ]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("base"), IEA, WORDS, size=SIZE)


@pytest.fixture(scope="session")
def mixed() -> Mixed:
    return Mixed()


@pytest.fixture(scope="session")
def talks() -> Talks:
    return Talks()


@pytest.fixture(scope="session")
def weights() -> Callable[[Path], dict[str, torch.Tensor]]:
    def read(folder: Path) -> dict[str, torch.Tensor]:
        return dict(load_model(folder).state_dict())

    return read
