"""Trying again, but not for ever: backoff, one deadline over all attempts, and a circuit breaker."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

from retouch_gym.errors import ConfigurationError
from retouch_reward_models.backends.base import FailureKind

Value = TypeVar("Value")

Health: TypeAlias = Literal["well", "ill", "unknown"]
"""What a failed attempt says of the endpoint: it works and does not want this request, it does not work, or neither."""


class AttemptError(Exception):
    """One attempt failed.

    Args:
        kind: Class of the failure.
        reason: What happened, in words.
        retry: Whether another attempt may end differently.
        retry_after_s: For how long the endpoint asks not to be called, if it does.
        health: What this says of the endpoint.
    """

    def __init__(
        self,
        kind: FailureKind,
        reason: str,
        *,
        retry: bool = True,
        retry_after_s: float | None = None,
        health: Health = "ill",
    ) -> None:
        super().__init__(reason)
        self.kind: FailureKind = kind
        self.reason = reason
        self.retry = retry
        self.retry_after_s = retry_after_s
        self.health: Health = health


@dataclass(frozen=True)
class Backoff:
    """How long to wait between attempts: doubling, with jitter so that a batch does not come back all at once.

    Args:
        first_s: Longest wait after the first failed attempt, in seconds.
        most_s: Longest wait at all, in seconds. What the endpoint itself asks for may be longer.
    """

    first_s: float = 0.5
    most_s: float = 8.0

    def __post_init__(self) -> None:
        if not 0 <= self.first_s <= self.most_s:
            raise ConfigurationError(f"Backoff needs 0 <= first_s <= most_s, got {self.first_s} and {self.most_s}.")

    def wait_s(self, failed: int, asked_s: float | None, uniform: Callable[[], float] = random.random) -> float:
        """Seconds to wait.

        Args:
            failed: Attempts that failed so far, from 1.
            asked_s: What the endpoint asked for; never undercut.
            uniform: Source of numbers in [0, 1).
        """
        # The exponent is bounded because 2.0**1024 overflows.
        longest = min(self.most_s, self.first_s * 2.0 ** min(failed - 1, 60))
        jittered = longest * (0.5 + 0.5 * uniform())
        return jittered if asked_s is None else max(asked_s, 0.0) + jittered * 0.1


@dataclass(frozen=True)
class BreakerPolicy:
    """When to stop calling an endpoint that does not work.

    Args:
        failures: Attempts that fail one after another, over all items, until the circuit opens. Keep it well above the
            attempts of one item: a single item that makes the endpoint fail must not take the others with it.
        cool_down_s: Seconds for which it stays open; then one request at a time is let through to try.
    """

    failures: int = 16
    cool_down_s: float = 15.0

    def __post_init__(self) -> None:
        if self.failures < 1 or self.cool_down_s < 0:
            raise ConfigurationError(
                f"BreakerPolicy needs failures >= 1 and cool_down_s >= 0, got {self.failures} and {self.cool_down_s}."
            )


class CircuitBreaker:
    """Refuses calls while an endpoint does not work. Can be used from several threads.

    Closed: everything passes. After `failures` in a row it opens: nothing passes. After the cool-down it is half-open:
    one call passes, and its end closes or opens the circuit again.

    Args:
        policy: When it opens and for how long.
        clock: Seconds from any start; never goes back.
    """

    def __init__(self, policy: BreakerPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self.policy = policy
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._opened: float | None = None
        self._trying = False

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        """Where it stands now."""
        with self._lock:
            if self._opened is None:
                return "closed"
            return "open" if self._left_s() > 0 else "half-open"

    def admit(self) -> bool:
        """Whether a call may be made now. Whoever is admitted owes one call of `note`."""
        with self._lock:
            if self._opened is None:
                return True
            if self._left_s() > 0 or self._trying:
                return False
            self._trying = True
            return True

    def note(self, health: Health) -> None:
        """What an admitted call told of the endpoint; ``"unknown"`` if it was given up or told nothing."""
        with self._lock:
            if health == "well":
                self._failures, self._opened, self._trying = 0, None, False
            elif health == "unknown":
                self._trying = False
            else:
                self._failures += 1
                # A call that began before the circuit opened does not prolong the cool-down.
                if self._trying or (self._opened is None and self._failures >= self.policy.failures):
                    self._opened, self._trying = self._clock(), False

    def describe(self) -> str:
        """State in words, for a failure's reason."""
        with self._lock:
            if self._opened is None:
                return "the circuit breaker is closed"
            left = max(0.0, self._left_s())
            return f"{self._failures} attempts in a row failed; the endpoint is left alone for another {left:.1f} s"

    def _left_s(self) -> float:
        return 0.0 if self._opened is None else self._opened + self.policy.cool_down_s - self._clock()


