"""Playing answers in an environment: one of ours takes all of them in one batch, any other one by one."""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker

from retouch_agents.rllib.rollouts import GroupRequest
from retouch_gym.envs.base import BaseRetouchEnv, step_together
from retouch_gym.envs.slots import Outcome
from retouch_gym.errors import ConfigurationError, RendererError, RewardError

MAX_BATCH_BYTES = 2**29
"""Most bytes of rendered photos that a batch holds at once; a group is never cut."""

CHANGES_NOTHING = (OrderEnforcing, PassiveEnvChecker)
"""Wrappers of `gymnasium.make` that override ``step`` and ``reset`` and leave both as they are."""


@dataclass(frozen=True)
class Answers:
    """The actions that a group's answers stand for.

    Args:
        request: The group.
        actions: One for each answer.
    """

    request: GroupRequest
    actions: Sequence[Any]


@dataclass(frozen=True)
class Play:
    """What one answer earned.

    Args:
        task_id: Id of the task; empty for an environment without ids.
        reward: The environment's reward; NaN where it could not be computed. A failed judge never scores: such an
            answer is masked, whatever the environment was told to do.
        info: The last ``info``.
    """

    task_id: str
    reward: float
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        """Whether there is a reward."""
        return not math.isnan(self.reward)


@dataclass(frozen=True)
class Played:
    """What came of a batch of groups.

    Args:
        plays: Number of the group to what each of its answers earned.
        failures: Number of the group to the traceback, where the environment raised.
    """

    plays: Mapping[int, list[Play]] = field(default_factory=dict)
    failures: Mapping[int, str] = field(default_factory=dict)


class Player(Protocol):
    """Plays single-shot episodes."""

    def observe(self, request: GroupRequest) -> Any:
        """What the agent is shown; raises what the environment raises."""
        ...

    def play(self, groups: Sequence[Answers]) -> Played:
        """Play every answer from the beginning of its group's episode."""
        ...


def player_of(env: gymnasium.Env[Any, Any]) -> Player:
    """The fastest player that an environment allows.

    Environments of ours take whole batches, unless a wrapper or a subclass has its own ``step`` or ``reset``, which
    a batch would go past.

    Raises:
        ConfigurationError: If the environment's reward ranks groups, and something wants to be asked one by one.
    """
    base: Any = env.unwrapped
    if not isinstance(base, BaseRetouchEnv):
        return OneByOne(env)
    own = [type(layer).__name__ for layer in _layers(env) if _steps_itself(layer)]
    if not own:
        return Together(base)
    if base.reward.scope == "group":
        raise ConfigurationError(
            f"{own[0]} has its own step or reset, so that answers are played one by one, and reward "
            f"{base.reward.name!r} ranks groups, which have to be scored whole. Leave out {own[0]}."
        )
    return OneByOne(env)


def _layers(env: Any) -> Iterator[Any]:
    """The wrappers from the outside in, and the environment itself."""
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env
    yield env


def _steps_itself(layer: Any) -> bool:
    kind: Any = BaseRetouchEnv if isinstance(layer, BaseRetouchEnv) else gymnasium.Wrapper
    inherited = type(layer).step is kind.step and type(layer).reset is kind.reset
    return not (inherited or isinstance(layer, CHANGES_NOTHING))


class OneByOne:
    """Resets and steps an environment for every answer.

    Args:
        env: Any environment whose episodes take one action.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        self.env = env

    def observe(self, request: GroupRequest) -> Any:
        """See `Player.observe`."""
        return self._reset(request)[0]

    def play(self, groups: Sequence[Answers]) -> Played:
        """See `Player.play`."""
        plays: dict[int, list[Play]] = {}
        failures: dict[int, str] = {}
        for group in groups:
            try:
                plays[group.request.group] = [self._play(group.request, action) for action in group.actions]
            except Exception:  # a user's environment may raise anything; its neighbours go on
                failures[group.request.group] = traceback.format_exc()
        return Played(plays, failures)

    def _reset(self, request: GroupRequest) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(seed=request.seed, options=_options(request))

    def _play(self, request: GroupRequest, action: Any) -> Play:
        _, first = self._reset(request)
        task_id = str(first.get("task_id", ""))
        try:
            _, reward, terminated, truncated, info = self.env.step(action)
        except (RewardError, RendererError):
            return Play(task_id, math.nan)
        return _closed(task_id, float(reward), terminated or truncated, info)


class Together:
    """Plays all answers of all groups in one of our environments: one batched render, one batched reward.

    Args:
        env: The environment. It is not stepped itself.
        max_bytes: Most bytes of rendered photos at once. More answers are played in several batches.
    """

    def __init__(self, env: BaseRetouchEnv, max_bytes: int = MAX_BATCH_BYTES) -> None:
        self.env = env
        self.max_bytes = max_bytes

    def observe(self, request: GroupRequest) -> Any:
        """See `Player.observe`."""
        return self.env.spawn_group(1, seed=request.seed, options=_options(request))[0].observation

    def play(self, groups: Sequence[Answers]) -> Played:
        """See `Player.play`."""
        plays: dict[int, list[Play]] = {}
        failures: dict[int, str] = {}
        for batch in self._batches(groups, failures):
            try:
                plays.update(self._play(batch))
            except Exception:
                # Whose fault it is shows when each group is played by itself, from its beginning.
                for group, _ in batch:
                    self._play_alone(group, plays, failures)
        return Played(plays, failures)

    def _batches(
        self, groups: Sequence[Answers], failures: dict[int, str]
    ) -> Iterator[list[tuple[Answers, list[BaseRetouchEnv]]]]:
        """Groups with environments at their beginning; adds to `failures`."""
        batch: list[tuple[Answers, list[BaseRetouchEnv]]] = []
        held = 0
        for group in groups:
            try:
                envs = self._begin(group)
            except Exception:  # a user's dataset may raise anything
                failures[group.request.group] = traceback.format_exc()
                continue
            size = len(envs) * envs[0].episode.source.nbytes
            if batch and held + size > self.max_bytes:
                yield batch
                batch, held = [], 0
            batch.append((group, envs))
            held += size
        if batch:
            yield batch

    def _begin(self, group: Answers) -> list[BaseRetouchEnv]:
        return self.env.spawn_group(len(group.actions), seed=group.request.seed, options=_options(group.request))

    def _play_alone(self, group: Answers, plays: dict[int, list[Play]], failures: dict[int, str]) -> None:
        try:
            plays.update(self._play([(group, self._begin(group))]))
        except Exception:  # a user's reward may raise anything; the other groups go on
            failures[group.request.group] = traceback.format_exc()

    def _play(self, batch: Sequence[tuple[Answers, list[BaseRetouchEnv]]]) -> dict[int, list[Play]]:
        envs = [env for _, members in batch for env in members]
        actions = [action for group, _ in batch for action in group.actions]
        plays = iter([_play_of(outcome) for outcome in step_together(envs, actions)])
        return {group.request.group: [next(plays) for _ in members] for group, members in batch}


def _options(request: GroupRequest) -> dict[str, Any] | None:
    return None if request.index is None else {"index": request.index}


def _closed(task_id: str, reward: float, over: bool, info: Mapping[str, Any]) -> Play:
    if not over:
        raise ConfigurationError("The episode goes on after one answer; GRPO here is single-shot.")
    return Play(task_id, reward if info.get("reward_valid", True) else math.nan, info)


def _play_of(outcome: Outcome) -> Play:
    over = outcome.terminated or outcome.truncated
    return _closed(str(outcome.info["task_id"]), outcome.reward, over, outcome.info)
