"""A server that misbehaves: no wrong answer, no lost item, bounded time, right counts, and unharmed neighbours."""

from __future__ import annotations

import email.utils
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from retouch_reward_models.backends import BreakerPolicy, ChatFailure, ChatReply, ChatRequest, OpenAICompatible

Make = Callable[..., OpenAICompatible]
Asking = Callable[..., list[ChatRequest]]

ALWAYS = [
    ("hang", "timeout"),
    ("drip", "timeout"),
    ("cut", "connection"),
    ("status:500", "server"),
    ("status:503 after 0", "server"),
    ("status:429", "rate_limit"),
    ("status:429 after 60", "rate_limit"),
    ("status:400", "refused"),
    ("status:401", "refused"),
    ("status:404", "refused"),
    ("html", "malformed"),
    ("truncated", "malformed"),
    ("body:", "malformed"),
    ("body:10", "malformed"),
    ("body:the score is 10", "malformed"),
    ("body:\xff\xfe\x00", "malformed"),
    ('body:{"choices": []}', "malformed"),
    ('body:{"choices": {"message": {"content": "10"}}}', "malformed"),
    ('body:{"choices": [{"message": {"content": 10}}]}', "malformed"),
    ('body:{"choices": [{"message": {"content": null, "refusal": "no"}}]}', "malformed"),
    ('body:{"choices": [{"message": {"content": ["10"]}}]}', "malformed"),
    ('body:{"choices": [{"text": "10"}]}', "malformed"),
    ('body:{"error": {"message": "overloaded"}}', "malformed"),
    ('body:{"choices": [{"message": {"content": "10"}}], "usage": NaN}', "malformed"),
]


@pytest.mark.parametrize(("fault", "kind"), ALWAYS, ids=[fault for fault, _ in ALWAYS])
def test_one_item_fails_and_its_neighbours_do_not(
    server, endpoint: Make, asking: Asking, fault: str, kind: str
) -> None:
    server.faults = {"bad": [fault]}
    backend = endpoint(timeout_s=1.5, attempts=3)
    start = time.monotonic()
    first, bad, last = backend.complete(asking("one", "bad", "two"))
    assert time.monotonic() - start < 4
    assert isinstance(first, ChatReply)
    assert isinstance(last, ChatReply)
    assert (first.text, last.text, first.attempts, last.attempts) == ("echo: one", "echo: two", 1, 1)
    assert isinstance(bad, ChatFailure)
    assert bad.kind == kind
    assert bad.attempts == len(server.calls["bad"])
    summary = backend.record.summary()
    assert (summary["requests"], summary["replies"], summary["failures"]) == (3, 2, {kind: 1})
    assert (summary["attempts"], summary["failed_attempts"]) == (2 + bad.attempts, {kind: bad.attempts})


@pytest.mark.parametrize(
    "fault",
    ["cut", "status:500", "status:503", "status:408", "status:429", "html", "truncated", 'body:{"choices": []}'],
)
def test_what_passes_is_tried_again(server, endpoint: Make, asking: Asking, fault: str) -> None:
    server.faults = {"shaky": [fault, fault, "fine"]}
    backend = endpoint(attempts=4)
    shaky, fine = backend.complete(asking("shaky", "fine"))
    assert isinstance(shaky, ChatReply)
    assert (shaky.text, shaky.attempts, len(server.calls["shaky"])) == ("echo: shaky", 3, 3)
    assert isinstance(fine, ChatReply)
    assert fine.attempts == 1
    summary = backend.record.summary()
    assert (summary["failures"], summary["attempts"], sum(summary["failed_attempts"].values())) == ({}, 4, 2)


def test_a_hang_is_tried_again_within_a_limit_for_attempts(server, endpoint: Make, asking: Asking) -> None:
    server.faults = {"slow": ["hang", "drip", "fine"]}
    (reply,) = endpoint(attempt_timeout_s=0.3).complete(asking("slow"))
    assert isinstance(reply, ChatReply)
    assert reply.attempts == 3
    assert 0.6 <= reply.seconds < 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_refusal_is_not_tried_again(server, endpoint: Make, asking: Asking, status: int) -> None:
    server.faults = {"bad": [f"status:{status}"]}
    (failure,) = endpoint().complete(asking("bad"))
    assert isinstance(failure, ChatFailure)
    assert (failure.kind, failure.attempts, len(server.calls["bad"])) == ("refused", 1, 1)
    assert str(status) in failure.reason


def test_a_wait_that_is_asked_for_is_kept(server, endpoint: Make, asking: Asking) -> None:
    server.faults = {"busy": ["status:429 after 1", "fine"]}
    (reply,) = endpoint().complete(asking("busy"))
    assert isinstance(reply, ChatReply)
    first, second = server.calls["busy"]
    assert second - first >= 1.0


