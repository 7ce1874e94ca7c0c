from __future__ import annotations

import asyncio
import time

import pytest

from retouch_reward_models.backends import Backoff, BreakerPolicy, CircuitBreaker
from retouch_reward_models.backends.resilience import AttemptError, Limits, persist


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(BreakerPolicy(failures=3, cool_down_s=10), clock)


def fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        assert breaker.admit()
        breaker.note("ill")


def test_waits_double_up_to_a_bound_and_differ() -> None:
    backoff = Backoff(first_s=1, most_s=5)
    assert [backoff.wait_s(failed, None, lambda: 1.0) for failed in (1, 2, 3, 4, 5000)] == [1, 2, 4, 5, 5]
    assert [backoff.wait_s(failed, None, lambda: 0.0) for failed in (1, 2, 3, 4)] == [0.5, 1, 2, 2.5]
    assert len({backoff.wait_s(1, None) for _ in range(20)}) > 10


def test_what_is_asked_for_is_never_undercut() -> None:
    backoff = Backoff(first_s=1, most_s=5)
    assert backoff.wait_s(1, 30.0, lambda: 0.0) >= 30
    assert 0 <= backoff.wait_s(1, -3.0, lambda: 0.0) < 1


def test_it_opens_after_failures_in_a_row_only(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    breaker.note("well")
    fail(breaker, 2)
    # What tells nothing neither counts nor clears.
    breaker.note("unknown")
    assert breaker.state == "closed"
    fail(breaker, 1)
    assert breaker.state == "open"
    assert not breaker.admit()
    assert "3 attempts in a row failed; the endpoint is left alone for another 10.0 s" in breaker.describe()


def test_half_open_lets_one_through(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 9.9
    assert not breaker.admit()
    clock.now += 0.1
    assert breaker.state == "half-open"
    assert [breaker.admit() for _ in range(3)] == [True, False, False]
    breaker.note("well")
    assert breaker.state == "closed"
    assert all(breaker.admit() for _ in range(3))


def test_a_failed_trial_opens_it_for_the_whole_time_again(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 10
    fail(breaker, 1)
    clock.now += 9.9
    assert not breaker.admit()
    clock.now += 0.1
    assert breaker.admit()


def test_a_trial_that_is_given_up_leaves_room_for_the_next(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 10
    assert breaker.admit()
    breaker.note("unknown")
    assert breaker.state == "half-open"
    assert breaker.admit()


def test_late_failures_do_not_prolong_the_cool_down(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(5):
        assert breaker.admit()
    for _ in range(3):
        breaker.note("ill")
    clock.now += 5
    breaker.note("ill")
    breaker.note("ill")
    clock.now += 5
    assert breaker.admit()


def run(call, breaker: CircuitBreaker, **limits: float):
    return asyncio.run(persist(call, limits=Limits(**limits), backoff=Backoff(0.01, 0.02), breaker=breaker))


def test_attempts_are_bounded(breaker: CircuitBreaker) -> None:
    calls = []

    async def call() -> str:
        calls.append(1)
        raise AttemptError("malformed", f"no. {len(calls)}", health="well")

    outcome = run(call, breaker, attempts=5)
    assert (outcome.value, outcome.attempts, len(calls)) == (None, 5, 5)
    assert outcome.failure is not None
    assert outcome.failure.reason == "no. 5"


def test_one_deadline_over_everything(breaker: CircuitBreaker) -> None:
    async def call() -> str:
        await asyncio.sleep(30)
        return "late"

    start = time.monotonic()
    outcome = run(call, breaker, attempts=100, deadline_s=0.3, attempt_s=0.1)
    assert time.monotonic() - start < 3
    assert outcome.failure is not None
    assert outcome.failure.kind == "timeout"
    assert 1 <= outcome.attempts <= 3


def test_an_item_whose_circuit_opens_tells_what_went_wrong_with_it(breaker: CircuitBreaker) -> None:
    async def call() -> str:
        raise AttemptError("server", "boom")

    outcome = run(call, breaker, attempts=10)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.attempts) == ("server", 3)
    after = run(call, breaker, attempts=10)
    assert after.failure is not None
    assert (after.failure.kind, after.attempts) == ("circuit_open", 0)


def test_what_is_no_failed_attempt_is_passed_on(breaker: CircuitBreaker, clock: Clock) -> None:
    async def call() -> str:
        raise KeyError("a mistake of ours")

    fail(breaker, 3)
    clock.now += 10
    with pytest.raises(KeyError):
        run(call, breaker)
    # The trial is over all the same.
    assert breaker.admit()
