"""Plain data of an iteration: what is asked of the sampler, what it returns, and the order of tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from retouch_agents.encoding import Prompt


@dataclass(frozen=True)
class GroupRequest:
    """One prompt to be answered G times.

    Args:
        group: Running number of the group since the beginning of training.
        index: Index of the task in the environment's dataset; None for an environment without one.
        seed: Seed of the group's answers, and of the environment's reset.
    """

    group: int
    index: int | None
    seed: int


@dataclass(frozen=True, eq=False)
class Rollout:
    """One answer and what it earned. An episode is the answers of the same group and member.

    Args:
        group: Running number of the group.
        member: Number of the episode in its group, 0..G−1.
        task_id: Id of the task; empty for an environment without ids.
        prompt: The encoded observation; on the first turn the same for all members of a group.
        token_ids: Sampled tokens as they were sampled, int64 (C,).
        logprobs: log-probability of each under the policy that sampled it, float32 (C,).
        reward: What the environment paid for the whole episode; NaN where `valid` is False.
        components: Named parts of the last reward.
        valid: Whether the episode's rewards could be computed. Answers of invalid episodes carry no loss.
        well_formed: Whether the answer could be read and the environment accepted it.
        finished: Whether the answer ended by itself, not by the limit.
        turn: Number of the turn, 0..
        last: Whether it is the episode's last.
        step_reward: What was paid for this turn; None: `reward`, as for an episode of one turn.
        tool_calls: Number of calls in the answer; None where that is not known.
        learner_logprobs: log-probability of each token under the same weights as the learner computes it, float32
            (C,); None where the sampler is trusted.
        value: V of what was shown, under the weights of before the update; only with a critic.
    """

    group: int
    member: int
    task_id: str
    prompt: Prompt
    token_ids: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    reward: float
    components: Mapping[str, float] = field(default_factory=dict)
    valid: bool = True
    well_formed: bool = True
    finished: bool = True
    turn: int = 0
    last: bool = True
    step_reward: float | None = None
    tool_calls: int | None = None
    learner_logprobs: NDArray[np.float32] | None = None
    value: float = 0.0


@dataclass(frozen=True)
class SampleResult:
    """What a runner returns.

    Args:
        rollouts: Answers, G for every group that went well.
        failures: Why a group has none: number of the group and the traceback.
        tokens: Number of sampled tokens.
        seconds: Time that its runners spent on each part of the work, added up.
    """

    rollouts: Sequence[Rollout] = ()
    failures: Mapping[int, str] = field(default_factory=dict)
    tokens: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def merged(cls, parts: Sequence[SampleResult]) -> SampleResult:
        """Several results as one."""
        names = sorted({name for part in parts for name in part.seconds})
        return cls(
            [rollout for part in parts for rollout in part.rollouts],
            {group: text for part in parts for group, text in part.failures.items()},
            sum(part.tokens for part in parts),
            {name: sum(part.seconds.get(name, 0.0) for part in parts) for name in names},
        )


class TaskOrder:
    """Which task is drawn at which moment: epochs over all tasks, each shuffled by its own seed.

    A pure function of seed and position, so that neither the number of runners nor a restart changes it.

    Args:
        num_tasks: Number of tasks; 0 for an environment without a dataset.
        seed: Seed of the experiment.
    """

    def __init__(self, num_tasks: int, seed: int) -> None:
        self.num_tasks = num_tasks
        self.seed = seed

    def requests(self, start: int, count: int) -> list[GroupRequest]:
        """The groups `start` to `start + count`."""
        return [self._request(position) for position in range(start, start + count)]

    def _request(self, position: int) -> GroupRequest:
        # 63 bits: torch takes a signed seed, gymnasium a non-negative one.
        seed = int(np.random.SeedSequence([self.seed, position]).generate_state(1, np.uint64)[0] >> 1)
        if self.num_tasks == 0:
            return GroupRequest(position, None, seed)
        epoch, offset = divmod(position, self.num_tasks)
        return GroupRequest(position, int(_shuffled(self.seed, epoch, self.num_tasks)[offset]), seed)


@lru_cache(maxsize=4)
def _shuffled(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    # A third number keeps epochs apart from the positions that seed the groups.
    return np.random.default_rng([seed, epoch, 1]).permutation(count)


def minibatches(rollouts: Sequence[Rollout], size: int | None, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Shuffle whole groups and cut them into minibatches of about `size` answers: the rows of each.

    Groups stay together, so that their prompt is encoded once. Groups in which every advantage is 0 and
    answers that are invalid are kept: the former still feel the KL penalty, the latter have no weight.

    Args:
        rollouts: N answers.
        size: Most answers of a minibatch (a group is never cut); None for all in one.
        rng: Source of the order.
    """
    by_group: dict[int, list[int]] = {}
    for row, rollout in enumerate(rollouts):
        by_group.setdefault(rollout.group, []).append(row)
    groups = list(by_group.values())
    parts: list[list[int]] = [[]]
    for which in rng.permutation(len(groups)):
        if size is not None and parts[-1] and len(parts[-1]) + len(groups[which]) > size:
            parts.append([])
        parts[-1].extend(groups[which])
    return [np.array(part, dtype=np.int64) for part in parts if part]


