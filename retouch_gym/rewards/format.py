"""The reward of answering in the form that was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.tasks import Episode


class FormatReward(Reward):
    """Share of the turns whose answer could be read and whose calls were taken, 0..1.

    Components: `parsed` is the share of turns from which calls could be read, `valid` of those that were also
    not refused; the value is `valid`. An episode without turns is worth 0.
    """

    name = "format"
    range = (0.0, 1.0)
    components = ("parsed", "valid")

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order."""
        return [self._score_one(episode) for episode in episodes]

    def _score_one(self, episode: Episode) -> RewardOutput:
        count = max(1, len(episode.turns))
        parsed = sum(turn.parsed for turn in episode.turns) / count
        valid = sum(turn.parsed and turn.error is None for turn in episode.turns) / count
        return RewardOutput(valid, {"parsed": parsed, "valid": valid})
