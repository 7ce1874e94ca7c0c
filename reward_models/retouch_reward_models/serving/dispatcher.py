"""The pool's one named actor: takes the calls of every env runner, and knows the versions of the reward."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

from retouch_gym.errors import ConfigurationError, RewardError
from retouch_gym.rewards.base import RewardOutput
from retouch_reward_models.serving.fleet import Fleet, FleetOptions, Ticket
from retouch_reward_models.serving.scoring import Description, RewardSource, failures


class Dispatcher:
    """An asynchronous actor that gathers calls into batches for the actors of the version in use.

    A call is scored by the version that was in use when it arrived, whole, whatever happens meanwhile.

    Args:
        reward: Name or factory of the reward.
        kwargs: Options of its first version.
        version: Name of the first version.
        options: See `FleetOptions`.
    """

    def __init__(self, reward: RewardSource, kwargs: Mapping[str, Any], version: str, options: FleetOptions) -> None:
        self._reward = reward
        self._options = options
        self._kwargs: dict[str, dict[str, Any]] = {version: dict(kwargs)}
        self._fleets: dict[str, Fleet] = {}
        self._version = version
        self._description: Description | None = None
        self._changing = asyncio.Lock()
        self._stopping: set[asyncio.Task[None]] = set()
        self._timeouts = 0

    async def start(self) -> tuple[Description, FleetOptions]:
        """Start the first version if it is not running, and say what it is.

        Raises:
            RewardError: If it cannot be started.
        """
        async with self._changing:
            if self._description is None:
                self._fleets[self._version] = fleet = self._fleet(self._version)
                self._description = await fleet.start()
        return self._description, self._options

    async def score(self, parcels: Sequence[Any], sizes: Sequence[int], timeout_s: float) -> list[list[RewardOutput]]:
        """Score the parcels of one call.

        Args:
            parcels: References to lists of packed episodes.
            sizes: How many episodes are in each.
            timeout_s: Most time for all of them. What is not scored by then gets errors.

        Returns:
            The outputs of each parcel.
        """
        fleet = self._fleets[self._version]
        tickets = [fleet.submit(parcel, size) for parcel, size in zip(parcels, sizes, strict=True)]
        await asyncio.wait([ticket.future for ticket in tickets], timeout=timeout_s)
        return [self._outputs(ticket, timeout_s) for ticket in tickets]

    async def load(self, version: str, kwargs: Mapping[str, Any]) -> None:
        """Start a version in actors of its own and, once as many are ready as serve now, use it.

        Raises:
            ConfigurationError: If there is such a version already, or it declares another range, other components,
                another scope or another need of references.
            RewardError: If it cannot be started. The version in use stays so.
        """
        async with self._changing:
            if version in self._kwargs:
                raise ConfigurationError(
                    f"There is a version {version!r} already, of {', '.join(map(repr, self._kwargs))}. "
                    "Load the new one under another name, or go back to it with use()."
                )
            await self._switch(version, kwargs)
            self._kwargs[version] = dict(kwargs)

    async def use(self, version: str) -> None:
        """Go back to a version: at once if it was the last one, else its actors are started first.

        Raises:
            ConfigurationError: If there is none of this name.
            RewardError: If it cannot be started again.
        """
        async with self._changing:
            if version not in self._kwargs:
                raise ConfigurationError(f"No version {version!r}; there are {', '.join(map(repr, self._kwargs))}.")
            if version != self._version:
                await self._switch(version, self._kwargs[version])

    def stats(self) -> dict[str, Any]:
        """The version in use, all versions, parcels that ran out of time, this process, and every fleet's state."""
        fleets = {version: fleet.state() for version, fleet in self._fleets.items()}
        versions = {"version": self._version, "versions": list(self._kwargs)}
        return {**versions, "timeouts": self._timeouts, "pid": os.getpid(), "fleets": fleets}

    async def close(self) -> None:
        """Finish what waits and end every actor."""
        await asyncio.gather(*(fleet.stop() for fleet in self._fleets.values()), *self._stopping)

    async def _switch(self, version: str, kwargs: Mapping[str, Any]) -> None:
        before = self._version
        if version not in self._fleets:
            fleet = self._fleet(version, kwargs)
            described = await fleet.start(len(self._fleets[before].state()["actors"]))
            try:
                self._check(version, described)
            except ConfigurationError:
                await fleet.stop()
                raise
            self._fleets[version] = fleet
        self._version = version
        # Only the last version is kept warm; the others give their memory back once they have answered.
        for old in set(self._fleets) - {version, before}:
            task = asyncio.get_running_loop().create_task(self._fleets.pop(old).stop())
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    def _check(self, version: str, found: Description) -> None:
        known = self._description
        if known is None:
            raise RewardError("The pool has not been started.")
        for name in ("range", "components", "needs_reference", "scope"):
            if getattr(found, name) != getattr(known, name):
                raise ConfigurationError(
                    f"Version {version!r} declares {name} = {getattr(found, name)!r}, the pool's handles say "
                    f"{getattr(known, name)!r}. Start another pool for another reward."
                )

    def _fleet(self, version: str, kwargs: Mapping[str, Any] | None = None) -> Fleet:
        return Fleet(self._reward, self._kwargs[version] if kwargs is None else kwargs, version, self._options)

    def _outputs(self, ticket: Ticket, timeout_s: float) -> list[RewardOutput]:
        if ticket.future.done():
            return ticket.future.result()
        ticket.future.cancel()
        self._timeouts += 1
        return failures(ticket.size, f"not scored within {timeout_s:g} s")