def test_a_date_to_wait_for_is_kept(server, endpoint: Make, asking: Asking) -> None:
    when = time.time() + 2
    server.faults = {"busy": [f"status:503 after {email.utils.formatdate(when, usegmt=True)}", "fine"]}
    (reply,) = endpoint().complete(asking("busy"))
    assert isinstance(reply, ChatReply)
    # Dates have whole seconds.
    assert time.time() >= int(when)


def test_a_wait_past_the_deadline_fails_at_once(server, endpoint: Make, asking: Asking) -> None:
    server.faults = {"busy": ["status:429 after 120"]}
    start = time.monotonic()
    (failure,) = endpoint(timeout_s=5).complete(asking("busy"))
    assert time.monotonic() - start < 3
    assert isinstance(failure, ChatFailure)
    assert (failure.kind, failure.attempts) == ("rate_limit", 1)


@pytest.mark.parametrize("wait", ["soon", "nan", "-5", "inf"])
def test_a_wait_that_makes_no_sense_is_not_kept(server, endpoint: Make, asking: Asking, wait: str) -> None:
    server.faults = {"busy": [f"status:429 after {wait}", "fine"]}
    (reply,) = endpoint(timeout_s=2).complete(asking("busy"))
    assert isinstance(reply, ChatReply)


def test_many_items_with_every_fault_are_all_accounted_for(server, endpoint: Make, asking: Asking) -> None:
    kinds = dict(ALWAYS)
    server.faults = {fault: [fault] for fault in kinds}
    texts = [text for fault in kinds for text in (fault, f"good {fault}")]
    backend = endpoint(concurrency=16, timeout_s=3, attempts=2, breaker=BreakerPolicy(failures=1000))
    start = time.monotonic()
    results = backend.complete(asking(*texts))
    assert time.monotonic() - start < 12
    assert [r.text if isinstance(r, ChatReply) else r.kind for r in results] == [
        kinds.get(text, f"echo: {text}") for text in texts
    ]
    summary = backend.record.summary()
    assert (summary["replies"], sum(summary["failures"].values())) == (len(kinds), len(kinds))
    assert summary["attempts"] == sum(len(calls) for calls in server.calls.values())


@pytest.fixture
def hanging_up() -> Iterator[str]:
    """A server that closes every connection without a word."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def test_a_connection_that_is_closed_before_the_answer(hanging_up: str, endpoint: Make, asking: Asking) -> None:
    backend = OpenAICompatible(hanging_up, "m", attempts=2, timeout_s=5)
    (failure,) = backend.complete(asking("x"))
    assert isinstance(failure, ChatFailure)
    assert (failure.kind, failure.attempts) == ("connection", 2)


def test_nobody_listens(asking: Asking) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    backend = OpenAICompatible(f"http://127.0.0.1:{port}/v1", "m", attempts=1)
    assert [getattr(failure, "kind", None) for failure in backend.complete(asking("x", "y"))] == ["connection"] * 2


def test_the_circuit_opens_and_closes_again(server, endpoint: Make, asking: Asking) -> None:
    server.faults = {"x": ["status:500"]}
    backend = endpoint(concurrency=1, attempts=2, breaker=BreakerPolicy(failures=4, cool_down_s=1.0))
    results = backend.complete(asking(*"xx", *["fine"] * 50))
    assert [getattr(result, "kind", None) for result in results] == ["server"] * 2 + ["circuit_open"] * 50
    assert [result.attempts for result in results[2:]] == [0] * 50
    assert (len(server.calls["x"]), len(server.calls["fine"])) == (4, 0)
    assert backend.breaker.state == "open"
    time.sleep(1.05)
    # Half-open: the trial of a bad item opens it again, that of a good one closes it.
    assert [getattr(r, "kind", None) for r in backend.complete(asking("x", "fine"))] == ["server", "circuit_open"]
    assert len(server.calls["x"]) == 5
    time.sleep(1.05)
    assert all(isinstance(reply, ChatReply) for reply in backend.complete(asking("fine", "fine")))
    assert backend.breaker.state == "closed"
    assert backend.record.summary()["failures"] == {"server": 3, "circuit_open": 51}


def test_refusals_and_rate_limits_do_not_open_the_circuit(server, endpoint: Make, asking: Asking) -> None:
    server.faults = {"bad": ["status:400"], "busy": ["status:429"]}
    backend = endpoint(concurrency=1, attempts=2, breaker=BreakerPolicy(failures=2))
    results = backend.complete(asking(*["bad", "busy"] * 4, "fine"))
    assert isinstance(results[-1], ChatReply)
    assert backend.breaker.state == "closed"