@dataclass(frozen=True)
class Limits:
    """How much is done for one item.

    Args:
        attempts: Most attempts.
        deadline_s: Seconds for everything: attempts and the waits between them.
        attempt_s: Seconds for one attempt; None leaves it all that is left. Without it a request that hangs uses up
            the deadline and is not tried again.
    """

    attempts: int = 4
    deadline_s: float = 60.0
    attempt_s: float | None = None

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigurationError(f"attempts has to be 1 or more, got {self.attempts}.")
        if not (self.deadline_s > 0 and (self.attempt_s is None or self.attempt_s > 0)):
            raise ConfigurationError(
                f"Time limits have to be above 0 s, got {self.deadline_s} for an item and {self.attempt_s} for an "
                "attempt."
            )


@dataclass(frozen=True)
class Outcome(Generic[Value]):
    """What came of an item.

    Args:
        value: What the call returned; None if there is nothing.
        failure: Why there is nothing; None if there is.
        attempts: Attempts made; 0 if the circuit was open.
        seconds: Time spent.
    """

    value: Value | None
    failure: AttemptError | None
    attempts: int
    seconds: float


async def persist(
    call: Callable[[], Awaitable[Value]],
    *,
    limits: Limits,
    backoff: Backoff,
    breaker: CircuitBreaker,
    on_failure: Callable[[AttemptError], None] = lambda error: None,
) -> Outcome[Value]:
    """Call until it succeeds, cannot succeed, or the limits are reached.

    The time limit cancels the call, so it also ends an answer that arrives byte by byte and would never time out.

    Args:
        call: Makes one attempt; raises `AttemptError` when that fails. Anything else it raises is passed on.
        limits: Attempts and seconds.
        backoff: Waits between attempts.
        breaker: Shared by all calls of one endpoint.
        on_failure: Told of every failed attempt.
    """
    start = time.monotonic()
    attempts = 0
    failure: AttemptError | None = None
    while True:
        if not breaker.admit():
            refused = AttemptError("circuit_open", breaker.describe(), retry=False)
            # What really went wrong with this item says more than that the circuit has opened meanwhile.
            return Outcome(None, failure or refused, attempts, time.monotonic() - start)
        attempts += 1
        left = limits.deadline_s - (time.monotonic() - start)
        try:
            value = await _attempt(call, left if limits.attempt_s is None else min(left, limits.attempt_s), breaker)
            return Outcome(value, None, attempts, time.monotonic() - start)
        except AttemptError as error:
            failure = error
        on_failure(failure)
        wait = backoff.wait_s(attempts, failure.retry_after_s)
        seconds = time.monotonic() - start
        if not failure.retry or attempts >= limits.attempts or seconds + wait >= limits.deadline_s:
            return Outcome(None, failure, attempts, seconds)
        await asyncio.sleep(wait)


async def _attempt(call: Callable[[], Awaitable[Value]], limit_s: float, breaker: CircuitBreaker) -> Value:
    health: Health = "unknown"
    try:
        async with asyncio.timeout(limit_s):
            value = await call()
        health = "well"
        return value
    except AttemptError as error:
        health = error.health
        raise
    except TimeoutError as error:
        health = "ill"
        raise AttemptError("timeout", f"no answer within {limit_s:.1f} s") from error
    finally:
        # Also when the whole batch is cancelled: a trial that nobody ends would keep the circuit open for ever.
        breaker.note(health)
