"""A cheap environment with text actions, and the chat format that goes with it.

The reward is the share of the answer's tokens that are the word the task asks for, so that a tiny random
model can learn it in a few iterations.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from retouch_agents.chat import ChatFormat
from retouch_agents.encoding import Prompt
from retouch_gym.errors import RewardError
from retouch_gym.tools.iea import IEA
from retouch_gym.types import Unparsable

WORDS = ("make", "it", "warmer", "a", "little", "brighter", "please", "now")
NUM_TASKS = 12
TARGET = "warmer"


class WordBandit(gymnasium.Env[dict[str, Any], Any]):
    """Say "warmer". Options make it fail in the ways that real environments do.

    Args:
        dataset: Whether tasks are chosen by index; otherwise by the seed alone.
        broken_tasks: Indices of tasks whose reset raises.
        unscorable_tasks: Indices of tasks whose reward fails.
        max_turns: As in `RetouchEnv`.
        fatal_file: While this file exists, the next reset removes it and kills the process.
    """

    observation_space = gymnasium.spaces.Dict({})
    action_space = gymnasium.spaces.Discrete(1)

    def __init__(
        self,
        dataset: bool = True,
        broken_tasks: tuple[int, ...] = (),
        unscorable_tasks: tuple[int, ...] = (),
        max_turns: int = 1,
        fatal_file: str | None = None,
    ) -> None:
        if dataset:
            self.dataset = range(NUM_TASKS)
        self.toolset = IEA
        self.broken_tasks = broken_tasks
        self.unscorable_tasks = unscorable_tasks
        self.max_turns = max_turns
        self.fatal_file = fatal_file
        self.index = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        if self.fatal_file:
            # Two runners may see the file at once: the one that removes it dies, and the other goes on.
            with suppress(FileNotFoundError):
                Path(self.fatal_file).unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        self.index = options["index"] if options else int(self.np_random.integers(NUM_TASKS))
        if self.index in self.broken_tasks:
            raise OSError(f"photo {self.index} is gone")
        rng = np.random.default_rng(self.index)
        photo = rng.integers(0, 256, (32, 32 + 16 * (self.index % 3), 3), dtype=np.uint8)
        words = " ".join(rng.choice(WORDS, 1 + self.index % 4))
        return {"image": photo, "instruction": words}, {"task_id": f"task-{self.index}"}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        if self.index in self.unscorable_tasks:
            raise RewardError("the judge is away")
        if isinstance(action, Unparsable):
            return {}, -1.0, True, False, {"reward_valid": True, "tool_error": action.reason}
        words = action.split()
        share = words.count(TARGET) / max(len(words), 1)
        components = {"share": share, "length": float(len(words))}
        return {}, share, True, False, {"reward_valid": True, "reward_components": components, "tool_error": None}


class WordChat:
    """Passes words on as they are; an answer without a word is unparsable."""

    def __init__(self, model: str) -> None:
        self.format = ChatFormat.from_pretrained(model, IEA)
        self.pad_id = self.format.pad_id
        self.eos_id = self.format.eos_id

    def encode(self, observation: Mapping[str, Any]) -> Prompt:
        return self.format.encode({**observation, "recipe": "{}", "feedback": "", "turns_left": 1})

    def decode(self, token_ids: NDArray[np.int64]) -> str:
        return " ".join(self.format.decode([token]).strip() for token in token_ids)

    def parse(self, text: str) -> Any:
        return text if text.strip() else Unparsable("no word", text)


def make_env(config: Mapping[str, Any]) -> WordBandit:
    return WordBandit(**config)


def make_chat(model: str, env: gymnasium.Env[Any, Any]) -> WordChat:
    return WordChat(model)
