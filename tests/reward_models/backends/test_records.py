from __future__ import annotations

import json
import pickle
import threading

import pytest

from retouch_reward_models.backends import CallRecord, ChatFailure, ChatReply, Prices


def test_everything_adds_up() -> None:
    record = CallRecord(Prices(prompt=1.0, completion=4.0))
    assert record.summary()["latency_s"] is None
    for seconds in range(1, 101):
        record.add(ChatReply("x", 10, 2, seconds=float(seconds), attempts=2))
    record.add(ChatReply("x", seconds=1.0))
    record.add(ChatFailure("timeout", "late", attempts=3))
    record.add(ChatFailure("circuit_open", "open", attempts=0))
    record.add_failed_attempt("timeout")
    summary = record.summary()
    assert json.loads(json.dumps(summary)) == summary
    latency = summary.pop("latency_s")
    assert summary == {
        "requests": 103,
        "replies": 101,
        "failures": {"timeout": 1, "circuit_open": 1},
        "attempts": 204,
        "failed_attempts": {"timeout": 1},
        "prompt_tokens": 1000,
        "completion_tokens": 200,
        "replies_without_usage": 1,
        "money": {"amount": pytest.approx(0.0018), "currency": "USD"},
    }
    assert (latency["p50"], latency["p90"], latency["max"]) == (50.0, 90.0, 100.0)


def test_threads_lose_nothing() -> None:
    record = CallRecord()

    def work() -> None:
        for _ in range(500):
            record.add(ChatReply("x", 1, 1))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    summary = record.summary()
    assert (summary["requests"], summary["prompt_tokens"], summary["money"]) == (4000, 4000, None)


def test_a_copy_begins_at_nothing() -> None:
    record = CallRecord(Prices(1, 1))
    record.add(ChatReply("x", 1, 1))
    copy = pickle.loads(pickle.dumps(record))
    assert (copy.summary()["requests"], copy.prices) == (0, record.prices)
    record.reset()
    assert record.summary()["requests"] == 0
