"""`check_reward` finds rewards that break the contract."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from retouch_gym.rewards import Reward, RewardOutput
from retouch_gym.rewards.likeness import Likeness
from retouch_gym.rewards.ranking import GroupRank
from retouch_gym.tasks import Episode
from retouch_gym.testing import TinyRenderer, check_reward
from retouch_gym.testing.rewards import synthetic_pairs


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


class LoopDiffers(Likeness):
    async def score_async(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        return [RewardOutput(0.0, output.components) for output in self.score(episodes)]


class AloneScores(GroupRank):
    """Gives half a point to whoever has no rivals."""

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        return [
            output if output.valid else RewardOutput(0.5, dict.fromkeys(self.components, 0.0))
            for output in super().score(episodes)
        ]


class OneBigGroup(Reward):
    """Ranks the whole batch, whatever the task."""

    name = "one-big-group"
    range = (0.0, 1.0)
    scope = "group"

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        together = [replace(episode, task=replace(episode.task, id="one")) for episode in episodes]
        return GroupRank().score(together)


class ByPosition(GroupRank):
    """Pays whoever comes first in the group."""

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        seen: set[str] = set()
        outputs = []
        for episode, output in zip(episodes, super().score(episodes), strict=True):
            found = RewardOutput(float(episode.task.id not in seen), output.components) if output.valid else output
            outputs.append(found)
            seen.add(episode.task.id)
        return outputs


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
        (LoopDiffers(), "scored asynchronously"),
        (AloneScores(), "alone in its group got the value 0.5"),
        (OneBigGroup(), "with each group scored alone"),
        (ByPosition(), "with its groups' episodes mixed"),
    ],
)
def test_a_broken_reward_is_caught(reward: Reward, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_reward(reward)


def test_pairs_of_the_same_task_cannot_check_a_rank() -> None:
    pairs = synthetic_pairs(TinyRenderer())
    with pytest.raises(AssertionError, match="give one pair for each task"):
        check_reward("rank", pairs=[pairs[0], pairs[0]])


def test_it_works_where_a_loop_is_running() -> None:
    async def notebook() -> None:
        check_reward("format")

    asyncio.run(notebook())
