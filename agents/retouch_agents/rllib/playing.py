"""Playing answers in an environment: one of ours takes a whole batch of them at once, any other one by one."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker

from retouch_agents.rllib.rollouts import GroupRequest
from retouch_gym.envs.base import BaseRetouchEnv, step_together
from retouch_gym.envs.slots import Outcome
from retouch_gym.errors import ConfigurationError, RendererError, RewardError

MAX_BATCH_BYTES = 2**29
"""Most bytes of rendered photos that one step of a batch makes; a group is never cut."""

CHANGES_NOTHING = (OrderEnforcing, PassiveEnvChecker)
"""Wrappers of `gymnasium.make` that override ``step`` and ``reset`` and leave both as they are."""

Key = tuple[int, int]
"""Group and member: which episode."""


@dataclass(frozen=True)
class Step:
    """What one answer came to.

    Args:
        reward: The environment's reward; NaN where it could not be computed. A failed judge never scores: such an
            episode is masked, whatever the environment was told to do.
        over: Whether the episode ended.
        info: The environment's ``info``.
    """

    reward: float
    over: bool
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        """Whether there is a reward."""
        return not math.isnan(self.reward)


class Episodes(Protocol):
    """Groups of episodes in progress; the members of a group begin alike.

    Attributes:
        failures: Number of the group to the traceback, where the environment raised; such groups are gone.
        task_ids: Number of the group to the id of its task; empty for an environment without ids.
    """

    failures: dict[int, str]
    task_ids: dict[int, str]

    def running(self) -> list[Key]:
        """The episodes that go on, ordered by group and member."""
        ...

    def observe(self, key: Key) -> Any:
        """What the agent is shown; raises what the environment raises."""
        ...

    def step(self, actions: Mapping[Key, Any]) -> dict[Key, Step]:
        """Take one turn in each of some episodes, whole groups of those that go on; none for groups that failed."""
        ...

    def drop(self, group: int, reason: str) -> None:
        """Give a group up."""
        ...


class Player(Protocol):
    """Begins episodes."""

    def begin(self, requests: Sequence[GroupRequest], size: int) -> Episodes:
        """`size` episodes for every request."""
        ...


def player_of(env: gymnasium.Env[Any, Any], another: Callable[[], gymnasium.Env[Any, Any]] | None = None) -> Player:
    """The fastest player that an environment allows.

    Environments of ours take whole batches, unless a wrapper or a subclass has its own ``step`` or ``reset``, which
    a batch would go past.

    Args:
        env: The environment.
        another: Makes another one like it, for environments that are played one by one in episodes of several turns.

    Raises:
        ConfigurationError: If the environment's reward ranks groups, and something wants to be asked one by one.
    """
    base: Any = env.unwrapped
    if not isinstance(base, BaseRetouchEnv):
        return OneByOne(env, another)
    own = [type(layer).__name__ for layer in _layers(env) if _steps_itself(layer)]
    if not own:
        return Together(base)
    if base.reward.scope == "group":
        raise ConfigurationError(
            f"{own[0]} has its own step or reset, so that answers are played one by one, and reward "
            f"{base.reward.name!r} ranks groups, which have to be scored whole. Leave out {own[0]}."
        )
    return OneByOne(env, another)


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


class _Groups:
    """What both kinds of `Episodes` keep."""

    def __init__(self, requests: Sequence[GroupRequest], size: int) -> None:
        self.requests = {request.group: request for request in requests}
        self.open: dict[int, list[Key]] = {
            group: [(group, member) for member in range(size)] for group in self.requests
        }
        self.failures: dict[int, str] = {}
        self.task_ids: dict[int, str] = {}

    def running(self) -> list[Key]:
        """See `Episodes.running`."""
        return sorted(key for keys in self.open.values() for key in keys)

    def drop(self, group: int, reason: str) -> None:
        """See `Episodes.drop`."""
        self.open.pop(group, None)
        self.failures[group] = reason

    def _asked(self, actions: Mapping[Key, Any]) -> dict[int, list[Key]]:
        """The episodes to step, by group."""
        return {group: found for group, keys in self.open.items() if (found := [key for key in keys if key in actions])}

    def _close(self, steps: Mapping[Key, Step]) -> None:
        for key, step in steps.items():
            if step.over and key[0] in self.open:
                self.open[key[0]].remove(key)


class OneByOne:
    """Resets and steps an environment for every episode.

    Args:
        env: Any environment. Where episodes end with their first answer, one is enough.
        another: Makes another one like it. In longer episodes each has one of its own, and they are used again.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], another: Callable[[], gymnasium.Env[Any, Any]] | None = None
    ) -> None:
        self.another = another
        self.idle = [env]

    def begin(self, requests: Sequence[GroupRequest], size: int) -> Episodes:
        """See `Player.begin`."""
        return _Single(self, requests, size)

    def take(self) -> gymnasium.Env[Any, Any]:
        """An environment that nobody plays in."""
        if self.idle:
            return self.idle.pop()
        if self.another is None:
            raise ConfigurationError("An episode goes on after one answer, and there is no way to make a second env.")
        return self.another()

    def give(self, env: gymnasium.Env[Any, Any]) -> None:
        """Hand an environment back."""
        self.idle.append(env)


