"""The user protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from retouch_gym.resolve import build
from retouch_gym.tasks import Episode


class User(ABC):
    """Looks at episodes and says what is wanted next, a batch at a time.

    Implementations are picklable and keep nothing between calls: what is said depends on the episode and
    the seed alone, so that a restored episode goes on as it would have. Check one with
    `retouch_gym.testing.check_user`.

    Attributes:
        name: Short name.
    """

    name: str

    @abstractmethod
    def reply(self, episodes: Sequence[Episode], seeds: Sequence[int]) -> list[str | None]:
        """What each user says of the photo as it is now.

        Works before the first turn too: then it is a first request, in place of the task's own.

        Args:
            episodes: Episodes in progress.
            seeds: One seed per episode (0 or more), the same for all its turns.

        Returns:
            For each episode the next request, never empty, or None where the user is content.

        Raises:
            DatasetError: If a task lacks what the user looks at, such as a reference.
            ConfigurationError: If the user cannot speak of an episode's toolset.
            RendererError: If a render fails.
            ImageError: If a photo cannot be read.
            ValueError: If the lengths differ.
        """


USERS: Mapping[str, str] = {"scripted": "retouch_gym.users.scripted:ScriptedUser"}
"""Short names of the users that come with the package."""


def get_user(user: str | User, **kwargs: Any) -> User:
    """The user of a short name, a ``"module:attribute"`` string, or itself.

    Args:
        user: Name or object.
        kwargs: Options for the constructor of a named user, for instance ``tolerance=0.05`` for ``"scripted"``.

    Raises:
        ConfigurationError: If the name is not known, or options come with a ready object.
    """
    found: User = build(user, USERS, "user", User, **kwargs)
    return found
