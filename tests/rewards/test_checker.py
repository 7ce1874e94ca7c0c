"""`check_reward` finds rewards that break the contract."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from retouch_gym.rewards import Reward, RewardOutput
from retouch_gym.rewards.likeness import Likeness
from retouch_gym.tasks import Episode
from retouch_gym.testing import check_reward


class Constant(Reward):
    name = "constant"
    range = (0.0, 1.0)

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        return [RewardOutput(0.5) for _ in episodes]


class DependsOnBatch(Likeness):
    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        return [
            RewardOutput((output.value or 0.0) / len(episodes), output.components) for output in super().score(episodes)
        ]


class Shuffles(Likeness):
    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        return super().score(episodes)[::-1]


class FailureScoresZero(Likeness):
    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        parts = dict.fromkeys(self.components, 0.0)
        return [output if output.valid else RewardOutput(0.0, parts) for output in super().score(episodes)]


class OutOfRange(Likeness):
    range = (-1.0, 0.5)


class NoComponents(Likeness):
    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        return [RewardOutput(output.value, error=output.error) for output in super().score(episodes)]


class Forgetful(Likeness):
    def __init__(self, known: bool = True) -> None:
        self.known = known

    def __reduce__(self) -> tuple[type[Forgetful], tuple[bool]]:
        return (Forgetful, (False,))

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        outputs = super().score(episodes)
        return outputs if self.known else [RewardOutput(0.1, output.components) for output in outputs]


@pytest.mark.parametrize(
    ("reward", "complaint"),
    [
        (Constant(), "no more than the untouched"),
        (DependsOnBatch(), "scored alone"),
        (Shuffles(), "scored alone"),
        (FailureScoresZero(), "cannot be scored got the value"),
        (OutOfRange(), "outside its range"),
        (NoComponents(), "lacks the components"),
        (Forgetful(), "pickled copy"),
    ],
)
def test_a_broken_reward_is_caught(reward: Reward, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_reward(reward)
