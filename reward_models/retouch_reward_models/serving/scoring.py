"""Scoring the calls of several callers as one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal, TypeAlias

from retouch_gym.errors import ConfigurationError
from retouch_gym.rewards.base import Reward, RewardOutput, get_reward, score_batch
from retouch_gym.tasks import Episode

RewardSource: TypeAlias = "str | Callable[..., Reward]"
"""Short name or ``"module:attribute"`` of a reward, or what makes one."""


@dataclass(frozen=True)
class Description:
    """What a reward declares of itself. See `retouch_gym.rewards.Reward`.

    Args:
        name: Short name.
        range: Smallest and largest value.
        components: Names of the parts that every valid output carries.
        needs_reference: Whether an episode's task must have a reference.
        scope: ``"episode"`` or ``"group"``.
    """

    name: str
    range: tuple[float, float]
    components: tuple[str, ...]
    needs_reference: bool
    scope: Literal["episode", "group"]

    @classmethod
    def of(cls, reward: Reward) -> Description:
        """What `reward` declares."""
        low, high = reward.range
        return cls(reward.name, (low, high), tuple(reward.components), reward.needs_reference, reward.scope)

    def apply(self, reward: Reward) -> None:
        """Make `reward`, which stands for the described one, declare the same."""
        reward.name = self.name
        reward.range = self.range
        reward.components = self.components
        reward.needs_reference = self.needs_reference
        reward.scope = self.scope


def make_reward(reward: RewardSource, kwargs: Mapping[str, Any]) -> Reward:
    """The reward of a name or a factory.

    Raises:
        ConfigurationError: If the name is not known, the options do not fit, or what is made is no reward.
    """
    if isinstance(reward, str):
        return get_reward(reward, **kwargs)
    try:
        made = reward(**kwargs)
    except TypeError as error:
        raise ConfigurationError(f"The reward factory {reward!r} does not take {dict(kwargs)!r}: {error}") from error
    if not isinstance(made, Reward):
        raise ConfigurationError(f"The reward factory {reward!r} made a {type(made).__name__}, expected a Reward.")
    return made


def score_calls(reward: Reward, calls: Sequence[Sequence[Episode]]) -> list[list[RewardOutput]]:
    """Score several calls as one batch; if that fails as a whole, each by itself, so that one spoils no other.

    A call that fails even alone has an error for every episode. Rewards of scope ``"group"`` always score calls one by
    one: the same task in two calls is two groups.

    Args:
        reward: The reward.
        calls: The episodes of each caller.

    Returns:
        The outputs of each call, in order.
    """
    if len(calls) == 1 or reward.scope == "group":
        return [_score_call(reward, call) for call in calls]
    try:
        outputs = iter(score_batch(reward, list(chain.from_iterable(calls))))
    except Exception:  # a judge may raise anything; whose fault it is shows when each call is scored alone
        return [_score_call(reward, call) for call in calls]
    return [[next(outputs) for _ in call] for call in calls]


def failures(count: int, error: str) -> list[RewardOutput]:
    """As many outputs that say why there is no value."""
    return [RewardOutput(None, error=error) for _ in range(count)]


def stamp(outputs: Sequence[RewardOutput], version: str) -> list[RewardOutput]:
    """The outputs with the version that scored them among their details."""
    return [replace(output, details={**output.details, "version": version}) for output in outputs]


def _score_call(reward: Reward, call: Sequence[Episode]) -> list[RewardOutput]:
    try:
        return score_batch(reward, call)
    except Exception as error:  # whatever it is, it is an error of these items and never a number
        return failures(len(call), f"{type(error).__name__}: {error}")
