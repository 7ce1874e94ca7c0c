"""A stage of reinforcement whose rewards differ from the first iteration on, though the model is random.

Words stand for a slider's value by their checksum, so that every answer is an edit. Run as a script (``runpy``, with
its settings as globals), it is a training run in a process of its own, which can be killed.
"""

from __future__ import annotations

import os
import signal
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from retouch_agents.chat import ChatFormat
from retouch_agents.checkpoints import Keep
from retouch_agents.metrics_log import MetricsLog
from retouch_agents.reinforce import GRPOStage, reinforce
from retouch_gym.rewards.base import RewardOutput
from retouch_gym.rewards.likeness import Likeness
from retouch_gym.tasks import Episode
from retouch_gym.types import ToolCall

DOUBLES = "retouch_gym.testing.doubles"
ENV = {
    "dataset": f"{DOUBLES}:TinyDataset",
    "renderer": f"{DOUBLES}:TinyRenderer",
    "reward": "likeness",
    "max_turns": 1,
}


class DiceChat(ChatFormat):
    """Reads every answer as a value of exposure."""

    def parse(self, text: str, task: str = "edit") -> Any:
        return ToolCall("exposure", {"value": zlib.crc32(text.encode()) % 101 - 50})


def make_chat(model: str, env: Any) -> DiceChat:
    return DiceChat.from_pretrained(model, env.unwrapped.toolset)


@dataclass(frozen=True)
class DiceStage(GRPOStage):
    """A stage that takes a second or two."""

    iterations: int = 6
    prompts_per_iteration: int = 2
    group_size: int = 3
    env_runners: int = 0
    learning_rate: float = 3e-3
    checkpoint_every: int = 2
    max_new_tokens: int = 6

    def algorithm_config(self, model: Path) -> AlgorithmConfig:
        config: Any = super().algorithm_config(model)
        config.chat_format = make_chat
        return config


class Fatal(Likeness):
    """Likeness. While `marker` is there, the first process that scores removes it and dies as by ``kill -9``."""

    def __init__(self, marker: str) -> None:
        super().__init__()
        self.marker = Path(marker)

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        try:
            self.marker.unlink()
        except FileNotFoundError:
            return super().score(episodes)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still alive")


def stage(env: dict[str, Any] | None = None, **changes: Any) -> DiceStage:
    return DiceStage({**ENV, **(env or {})}, **changes)


if __name__ == "__main__":
    # Workers and checkpoints get what is defined here by value.
    cloudpickle.register_pickle_by_value(sys.modules[DiceStage.__module__])
    run: dict[str, Any] = globals()["RUN"]
    out = Path(run["out"])
    reinforce(
        Path(run["model"]),
        out,
        stage(**run["stage"]),
        MetricsLog(out.with_suffix(".jsonl")),
        lambda step, text: None,
        keep=Keep(last=run["keep_last"]),
    )
