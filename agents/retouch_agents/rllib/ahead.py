"""Sampling ahead: while the learner updates, the runners draw the next batches, with weights of bounded age."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from retouch_agents.rllib.rollouts import GroupRequest, SampleResult, TaskOrder

logger = logging.getLogger(__name__)


class Sampler(Protocol):
    """What draws; `retouch_agents.rllib.sampling.RunnerPool` does."""

    def pack(self, state: Mapping[str, Any], version: int) -> Any:
        """The weights as they are now, whatever becomes of them later."""
        ...

    def hand_out(self, packed: Any) -> None:
        """Have every runner hold packed weights."""
        ...

    def sample(self, requests: Sequence[GroupRequest], version: int) -> SampleResult:
        """Have groups answered with the weights of this number."""
        ...


@dataclass(frozen=True)
class Batch:
    """Groups that were drawn ahead.

    Args:
        requests: What was asked for.
        sampled: What came of it.
        updates: How many updates the weights had seen that drew it.
        seconds: How long that took.
    """

    requests: Sequence[GroupRequest]
    sampled: SampleResult
    updates: int
    seconds: float

    @property
    def missing(self) -> list[GroupRequest]:
        """Groups that nobody answered."""
        answered = {rollout.group for rollout in self.sampled.rollouts} | set(self.sampled.failures)
        return [request for request in self.requests if request.group not in answered]


@dataclass(frozen=True)
class Weights:
    """The learner's weights.

    Args:
        state: State of an env runner with them.
        version: Their number.
        updates: How many updates they have seen.
    """

    state: Mapping[str, Any]
    version: int
    updates: int


class AheadSampler:
    """Keeps up to `depth` batches under way, so that the runners work while the learner does.

    Which batch is drawn with which weights follows from the order of the calls alone, not from who is faster: the batch
    of an iteration is drawn with weights of `depth` updates before (of fewer at the beginning), one batch after the
    other. A group that was lost with its runners, or whose answers would be older than `depth` updates, is drawn again
    in the next batch that is asked for: none is left out and none is learned from twice.

    Args:
        sampler: What draws.
        order: The order of tasks.
        count: Groups in a batch.
        depth: Most updates between the weights that draw an answer and those that learn from it; at least 1.
    """

    def __init__(self, sampler: Sampler, order: TaskOrder, count: int, depth: int) -> None:
        self.sampler = sampler
        self.order = order
        self.count = count
        self.depth = depth
        self._owed: list[GroupRequest] = []
        self._under_way: deque[tuple[Sequence[GroupRequest], Future[Batch]]] = deque()
        # One: batches are drawn one after the other, and the weights change between them.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="sampling-ahead")

    def next(self, learned: int, weights: Weights) -> Batch:
        """The next batch, after which the following ones are under way.

        Args:
            learned: Number of groups that came out of earlier calls with answers or with an error.
            weights: Those of now; what is not under way yet is drawn with them.

        Returns:
            A batch that is young enough. One without any answer (every runner is down) ends what is under way, so that
            its groups are drawn anew by the next call.
        """
        packed = self.sampler.pack(weights.state, weights.version)
        batch = self._oldest(learned, weights, packed)
        while weights.updates - batch.updates > self.depth:
            logger.warning("A batch of %d updates ago is thrown away and drawn again.", weights.updates - batch.updates)
            self._owe(batch.requests)
            batch = self._oldest(learned, weights, packed)
        self._owe(batch.missing)
        if len(batch.missing) == len(batch.requests):
            for other in self.finished():
                self._owe(other.requests)
            self._under_way.clear()
            return batch
        learned += len(batch.requests) - len(batch.missing)
        while len(self._under_way) < self.depth:
            self._submit(learned, weights, packed)
        return batch

    def finished(self) -> list[Batch]:
        """What is under way, when it has come; it stays under way."""
        return [future.result() for _, future in self._under_way]

    @property
    def owed(self) -> tuple[GroupRequest, ...]:
        """Groups that are to be drawn again."""
        return tuple(self._owed)

    def restart(self, batches: Sequence[Batch] = (), owed: Sequence[GroupRequest] = ()) -> None:
        """Forget what is under way, and go on from what was under way and owed when a checkpoint was written."""
        for _, future in self._under_way:
            future.cancel()
        self._under_way.clear()
        self._owed = list(owed)
        for batch in batches:
            done: Future[Batch] = Future()
            done.set_result(batch)
            self._under_way.append((batch.requests, done))

    def close(self) -> None:
        """Wait for what is being drawn, and draw no more."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _oldest(self, learned: int, weights: Weights, packed: Any) -> Batch:
        if not self._under_way:
            self._submit(learned, weights, packed)
        return self._under_way.popleft()[1].result()

    def _submit(self, learned: int, weights: Weights, packed: Any) -> None:
        again = self._owed[: self.count]
        asked = learned + len(self._owed) + sum(len(requests) for requests, _ in self._under_way)
        self._owed = self._owed[self.count :]
        requests = [*again, *self.order.requests(asked, self.count - len(again))]
        future = self._worker.submit(self._draw, requests, packed, weights.version, weights.updates)
        self._under_way.append((requests, future))

    def _draw(self, requests: Sequence[GroupRequest], packed: Any, version: int, updates: int) -> Batch:
        began = time.perf_counter()
        self.sampler.hand_out(packed)
        sampled = self.sampler.sample(requests, version)
        return Batch(requests, sampled, updates, time.perf_counter() - began)

    def _owe(self, requests: Sequence[GroupRequest]) -> None:
        self._owed = sorted([*self._owed, *requests], key=lambda request: request.group)
