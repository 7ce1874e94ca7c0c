"""Bringing rewards to a common range."""

from __future__ import annotations

import math
from collections.abc import Sequence

from retouch_gym.errors import ConfigurationError
from retouch_gym.rewards.base import Reward, get_reward
from retouch_gym.rewards.combining import Combination, finite_range, to_unit


class Normalised(Combination):
    """A reward brought from the range that it declares to another one, linearly.

    The name is ``"normalised-"`` and the reward's own, so that several can be parts of the same combination. See
    `Combination` for components, details and errors.

    Args:
        reward: Reward or its name.
        low: Where its lowest value goes.
        high: Where its highest value goes.

    Raises:
        ConfigurationError: If the name is not known, the reward's range is not finite, or `low` is not below `high`.

    Example:
        >>> Normalised("likeness", 0, 10).range
        (0.0, 10.0)
    """

    def __init__(self, reward: str | Reward = "edit", low: float = 0.0, high: float = 1.0) -> None:
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ConfigurationError(f"Normalised low = {low!r}, high = {high!r}; expected finite numbers, low < high.")
        super().__init__([(get_reward(reward), 1.0)])
        self.reward = self.parts[0][0]
        finite_range(self.reward, "Normalised")
        self.name = f"normalised-{self.reward.name}"
        self.range = (float(low), float(high))

    def combine(self, values: Sequence[float]) -> float:
        """See `Combination.combine`."""
        low, high = self.range
        unit = to_unit(values[0], self.reward)
        return low * (1 - unit) + high * unit
