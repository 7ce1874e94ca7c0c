"""Rewards that rank the episodes of a task against each other."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from retouch_gym.errors import ConfigurationError
from retouch_gym.resolve import build
from retouch_gym.rewards.base import (
    Reward,
    RewardOutput,
    get_reward,
    prefixed,
    score_batch,
    score_batch_async,
)
from retouch_gym.rewards.pairwise import (
    Pair,
    PairwiseReward,
    Preference,
    compare_batch,
    compare_batch_async,
)
from retouch_gym.tasks import Episode
from retouch_gym.types import JSON


class GroupRank(Reward):
    """The share of the other episodes of the same task in the batch that an episode beats; a draw counts half.

    1 for the best of its group, 0 for the worst. The others are the ones with the same task id, so the group has to be
    scored whole; an episode alone in its group has an `error`. One that the reward cannot score has one too, and the
    rest is ranked without it.

    Ranks throw away how much better an episode is, and with it a judge's drift from task to task.

    Args:
        reward: Reward that scores the episodes one by one, or its name.

    Raises:
        ConfigurationError: If the name is not known, or the reward ranks groups itself.

    Example:
        >>> from retouch_gym import Recipe
        >>> from retouch_gym.testing import TinyDataset, TinyRenderer, make_episode
        >>> task, other = TinyDataset(2)
        >>> edits = [(task, 0), (task, 20), (task, 10), (other, 0)]
        >>> episodes = [make_episode(t, Recipe("iea", {"exposure": e}), TinyRenderer()) for t, e in edits]
        >>> [output.value for output in GroupRank("likeness").score(episodes)]
        [0.0, 1.0, 0.5, None]
    """

    range = (0.0, 1.0)
    scope = "group"

    def __init__(self, reward: str | Reward = "likeness") -> None:
        self.reward = get_reward(reward)
        if self.reward.scope == "group":
            raise ConfigurationError(
                f"GroupRank was given {self.reward.name!r}, which ranks groups itself. Use it as it is."
            )
        self.name = f"rank-{self.reward.name}"
        self.components = (self.reward.name, *prefixed(self.reward.name, self.reward.components))
        self.needs_reference = self.reward.needs_reference

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Rank each episode in its group; one call of the reward.

        Raises:
            RewardError: If the reward cannot score the batch at all.
        """
        return self._rank(episodes, score_batch(self.reward, episodes))

    async def score_async(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """See `Reward.score_async`.

        Raises:
            RewardError: If the reward cannot score the batch at all.
        """
        return self._rank(episodes, await score_batch_async(self.reward, episodes))

    def _rank(self, episodes: Sequence[Episode], outputs: Sequence[RewardOutput]) -> list[RewardOutput]:
        name = self.reward.name
        ranked: list[RewardOutput] = [RewardOutput(None, error="not ranked")] * len(episodes)
        for task_id, group in groups_of(episodes).items():
            values = {index: value for index in group if (value := outputs[index].value) is not None}
            for index in group:
                output = outputs[index]
                components = dict(zip(prefixed(name, output.components), output.components.values(), strict=True))
                details: dict[str, JSON] = {name: dict(output.details)} if output.details else {}
                if index not in values:
                    ranked[index] = RewardOutput(None, components, f"{name}: {output.error}", details)
                elif len(values) < 2:
                    ranked[index] = RewardOutput(None, components, alone(task_id, len(group)), details)
                else:
                    wins = [_win(values[index], other) for rival, other in values.items() if rival != index]
                    components = {name: values[index], **components}
                    ranked[index] = RewardOutput(sum(wins) / len(wins), components, details=details)
        return ranked


class Tournament(Reward):
    """The mean probability with which an episode beats the other episodes of the same task in the batch.

    Every episode meets every other of its task, in both orders unless the judge is `symmetric`, in one call of the
    judge for the whole batch; the two orders are averaged, against a judge that likes what comes first. With every
    pair played, a Bradley–Terry model orders the group exactly as these means do, so none is fitted.

    Only complete tournaments count: where comparisons failed, the episodes with the most failed ones have an `error`
    and the rest is ranked without them. An episode alone in its group has an `error` too. What the judge noted of a
    game is in the details of both episodes, with the ``place`` (1 or 2) in which the episode was shown.

    Args:
        judge: Judge, or where one is found, ``"module:attribute"``.
        judge_kwargs: Options for a judge given by its place.
        swap: Whether every pair is compared in both orders. Twice the cost.

    Raises:
        ConfigurationError: If the judge is not found.
    """

    range = (0.0, 1.0)
    scope = "group"

    def __init__(
        self,
        judge: str | PairwiseReward,
        *,
        judge_kwargs: Mapping[str, object] | None = None,
        swap: bool = True,
    ) -> None:
        self.judge: PairwiseReward = build(judge, {}, "judge", PairwiseReward, **(judge_kwargs or {}))
        self.swap = swap and not self.judge.symmetric
        self.name = f"tournament-{self.judge.name}"
        self.needs_reference = self.judge.needs_reference

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Rank each episode in its group; one call of the judge.

        Raises:
            RewardError: If the judge cannot compare the batch at all.
        """
        games = self._games(episodes)
        return self._table(episodes, games, compare_batch(self.judge, _pairs(episodes, games)))

    async def score_async(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """See `Reward.score_async`.

        Raises:
            RewardError: If the judge cannot compare the batch at all.
        """
        games = self._games(episodes)
        return self._table(episodes, games, await compare_batch_async(self.judge, _pairs(episodes, games)))

    def _games(self, episodes: Sequence[Episode]) -> list[tuple[int, int]]:
        meet = itertools.permutations if self.swap else itertools.combinations
        return [game for group in groups_of(episodes).values() for game in meet(group, 2)]

    def _table(
        self, episodes: Sequence[Episode], games: Sequence[tuple[int, int]], verdicts: Sequence[Preference]
    ) -> list[RewardOutput]:
        outputs: list[RewardOutput] = [RewardOutput(None, error="not ranked")] * len(episodes)
        played = dict(zip(games, verdicts, strict=True))
        for task_id, group in groups_of(episodes).items():
            wins, errors = self._wins(group, played)
            staying = complete(np.isnan(wins))
            for place, index in enumerate(group):
                rivals = [other for other in staying if other != place]
                details = self._details(index, played)
                if place in staying and rivals:
                    outputs[index] = RewardOutput(float(np.mean(wins[place, rivals])), details=details)
                else:
                    error = errors.get(place) or alone(task_id, len(group))
                    outputs[index] = RewardOutput(None, error=error, details=details)
        return outputs

    def _details(self, index: int, played: Mapping[tuple[int, int], Preference]) -> dict[str, JSON]:
        """What the judge noted of every game of an episode, under the judge's name."""
        notes: list[JSON] = [
            {"place": 1 + game.index(index), **verdict.details}
            for game, verdict in played.items()
            if index in game and verdict.details
        ]
        return {self.judge.name: notes} if notes else {}

    def _wins(
        self, group: Sequence[int], played: Mapping[tuple[int, int], Preference]
    ) -> tuple[NDArray[np.float64], dict[int, str]]:
        """The probability that row beats column, float64 (G, G), NaN where a comparison failed; and the failures."""
        wins = np.full((len(group), len(group)), 0.5)
        errors: dict[int, str] = {}
        for a, b in itertools.combinations(range(len(group)), 2):
            there = played[group[a], group[b]]
            back = played[group[b], group[a]] if self.swap else None
            failed = next((one.error for one in (there, back) if one is not None and one.error is not None), None)
            if failed is not None:
                wins[a, b] = wins[b, a] = np.nan
                for place in (a, b):
                    errors.setdefault(place, f"{self.judge.name}: {failed}")
                continue
            first = there.first if there.first is not None else np.nan
            if back is not None and back.first is not None:
                first = (first + 1 - back.first) / 2
            wins[a, b], wins[b, a] = first, 1 - first
        return wins, errors


def groups_of(episodes: Sequence[Episode]) -> dict[str, list[int]]:
    """The places of the episodes of each task, by the task's id."""
    groups: dict[str, list[int]] = {}
    for index, episode in enumerate(episodes):
        groups.setdefault(episode.task.id, []).append(index)
    return groups


def complete(missing: NDArray[np.bool_]) -> list[int]:
    """Those who are left when whoever misses most comparisons leaves, until nobody misses one.

    All who miss equally many leave together, so that the order of the group decides nothing.

    Args:
        missing: Which comparisons failed, symmetric, bool (G, G).
    """
    staying = list(range(len(missing)))
    while True:
        counts = missing[np.ix_(staying, staying)].sum(axis=1)
        if not counts.any():
            return staying
        staying = [place for place, count in zip(staying, counts, strict=True) if count < counts.max()]


def alone(task_id: str, size: int) -> str:
    """Why an episode without rivals has no rank."""
    found = "is alone" if size == 1 else f"is the only one of {size} that could be judged"
    return f"the episode of task {task_id!r} {found} in its group; a rank needs at least 2 of the same task in a batch"


def _pairs(episodes: Sequence[Episode], games: Sequence[tuple[int, int]]) -> list[Pair]:
    return [(episodes[a], episodes[b]) for a, b in games]


def _win(own: float, other: float) -> float:
    return 1.0 if own > other else 0.5 if own == other else 0.0
