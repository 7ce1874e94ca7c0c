"""Settings of the main job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retouch_agents.tiny import TinySize

RESOLUTION = 64
"""Side of the square crops that the tiny agent works on, in pixels."""

MODEL_SIZE = TinySize(image_side=32)
"""The agent sees each photo at 32 pixels, as 4 image tokens: enough for global sliders, and four times as fast."""


@dataclass(frozen=True)
class DemoConfig:
    """Settings of the main job.

    Args:
        photos: Folders of the user's own training photos; empty for the samples.
        seed: Seed of data, weights and sampling.
        sft_steps: Steps of supervised fine-tuning.
        sft_batch: Examples per step.
        grpo_iterations: Iterations of GRPO.
        prompts_per_iteration: Tasks per iteration.
        group_size: Answers per task.
        env_runners: Remote Ray env runners.
        test_tasks: Held-out tasks, half of each kind.
    """

    photos: tuple[str, ...] = ()
    seed: int = 0
    sft_steps: int = 2000
    sft_batch: int = 44
    grpo_iterations: int = 320
    prompts_per_iteration: int = 16
    group_size: int = 8
    env_runners: int = 2
    test_tasks: int = 480

    def env_config(self, split: str) -> dict[str, Any]:
        """Arguments of `RetouchEnv`: single-shot editing of crops, paid by the edit reward R = .7L + .3U."""
        training = split == "train"
        options: dict[str, Any] = {
            "split": split,
            "size": 1_000_000 if training else self.test_tasks,
            "resolution": RESOLUTION,
            "seed": self.seed,
            "photos": list(self.photos) or None,
        }
        return {"toolset": "iea", "dataset": "samples", "dataset_kwargs": options, "reward": "edit", "max_turns": 1}
