"""Rewards that know nothing: what a learned reward has to beat."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.tasks import Episode


class RandomReward(Reward):
    """A number between 0 and 10 drawn by a hash of the photo after the edit: the same for the same edit, and blind.

    A policy that improves under a learned reward has learned something from it only if it does not improve as much
    under this one; GRPO drifts under noise, and may drift upwards.

    Args:
        seed: Another seed, other numbers.
    """

    name = "random"
    range = (0.0, 10.0)

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order."""
        return [RewardOutput(self._draw(episode)) for episode in episodes]

    def _draw(self, episode: Episode) -> float:
        key = f"{self.seed}/{episode.task.id}".encode()
        # A key has at most 64 bytes; cut, it would lose the seed.
        digest = hashlib.blake2b(episode.image.tobytes(), key=key if len(key) <= 64 else hashlib.sha512(key).digest())
        return 10 * int.from_bytes(digest.digest()[:8], "big") / 2**64