def episode_numbers(rollouts: Sequence[Rollout]) -> NDArray[np.int64]:
    """Which episode each answer belongs to, counted from 0 in order of appearance, (N,)."""
    known: dict[tuple[int, int], int] = {}
    keys = [(rollout.group, rollout.member) for rollout in rollouts]
    return np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int64)


def summarise(rollouts: Sequence[Rollout], advantages: NDArray[np.float32]) -> dict[str, float]:
    """Numbers about a batch of rollouts for the log.

    Args:
        rollouts: N answers, whole episodes.
        advantages: (N,).

    Returns:
        ``reward_mean`` and ``reward_std`` over valid episodes, ``group_reward_std`` (mean of the deviation inside
        a group), ``informative_groups`` (share of groups whose answers differ in advantage), ``valid_rate``
        (episodes whose rewards could be computed), ``episodes``, ``turns_mean`` (of an episode), ``well_formed_rate``,
        ``finished_rate`` and ``response_length`` (tokens) of answers, ``tool_calls_mean`` (of an episode, where known),
        and ``component/NAME`` for every named part of the reward.
    """
    ends = [rollout for rollout in rollouts if rollout.last]
    numbers: dict[str, float] = {
        "episodes": len(ends),
        "turns_mean": len(rollouts) / max(1, len(ends)),
        "valid_rate": _mean(rollout.valid for rollout in ends),
        "well_formed_rate": _mean(rollout.well_formed for rollout in rollouts),
        "finished_rate": _mean(rollout.finished for rollout in rollouts),
        "response_length": _mean(len(rollout.token_ids) for rollout in rollouts),
    }
    calls = [rollout.tool_calls for rollout in rollouts if rollout.tool_calls is not None]
    if calls:
        numbers["tool_calls_mean"] = sum(calls) / len(ends)
    valid = [rollout for rollout in ends if rollout.valid]
    if not valid:
        return numbers
    rewards = np.array([rollout.reward for rollout in valid])
    groups = np.array([rollout.group for rollout in valid])
    inside = [rewards[groups == group].std() for group in np.unique(groups)]
    every_group = np.array([rollout.group for rollout in rollouts])
    informative = [np.abs(advantages[every_group == group]).max() > 1e-3 for group in np.unique(every_group)]
    numbers |= {
        "reward_mean": float(rewards.mean()),
        "reward_std": float(rewards.std()),
        "group_reward_std": float(np.mean(inside)),
        "informative_groups": float(np.mean(informative)),
    }
    names = sorted({name for rollout in valid for name in rollout.components})
    for name in names:
        numbers[f"component/{name}"] = _mean(r.components[name] for r in valid if name in r.components)
    return numbers


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(np.fromiter(values, dtype=np.float64)))
