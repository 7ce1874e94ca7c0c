"""Threads that share a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from retouch_gym.errors import ConfigurationError

Result = TypeVar("Result")


class Workers:
    """Calls a function of a batch, or of shares of it in several threads. Pickles; a copy starts its own threads.

    Args:
        threads: How many; 1 calls with the whole batch.

    Raises:
        ConfigurationError: If there is not at least one.
    """

    def __init__(self, threads: int) -> None:
        if not isinstance(threads, int) or threads < 1:
            raise ConfigurationError(f"threads is {threads!r}; expected a whole number of at least 1.")
        self.threads = threads
        self._pool: ThreadPoolExecutor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None}

    def call(self, function: Callable[..., list[Result]], *batches: Sequence[Any]) -> list[Result]:
        """`function` of the batches, or of a share of each in every thread; the results in order."""
        count = len(batches[0])
        if self.threads == 1 or count < 2:
            return function(*batches)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="retouch-worker")
        shares = [[batch[start :: self.threads] for start in range(self.threads)] for batch in batches]
        done = list(self._pool.map(function, *shares))
        return [done[number % self.threads][number // self.threads] for number in range(count)]

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
