"""A reward of your own: keep the photo's mean brightness while moving towards the reference.

Run: python examples/own_reward.py
"""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium as gym
import numpy as np

import retouch_gym
from retouch_gym.errors import RetouchError
from retouch_gym.rewards import Reward, RewardOutput, pixel_distance
from retouch_gym.tasks import Episode
from retouch_gym.testing import check_reward


class CalmLikeness(Reward):
    """Closeness to the reference, minus how far the mean brightness moved from the reference's."""

    name = "calm-likeness"
    range = (-2.0, 1.0)
    components = ("closeness", "brightness_shift")
    needs_reference = True

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode. One that cannot be scored gets an error, not a number, and spoils no other."""
        outputs = []
        for episode in episodes:
            try:
                outputs.append(self._score(episode))
            except RetouchError as error:
                outputs.append(RewardOutput(None, error=str(error)))
        return outputs

    def _score(self, episode: Episode) -> RewardOutput:
        reference = episode.reference
        if reference is None:
            return RewardOutput(None, error=f"task {episode.task.id!r} has no reference")
        closeness = 1.0 - pixel_distance(episode.image, reference)
        shift = abs(float(np.mean(episode.image)) - float(np.mean(reference))) / 255.0
        return RewardOutput(closeness - shift, {"closeness": closeness, "brightness_shift": shift})


def main() -> None:
    """Check the reward, then use it."""
    check_reward(CalmLikeness())
    env = gym.make("Retouch/Retouch-v0", reward=CalmLikeness(), max_turns=3)
    observation, info = env.reset(seed=1)
    print(info["task_id"], "-", observation["instruction"])
    for action in (
        retouch_gym.ToolCall("exposure", {"value": 15}),
        retouch_gym.ToolCall("warmth", {"value": 10}),
        retouch_gym.ToolCall("finish"),
    ):
        observation, reward, terminated, _, info = env.step(action)
        print(f"{action.name}: {observation['feedback']}")
    assert terminated
    print("reward", round(float(reward), 4), info["reward_components"])


if __name__ == "__main__":
    main()
