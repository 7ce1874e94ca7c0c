"""Places where episodes are played, and what a step there came to."""

from __future__ import annotations

import copy
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium
import numpy as np

from retouch_gym.envs.session import Session


@dataclass
class Slot:
    """A place where one episode after the other is played.

    Args:
        rng: What draws the tasks.
        session: The episode; None before the first.
        index: Its task's index in the dataset.
        over: Whether it ended.
        value: The reward of the photo as it is, where every turn is paid; None if it could not be scored.
        user_seed: Seed of the user's words.
        group: Which slots play the same task to be ranked against each other; any number or object.
    """

    rng: np.random.Generator
    session: Session | None = None
    index: int = -1
    over: bool = False
    value: float | None = 0.0
    user_seed: int = 0
    group: Hashable = None

    def branch(self) -> Slot:
        """Another place for the same episode, to go on from here differently. Photos are shared, not copied."""
        session = None if self.session is None else self.session.branch()
        return replace(self, rng=copy.deepcopy(self.rng), session=session)


@dataclass
class Outcome:
    """What one step came to."""

    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    info: dict[str, Any] = field(default_factory=dict)


def running(slot: Slot, *, ended: bool = False, purpose: str = "step") -> Session:
    """The slot's session.

    Args:
        slot: The slot.
        ended: Whether an episode that is over will do.
        purpose: What for, for the message.

    Raises:
        ResetNeeded: If there is none, or it is over.
    """
    if slot.session is None:
        raise gymnasium.error.ResetNeeded(f"Cannot {purpose} before the first reset. Call env.reset() first.")
    if slot.over and not ended:
        raise gymnasium.error.ResetNeeded("The episode is over. Call env.reset() to start the next one.")
    return slot.session


def peek(rng: np.random.Generator, count: int) -> int:
    """The index below `count` that a generator will draw next; the generator stays as it is."""
    state = rng.bit_generator.state
    index = int(rng.integers(count))
    rng.bit_generator.state = state
    return index
