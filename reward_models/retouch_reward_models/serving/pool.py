"""A reward as a pool of Ray actors, shared by every env runner."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from retouch_gym.errors import ConfigurationError, RetouchError, RewardError
from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.tasks import Episode
from retouch_reward_models.serving.dispatcher import Dispatcher
from retouch_reward_models.serving.fleet import FleetOptions
from retouch_reward_models.serving.parcels import pack, split
from retouch_reward_models.serving.scoring import RewardSource, failures

NAMESPACE = "retouch-gym-rewards"
"""Ray namespace of the pools, so that every job of a cluster finds them by name."""

GRACE_S = 5.0
"""How much longer than a call's time limit its answer is waited for, should the dispatcher itself be gone or stuck."""

_OWNED: dict[str, Any] = {}
"""Pools started by this process. Ray ends an actor when the last handle of its owner is forgotten; a pool is to stay
until it is closed or the process ends, even if only copies of its handle are left elsewhere."""


class RewardPool(Reward):
    """A handle on a reward that runs in a pool of Ray actors; itself a `Reward`, small and picklable.

    Calls of all env runners are gathered into batches of up to `max_batch` episodes, which wait for more at most
    `max_wait_ms`; a free actor scores a batch. There are `min_actors` to `max_actors` of them: one more where the queue
    waits longer than `scale_up_s`, one less where one idles longer than `idle_s`. If an actor dies, its batch is given
    to another one, call by call, at most `max_tries` times, and a new actor is started. Outputs come in order,
    exactly one per episode. What cannot be scored, or not within `timeout_s`, is an output with an error, never a
    number. Episodes travel packed (see `retouch_reward_models.serving.parcels.pack`), straight from the caller to the
    actor through Ray's object store.

    A reward has versions: `load` starts another one in fresh actors and switches when they are ready, `use` goes
    back. The version before stays warm, so twice `min_actors` have to fit. A call is scored by exactly one version,
    which is in ``details["version"]`` of every output that an actor made.

    In a config that has to be JSON, name it: ``reward="retouch_reward_models.serving.pool:connect_pool",
    reward_kwargs={"pool_name": …}``. A pool ends with `close` or with the process that started it.

    Args:
        reward: Short name, ``"module:attribute"``, or what makes the reward when called with `reward_kwargs`.
        reward_kwargs: Its options.
        name: Name of the pool in the cluster; None makes one up.
        version: Name of the first version.
        min_actors: See `FleetOptions`, as for all that follow.
        max_actors: Most actors.
        num_cpus: Cores for each actor.
        num_gpus: GPUs for each actor, also fractions.
        max_batch: Most episodes that an actor scores at once.
        max_wait_ms: How long a batch waits to be filled.
        scale_up_s: How long the queue waits until another actor is started.
        idle_s: How long an actor beyond `min_actors` may idle.
        timeout_s: Most time for a call, and for a batch; an actor that takes longer is replaced.
        start_timeout_s: Most time for the start of an actor.
        max_tries: How often an episode is given to an actor.

    Raises:
        ConfigurationError: If Ray is not running, the name is taken, or an option makes no sense.
        RewardError: If the reward cannot be started.
    """

    def __init__(
        self,
        reward: RewardSource,
        reward_kwargs: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        version: str = "0",
        min_actors: int = 1,
        max_actors: int = 4,
        num_cpus: float = 1,
        num_gpus: float = 0,
        max_batch: int = 64,
        max_wait_ms: float = 5,
        scale_up_s: float = 0.2,
        idle_s: float = 60,
        timeout_s: float = 300,
        start_timeout_s: float = 300,
        max_tries: int = 3,
    ) -> None:
        options = FleetOptions(
            min_actors=min_actors,
            max_actors=max_actors,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            max_batch=max_batch,
            max_wait_ms=max_wait_ms,
            scale_up_s=scale_up_s,
            idle_s=idle_s,
            timeout_s=timeout_s,
            start_timeout_s=start_timeout_s,
            max_tries=max_tries,
        )
        _need_ray()
        self.pool_name = name or f"rewards-{uuid.uuid4().hex[:12]}"
        # It only passes references on, so it needs no core of its own; every caller waits inside it.
        actor = ray.remote(Dispatcher).options(
            name=self.pool_name, namespace=NAMESPACE, num_cpus=0, max_concurrency=10_000
        )
        try:
            dispatcher: Any = actor.remote(reward, dict(reward_kwargs or {}), version, options)
        except ValueError as error:
            raise ConfigurationError(
                f"There is a reward pool {self.pool_name!r} already: connect_pool it, close it, or choose another name."
            ) from error
        try:
            self._attach(dispatcher)
        except RetouchError:
            ray.kill(dispatcher)
            raise
        _OWNED[self.pool_name] = dispatcher

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode in the pool, in order. Blocks at most `timeout_s` and a few seconds."""
        if not episodes:
            return []
        try:
            places, parcels, answer = self._send(episodes)
            outputs = ray.get(answer, timeout=self.timeout_s + GRACE_S)
        except RayError as error:
            return failures(len(episodes), self._gone(error))
        del parcels
        return _in_order(places, outputs)

    async def score_async(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """`score` without blocking the event loop, so that generation goes on meanwhile; no thread is held."""
        if not episodes:
            return []
        try:
            places, parcels, answer = await asyncio.to_thread(self._send, episodes)
            waiting = asyncio.wrap_future(answer.future())
            outputs = await asyncio.wait_for(waiting, self.timeout_s + GRACE_S)
        except (RayError, TimeoutError) as error:
            return failures(len(episodes), self._gone(error))
        del parcels
        return _in_order(places, outputs)

    def load(self, version: str, reward_kwargs: Mapping[str, Any] | None = None) -> None:
        """Start a new version in fresh actors and use it once they are ready; calls go on meanwhile.

        Args:
            version: Its name.
            reward_kwargs: Options of the same reward, for instance the folder of its new weights.

        Raises:
            ConfigurationError: If the name is taken, or the version declares another range or other components.
            RewardError: If it cannot be started, or the pool is gone. The version in use stays so.
        """
        self._ask("load", version, dict(reward_kwargs or {}))

    def use(self, version: str) -> None:
        """Go back to a version: the one before at once, an older one once its actors are started again.

        Raises:
            ConfigurationError: If there is none of this name.
            RewardError: If it cannot be started, or the pool is gone.
        """
        self._ask("use", version)

    def stats(self) -> dict[str, Any]:
        """Version in use, versions, calls out of time; and for each warm version its counts, queue and actors.

        Raises:
            RewardError: If the pool is gone.
        """
        found: dict[str, Any] = self._ask("stats")
        return found

    def close(self) -> None:
        """Finish what waits and end the pool, for every handle on it."""
        try:
            self._ask("close")
            ray.kill(self._dispatcher())
        except (RewardError, ValueError):
            pass  # it is gone already, which is what is wanted
        _OWNED.pop(self.pool_name, None)

    def __enter__(self) -> RewardPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        # A copy finds the pool by its name, wherever in the cluster it wakes up.
        return {**vars(self), "_actor": None}

    def _attach(self, dispatcher: Any) -> None:
        self._actor: Any = dispatcher
        description, options = _get(dispatcher.start.remote(), f"The reward pool {self.pool_name!r}")
        self.timeout_s: float = options.timeout_s
        self.max_batch: int = options.max_batch
        description.apply(self)

    def _dispatcher(self) -> Any:
        if self._actor is None:
            self._actor = _find(self.pool_name)
        return self._actor

    def _send(self, episodes: Sequence[Episode]) -> tuple[list[list[int]], list[Any], Any]:
        """Put a call into the queue: the places of each parcel's episodes, the parcels, and where the answer comes."""
        try:
            dispatcher = self._dispatcher()
        except RewardError as error:
            raise RayError(str(error)) from error
        places = list(split(episodes, self.max_batch, whole_groups=self.scope == "group"))
        packed = pack(episodes, references=self.needs_reference)
        parcels = [ray.put([packed[place] for place in parcel]) for parcel in places]
        sizes = [len(parcel) for parcel in places]
        return places, parcels, dispatcher.score.remote(parcels, sizes, self.timeout_s)

    def _gone(self, error: Exception) -> str:
        if isinstance(error, GetTimeoutError | TimeoutError):
            return f"the reward pool {self.pool_name!r} gave no answer within {self.timeout_s + GRACE_S:g} s"
        return f"the reward pool {self.pool_name!r} cannot be reached: {error}"

    def _ask(self, method: str, *arguments: Any) -> Any:
        return _get(getattr(self._dispatcher(), method).remote(*arguments), f"The reward pool {self.pool_name!r}")


