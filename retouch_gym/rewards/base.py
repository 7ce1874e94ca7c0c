"""The reward protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from retouch_gym.tasks import Episode


@dataclass(frozen=True)
class RewardOutput:
    """The reward of one episode.

    Args:
        value: The scalar, inside the reward's `range`; None if it could not be scored (see `error`).
        components: Named parts of the scalar, for logging.
        error: Why there is no value. A failed judge never scores: `value` is then None, never 0.
    """

    value: float | None
    components: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.error is None):
            raise ValueError(f"RewardOutput needs either a value or an error, got {self.value!r} and {self.error!r}.")

    @property
    def valid(self) -> bool:
        """Whether there is a value."""
        return self.value is not None


class Reward(ABC):
    """Scores a batch of episodes. Deterministic rules and learned judges alike.

    Implementations are picklable and give an episode the same score alone and in any batch, in order.
    One failing item yields a `RewardOutput` with `error` and leaves its neighbours alone. Check one
    with `retouch_gym.testing.check_reward`.

    Attributes:
        name: Short name.
        range: Smallest and largest value.
        components: Names of the parts that every valid output carries.
        needs_reference: Whether an episode's task must have a reference.
    """

    name: str
    range: tuple[float, float]
    components: tuple[str, ...] = ()
    needs_reference: bool = False

    @abstractmethod
    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order.

        Raises:
            RewardError: If the whole batch cannot be scored.
        """