class _Single(_Groups):
    """Episodes of `OneByOne`."""

    def __init__(self, player: OneByOne, requests: Sequence[GroupRequest], size: int) -> None:
        super().__init__(requests, size)
        self.player = player
        self.envs: dict[Key, gymnasium.Env[Any, Any]] = {}
        self.shown: dict[Key, Any] = {}

    def observe(self, key: Key) -> Any:
        """See `Episodes.observe`."""
        if key in self.shown:
            return self.shown[key]
        env = self.player.take()
        try:
            observation, info = env.reset(**_reset(self.requests[key[0]]))
        finally:
            self.player.give(env)
        self.task_ids[key[0]] = str(info.get("task_id", ""))
        return observation

    def step(self, actions: Mapping[Key, Any]) -> dict[Key, Step]:
        """See `Episodes.step`."""
        found: dict[Key, Step] = {}
        for group, keys in self._asked(actions).items():
            try:
                steps = {key: self._step(key, actions[key]) for key in keys}
            except Exception:  # a user's environment may raise anything; its neighbours go on
                self.drop(group, traceback.format_exc())
                continue
            self._close(steps)
            found |= steps
        return found

    def drop(self, group: int, reason: str) -> None:
        """See `Episodes.drop`."""
        for key in [key for key in self.envs if key[0] == group]:
            self.player.give(self.envs.pop(key))
        super().drop(group, reason)

    def _step(self, key: Key, action: Any) -> Step:
        env = self.envs.pop(key, None)
        if env is None:
            env = self.player.take()
            self.envs[key] = env
            _, info = env.reset(**_reset(self.requests[key[0]]))
            self.task_ids[key[0]] = str(info.get("task_id", ""))
        else:
            self.envs[key] = env
        try:
            observation, reward, terminated, truncated, info = env.step(action)
            step = _stepped(float(reward), terminated or truncated, info)
        except (RewardError, RendererError):
            observation, step = None, Step(math.nan, True)
        self.shown[key] = observation
        if step.over:
            self.player.give(self.envs.pop(key))
            self.shown.pop(key)
        return step


class Together:
    """Plays all episodes of all groups in one of our environments: one batched render and reward a turn.

    Args:
        env: The environment. It is not stepped itself.
        max_bytes: Most bytes of photos that are rendered at once. More answers are played in several batches.
    """

    def __init__(self, env: BaseRetouchEnv, max_bytes: int = MAX_BATCH_BYTES) -> None:
        self.env = env
        self.max_bytes = max_bytes

    def begin(self, requests: Sequence[GroupRequest], size: int) -> Episodes:
        """See `Player.begin`."""
        return _Batch(self, requests, size)


class _Batch(_Groups):
    """Episodes of `Together`."""

    def __init__(self, player: Together, requests: Sequence[GroupRequest], size: int) -> None:
        super().__init__(requests, size)
        self.player = player
        self.size = size
        self.envs: dict[Key, BaseRetouchEnv] = {}
        self.history: dict[int, list[dict[Key, Any]]] = {}
        for group in list(self.requests):
            try:
                self._begin(group)
            except Exception:  # a user's dataset may raise anything
                self.drop(group, traceback.format_exc())

    def observe(self, key: Key) -> Any:
        """See `Episodes.observe`."""
        return self.envs[key].observation

    def step(self, actions: Mapping[Key, Any]) -> dict[Key, Step]:
        """See `Episodes.step`."""
        found: dict[Key, Step] = {}
        for batch in self._batches(actions):
            try:
                steps = self._step(batch, actions)
            except Exception:
                # Whose fault it is shows when each group is played by itself, from its beginning.
                steps = {}
                for key_group in dict.fromkeys(key[0] for key in batch):
                    steps |= self._alone(key_group, [key for key in batch if key[0] == key_group], actions)
            self._close(steps)
            for key, step in steps.items():
                self.history[key[0]][-1][key] = actions[key]
                if step.over:
                    del self.envs[key]
            found |= steps
        return found

    def _begin(self, group: int) -> None:
        request = self.requests[group]
        envs = self.player.env.spawn_group(self.size, **_reset(request))
        self.envs |= {(group, member): env for member, env in enumerate(envs)}
        self.task_ids[group] = envs[0].episode.task.id
        self.history[group] = []

    def _batches(self, actions: Mapping[Key, Any]) -> Iterator[list[Key]]:
        batch: list[Key] = []
        held = 0
        for group, keys in self._asked(actions).items():
            self.history[group].append({})
            size = len(keys) * self.envs[keys[0]].episode.source.nbytes
            if batch and held + size > self.player.max_bytes:
                yield batch
                batch, held = [], 0
            batch = [*batch, *keys]
            held += size
        if batch:
            yield batch

    def _step(self, keys: Sequence[Key], actions: Mapping[Key, Any]) -> dict[Key, Step]:
        outcomes = step_together([self.envs[key] for key in keys], [actions[key] for key in keys])
        return {key: _step_of(outcome) for key, outcome in zip(keys, outcomes, strict=True)}

    def _alone(self, group: int, keys: Sequence[Key], actions: Mapping[Key, Any]) -> dict[Key, Step]:
        past = self.history[group]
        try:
            self._begin(group)
            for turn in past[:-1]:
                self._step(list(turn), turn)
            self.history[group] = past
            return self._step(keys, actions)
        except Exception:  # a user's reward may raise anything; the other groups go on
            self.drop(group, traceback.format_exc())
            return {}


def _reset(request: GroupRequest) -> dict[str, Any]:
    return {"seed": request.seed, "options": None if request.index is None else {"index": request.index}}


def _stepped(reward: float, over: bool, info: Mapping[str, Any]) -> Step:
    scored = info.get("reward_valid", True)
    # Without its reward an episode is of no use, however long it would go on.
    return Step(reward if scored else math.nan, over or not scored, info)


def _step_of(outcome: Outcome) -> Step:
    return _stepped(outcome.reward, outcome.terminated or outcome.truncated, outcome.info)