def connect_pool(pool_name: str) -> RewardPool:
    """A handle on a running pool, from anywhere in the cluster.

    Args:
        pool_name: Its name, the pool's attribute `pool_name`.

    Raises:
        ConfigurationError: If Ray is not running.
        RewardError: If there is no such pool.
    """
    _need_ray()
    pool = RewardPool.__new__(RewardPool)
    pool.pool_name = pool_name
    pool._attach(_find(pool_name))
    return pool


def _need_ray() -> None:
    if not ray.is_initialized():
        raise ConfigurationError("Ray is not running: call ray.init() before a reward pool is made or connected to.")


def _find(name: str) -> Any:
    if not ray.is_initialized():
        raise RewardError(f"Ray is not running here, so the reward pool {name!r} cannot be reached.")
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError as error:
        raise RewardError(f"There is no reward pool {name!r}. Was it closed, or did its process end?") from error


def _get(reference: Any, what: str) -> Any:
    """What a call of the dispatcher returned; what it raised, as it raised it."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, RetouchError):
            raise error.cause from None
        raise RewardError(f"{what} failed: {error.cause or error}") from error
    except RayError as error:
        raise RewardError(f"{what} cannot be reached: {error}") from error


def _in_order(places: Sequence[Sequence[int]], outputs: Sequence[Sequence[RewardOutput]]) -> list[RewardOutput]:
    found = {
        place: output
        for parcel, scored in zip(places, outputs, strict=True)
        for place, output in zip(parcel, scored, strict=True)
    }
    return [found[place] for place in range(len(found))]
