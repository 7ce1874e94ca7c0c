"""The actors of one version of a reward: their queue, their batches, how many there are, and what if one dies."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError

from retouch_gym.errors import ConfigurationError, RewardError
from retouch_gym.rewards.base import RewardOutput
from retouch_gym.tasks import Episode
from retouch_reward_models.serving.scoring import (
    Description,
    RewardSource,
    failures,
    make_reward,
    score_calls,
    stamp,
)

TICK_S = 0.1
"""How often the number of actors is looked at."""

MAX_BACKOFF_S = 30.0
"""Longest pause before another actor is tried after one could not be started."""


@dataclass(frozen=True)
class FleetOptions:
    """How a reward is served.

    Args:
        min_actors: Actors that are always there.
        max_actors: Most actors.
        num_cpus: Cores that Ray plans for each actor.
        num_gpus: GPUs for each actor; a fraction lets several share one.
        max_batch: Most episodes that an actor scores at once.
        max_wait_ms: How long a batch that is not full waits for more episodes.
        scale_up_s: How long the queue has to wait until another actor is started.
        idle_s: How long an actor beyond `min_actors` may have nothing to do.
        timeout_s: Most time for one call, and for one batch; an actor that takes longer is replaced.
        start_timeout_s: Most time for the start of an actor.
        max_tries: How often an episode is given to an actor before it fails, if the actors die.

    Raises:
        ConfigurationError: If a number makes no sense.
    """

    min_actors: int = 1
    max_actors: int = 4
    num_cpus: float = 1
    num_gpus: float = 0
    max_batch: int = 64
    max_wait_ms: float = 5
    scale_up_s: float = 0.2
    idle_s: float = 60
    timeout_s: float = 300
    start_timeout_s: float = 300
    max_tries: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.min_actors <= self.max_actors:
            raise ConfigurationError(
                f"min_actors = {self.min_actors} and max_actors = {self.max_actors}; expected 1 <= min <= max."
            )
        for name in ("max_batch", "max_tries", "timeout_s", "start_timeout_s"):
            if getattr(self, name) < (1 if name.startswith("max") else 1e-3):
                raise ConfigurationError(f"{name} is {getattr(self, name)}; expected more.")
        for name in ("num_cpus", "num_gpus", "max_wait_ms", "scale_up_s", "idle_s"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; expected at least 0.")


class Scorer:
    """An actor: one copy of the reward.

    Args:
        reward: Name or factory.
        kwargs: Its options.
        version: Goes into the details of every output.
    """

    def __init__(self, reward: RewardSource, kwargs: Mapping[str, Any], version: str) -> None:
        self._reward = make_reward(reward, kwargs)
        self._version = version

    def describe(self) -> tuple[Description, int]:
        """What the reward declares, and the number of this process."""
        return Description.of(self._reward), os.getpid()

    def score(self, *calls: Sequence[Episode]) -> list[list[RewardOutput]]:
        """The outputs of each call, scored as one batch."""
        return [stamp(outputs, self._version) for outputs in score_calls(self._reward, calls)]


@dataclass(eq=False)
class Ticket:
    """A parcel that waits or is being scored."""

    parcel: Any
    size: int
    future: asyncio.Future[list[RewardOutput]]
    since: float = field(default_factory=time.monotonic)
    tries: int = 0


@dataclass(eq=False)
class _Worker:
    actor: Any
    pid: int
    since: float = field(default_factory=time.monotonic)
    busy: bool = False
    batches: int = 0


@dataclass
class Counts:
    """What has happened so far."""

    batches: int = 0
    episodes: int = 0
    deaths: int = 0
    retries: int = 0
    started: int = 0
    stopped: int = 0


class Fleet:
    """Serves one version of a reward. Lives in the event loop of the pool's dispatcher.

    Args:
        reward: Name or factory.
        kwargs: Its options.
        version: Name of this version.
        options: See `FleetOptions`.
    """

    def __init__(self, reward: RewardSource, kwargs: Mapping[str, Any], version: str, options: FleetOptions) -> None:
        self._made_of = (reward, dict(kwargs), version)
        self._options = options
        self._workers: list[_Worker] = []
        self._starting = 0
        self._failed_starts = 0
        self._next_start = 0.0
        self._problem = ""
        self._queue: deque[Ticket] = deque()
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.description: Description | None = None
        self.counts = Counts()

    async def start(self, actors: int | None = None) -> Description:
        """Start actors, the smallest number by default, and serve once all are ready.

        Raises:
            RewardError: If one cannot be started; none is left then.
        """
        wanted = min(max(actors or 0, self._options.min_actors), self._options.max_actors)
        await asyncio.gather(*(self._grow() for _ in range(wanted)))
        if self.description is None or len(self._workers) < wanted:
            await self.stop()
            raise RewardError(f"The reward cannot be started as version {self._made_of[2]!r}: {self._problem}")
        self._spawn(self._dispatch())
        self._spawn(self._watch())
        return self.description

    async def stop(self) -> None:
        """Wait until the queue is empty, at most the time of one call, and end every actor."""
        deadline = time.monotonic() + self._options.timeout_s
        while (self._queue or any(worker.busy for worker in self._workers)) and time.monotonic() < deadline:
            await asyncio.sleep(TICK_S)
        for task in self._tasks:
            task.cancel()
        for ticket in self._queue:
            _settle(ticket, failures(ticket.size, "the pool was closed"))
        while self._workers:
            self._end(self._workers[-1])

    def submit(self, parcel: Any, size: int) -> Ticket:
        """Put a parcel (a reference to packed episodes in Ray's object store) into the queue."""
        ticket = Ticket(parcel, size, asyncio.get_running_loop().create_future())
        self._queue.append(ticket)
        self._wake.set()
        return ticket

    def state(self) -> dict[str, Any]:
        """Counts, the queue and the actors, JSON-able."""
        actors = [{"pid": one.pid, "busy": one.busy, "batches": one.batches} for one in self._workers]
        queued = sum(ticket.size for ticket in self._queue)
        return {**vars(self.counts), "queued": queued, "starting": self._starting, "actors": actors}

    async def _dispatch(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (worker := next((one for one in self._workers if not one.busy), None)) is not None:
                batch = self._next_batch()
                if not batch:
                    break
                worker.busy, worker.since = True, time.monotonic()
                self._spawn(self._score(worker, batch))

    def _next_batch(self) -> list[Ticket]:
        """Tickets for one batch; none if more episodes are waited for."""
        while self._queue and self._queue[0].future.done():
            self._queue.popleft()
        if not self._queue:
            return []
        first = self._queue[0]
        waited = time.monotonic() - first.since
        linger = self._options.max_wait_ms / 1000
        queued = sum(ticket.size for ticket in self._queue)
        if waited < linger and queued < self._options.max_batch and not first.tries:
            asyncio.get_running_loop().call_later(linger - waited, self._wake.set)
            return []
        batch = [self._queue.popleft()]
        size = first.size
        # What was in the hands of an actor that died goes alone: should it be the cause, it takes no other along.
        while self._queue and not first.tries and not self._queue[0].tries:
            size += self._queue[0].size
            if size > self._options.max_batch:
                break
            ticket = self._queue.popleft()
            if not ticket.future.done():
                batch.append(ticket)
        return batch

    async def _score(self, worker: _Worker, batch: Sequence[Ticket]) -> None:
        try:
            scored = await worker.actor.score.remote(*(ticket.parcel for ticket in batch))
        except RayActorError as error:
            self._end(worker)
            self.counts.deaths += 1
            self._again(batch, f"the actor that scored it died ({_first_line(error)})")
            if len(self._workers) + self._starting < self._options.min_actors:
                self._spawn(self._grow())
        except Exception as error:  # the parcel was lost, or the outputs cannot travel: no number comes of it
            self._free(worker)
            self._again(batch, f"{type(error).__name__}: {_first_line(error)}")
        else:
            self._free(worker)
            self.counts.batches += 1
            worker.batches += 1
            for ticket, outputs in zip(batch, scored, strict=True):
                self.counts.episodes += ticket.size
                _settle(ticket, outputs)
        self._wake.set()

    def _again(self, batch: Sequence[Ticket], problem: str) -> None:
        for ticket in reversed(batch):
            ticket.tries += 1
            if ticket.tries >= self._options.max_tries:
                _settle(ticket, failures(ticket.size, f"not scored after {ticket.tries} tries: {problem}"))
            else:
                self.counts.retries += 1
                self._queue.appendleft(ticket)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            for worker in self._workers:
                if worker.busy and now - worker.since > self._options.timeout_s:
                    ray.kill(worker.actor)
            self._scale(now)
            self._wake.set()

    def _scale(self, now: float) -> None:
        total = len(self._workers) + self._starting
        idle = [worker for worker in self._workers if not worker.busy]
        queued = sum(ticket.size for ticket in self._queue)
        late = bool(self._queue) and not idle and now - self._queue[0].since > self._options.scale_up_s
        # Actors that are being started will take a batch each: more are wanted only for what is left then.
        wanted = late and math.ceil(queued / self._options.max_batch) > self._starting
        if now >= self._next_start and (
            total < self._options.min_actors or (wanted and total < self._options.max_actors)
        ):
            self._spawn(self._grow())
        elif idle and not self._queue and total > self._options.min_actors:
            longest = min(idle, key=lambda worker: worker.since)
            if now - longest.since > self._options.idle_s:
                self._end(longest)
        if not self._workers and not self._starting and self._failed_starts >= self._options.max_tries:
            while self._queue:
                ticket = self._queue.popleft()
                _settle(ticket, failures(ticket.size, f"no actor can be started: {self._problem}"))

    async def _grow(self) -> None:
        self._starting += 1
        options = {"num_cpus": self._options.num_cpus, "num_gpus": self._options.num_gpus, "max_restarts": 0}
        actor: Any = ray.remote(Scorer).options(**options).remote(*self._made_of)
        try:
            ready = actor.describe.remote()
            self.description, pid = await asyncio.wait_for(_value(ready), self._options.start_timeout_s)
        except Exception as error:  # whatever a constructor raises; kept to be told
            ray.kill(actor)
            self._failed_starts += 1
            self._problem = self._explain(error)
            pause = min(MAX_BACKOFF_S, TICK_S * 2**self._failed_starts)
            self._next_start = time.monotonic() + pause
        else:
            self._failed_starts = 0
            self._workers.append(_Worker(actor, pid))
            self.counts.started += 1
            self._wake.set()
        finally:
            self._starting -= 1

    def _explain(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return (
                f"not ready within {self._options.start_timeout_s:g} s; each actor asks Ray for "
                f"{self._options.num_cpus:g} CPUs and {self._options.num_gpus:g} GPUs, of which "
                f"{ray.available_resources().get('CPU', 0):g} and {ray.available_resources().get('GPU', 0):g} are free"
            )
        # Ray's message is the whole traceback, the cause on its last line.
        return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__

    def _free(self, worker: _Worker) -> None:
        worker.busy, worker.since = False, time.monotonic()

    def _end(self, worker: _Worker) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
            self.counts.stopped += 1
        ray.kill(worker.actor)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _value(reference: Any) -> Any:
    """What a reference of Ray holds, once it is there."""
    return await reference


def _settle(ticket: Ticket, outputs: list[RewardOutput]) -> None:
    """Answer once; what comes later, or after the caller gave up, is dropped."""
    if not ticket.future.done():
        ticket.future.set_result(outputs)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
