"""GRPO on the real environment: photos, sliders, and a reward by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from retouch_agents.rllib import GRPOConfig
from retouch_gym.datasets.base import Dataset
from retouch_gym.tasks import Task
from retouch_gym.types import Image

pytest.importorskip("retouch_gym.renderers.native")
pytestmark = pytest.mark.ray


@dataclass(frozen=True)
class Noise:
    """A photo of random pixels around a level."""

    seed: int
    level: int

    def load(self) -> Image:
        rng = np.random.default_rng(self.seed)
        return rng.integers(self.level - 40, self.level + 40, (48, 64, 3)).astype(np.uint8)


class DarkPhotos(Dataset):
    """Six photos that are too dark."""

    name = "dark"
    split = "train"

    def __len__(self) -> int:
        return 6

    def id_of(self, index: int) -> str:
        return f"dark-{index}"

    def index_of(self, task_id: str) -> int:
        return int(task_id.removeprefix("dark-"))

    def __getitem__(self, index: int) -> Task:
        return Task(self.id_of(index), Noise(index, 80), "make it brighter", reference=Noise(index, 120))


def test_two_iterations_on_photos(tiny: Path, cluster: None) -> None:
    algo = (
        GRPOConfig()
        .environment("Retouch/Retouch-v0", env_config={"dataset": DarkPhotos(), "reward": "edit", "max_turns": 1})
        .training(model=tiny, group_size=2, prompts_per_iteration=4, max_new_tokens=8, lr=1e-3)
        .env_runners(num_env_runners=0)
        .build_algo()
    )
    try:
        for _ in range(2):
            numbers = algo.train()["grpo"]
        assert numbers["answers"] == 8
        # A random model writes no sliders, and the edit reward pays −1 for that.
        assert numbers["well_formed_rate"] == 0.0
        assert numbers["reward_mean"] == -1.0
        assert numbers["valid_rate"] == 1.0
        assert all(np.isfinite(value) for value in numbers.values())
    finally:
        algo.stop()


def test_a_reward_that_ranks_the_answers_of_a_group(tiny: Path, cluster: None) -> None:
    algo = (
        GRPOConfig()
        .environment("Retouch/Retouch-v0", env_config={"dataset": DarkPhotos(), "reward": "rank", "max_turns": 1})
        .training(model=tiny, group_size=4, prompts_per_iteration=3, max_new_tokens=8, lr=1e-3)
        .env_runners(num_env_runners=0)
        .build_algo()
    )
    try:
        numbers = algo.train()["grpo"]
    finally:
        algo.stop()
    assert numbers["answers"] == 12
    assert numbers["valid_rate"] == 1.0
    # Whoever wins, somebody else loses.
    assert numbers["reward_mean"] == pytest.approx(0.5)
    assert {"component/likeness", "component/likeness.distance"} <= set(numbers)


def test_conversations_with_edits_and_summaries(tiny: Path, cluster: None) -> None:
    config = {
        "dataset_kwargs": {"kinds": ["instruct"], "size": 4, "resolution": 32},
        "task": ["edit", "summary", "match"],
        "reward": "task",
        "format_weight": 0.5,
        "prompts": {"user": " {instruction}"},
        "max_turns": 1,
    }
    algo = (
        GRPOConfig()
        .environment("Retouch/Chat-v0", env_config=config)
        .training(model=tiny, group_size=2, prompts_per_iteration=12, max_new_tokens=8, lr=1e-3)
        .env_runners(num_env_runners=0)
        .build_algo()
    )
    try:
        numbers = algo.train()["grpo"]
    finally:
        algo.stop()
    assert numbers["answers"] == 24
    assert numbers["valid_rate"] == 1.0
    # A random model says nothing that counts: −1 for edits and 0 for words and for goals, no good form.
    assert numbers["reward_mean"] == pytest.approx(-1 / 3)
