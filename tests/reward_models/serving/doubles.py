"""Rewards with a temper, for pools and servers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retouch_gym.errors import RewardError
from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.tasks import Episode


class Brightness(Reward):
    """Mean of the edited photo times a scale; notes every batch it scores in a file.

    Args:
        scale: Factor.
        seconds: Time each batch takes.
        log: File that gets a line per batch: process, scale, ids.
        die: While this file is there, the process that meets the instruction "die" kills itself like kill -9, once.
        broken: Raise in the constructor.
        top: Upper end of the range.
        group: Score groups of a task: relative to the mean of the episodes of the same task.
    """

    name = "brightness"
    components = ("mean",)

    def __init__(
        self,
        scale: float = 1.0,
        seconds: float = 0.0,
        log: str = "",
        die: str = "",
        broken: bool = False,
        top: float = 255.0,
        group: bool = False,
    ) -> None:
        if broken:
            raise RewardError("no such weights")
        self.scale, self.seconds, self.log, self.die = scale, seconds, log, die
        self.range = (0.0, top) if not group else (-255.0, 255.0)
        self.scope = "group" if group else "episode"

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        if self.die and any(episode.task.instruction == "die" for episode in episodes):
            marker = Path(self.die)
            if marker.exists():
                if marker.read_text() != "always":
                    marker.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(f"{os.getpid()} {self.scale} {len(episodes)}\n")
        if any(episode.task.instruction == "raise" for episode in episodes):
            raise RewardError("this batch cannot be scored")
        return [self._score_one(episode, episodes) for episode in episodes]

    def _score_one(self, episode: Episode, episodes: Sequence[Episode]) -> RewardOutput:
        if episode.task.instruction == "fail":
            return RewardOutput(None, error="this episode cannot be scored")
        mean = float(episode.image.mean())
        if self.scope == "group":
            group = [float(other.image.mean()) for other in episodes if other.task.id == episode.task.id]
            mean -= sum(group) / len(group)
        return RewardOutput(mean * self.scale, {"mean": mean})


def make(**kwargs: Any) -> Reward:
    return Brightness(**kwargs)
