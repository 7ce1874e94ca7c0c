"""Batches across requests, in threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.tasks import Episode
from retouch_reward_models.serving.scoring import score_calls


@dataclass(eq=False)
class _Call:
    episodes: Sequence[Episode]
    future: Future[list[RewardOutput]] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """Gathers the calls of several threads into batches for one reward.

    Args:
        reward: The reward.
        max_batch: Most episodes scored at once; a larger call is scored whole.
        max_wait_ms: How long a batch that is not full waits for more.
        threads: How many batches are scored at the same time; more than 1 only for a reward that can be called from
            several threads.
    """

    def __init__(self, reward: Reward, *, max_batch: int = 64, max_wait_ms: float = 5, threads: int = 1) -> None:
        self._reward = reward
        self._max_batch = max_batch
        self._wait_s = max_wait_ms / 1000
        self._calls: deque[_Call] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._working: dict[int, float] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"reward-batcher-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def queued(self) -> int:
        """Episodes that wait."""
        with self._changed:
            return sum(len(call.episodes) for call in self._calls)

    @property
    def longest_s(self) -> float:
        """How long the batch that has been in work longest has been so; 0 if none is."""
        now = time.monotonic()
        with self._changed:
            return max((now - since for since in self._working.values()), default=0.0)

    def submit(self, episodes: Sequence[Episode]) -> Future[list[RewardOutput]]:
        """Put a call into the queue. Its future never fails: what goes wrong is an output with an error.

        Raises:
            RuntimeError: If the batcher is closed.
        """
        call = _Call(episodes)
        with self._changed:
            if self._closed:
                raise RuntimeError("The batcher is closed.")
            self._calls.append(call)
            self._changed.notify_all()
        return call.future

    def close(self, timeout_s: float = 10) -> None:
        """Score what waits, at most so long, and end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        me = threading.get_ident()
        while batch := self._next_batch():
            with self._changed:
                self._working[me] = time.monotonic()
            scored = score_calls(self._reward, [call.episodes for call in batch])
            with self._changed:
                del self._working[me]
            for call, outputs in zip(batch, scored, strict=True):
                call.future.set_result(outputs)

    def _next_batch(self) -> list[_Call]:
        """The calls of one batch, claimed; none once the batcher is closed and empty."""
        with self._changed:
            while True:
                if not self._calls:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                left = self._calls[0].since + self._wait_s - time.monotonic()
                full = sum(len(call.episodes) for call in self._calls) >= self._max_batch
                if left > 0 and not full and not self._closed:
                    self._changed.wait(left)
                elif batch := self._claim():
                    return batch

    def _claim(self) -> list[_Call]:
        batch: list[_Call] = []
        size = 0
        while self._calls and (not batch or size + len(self._calls[0].episodes) <= self._max_batch):
            call = self._calls.popleft()
            # Nobody waits for a call whose client has gone.
            if call.future.set_running_or_notify_cancel():
                batch.append(call)
                size += len(call.episodes)
        return batch
