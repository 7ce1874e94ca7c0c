"""What calling a backend took: requests, failures, tokens, money, seconds."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from retouch_gym.errors import ConfigurationError
from retouch_reward_models.backends.base import ChatFailure, ChatReply, FailureKind

KEPT_LATENCIES = 10_000
"""Percentiles are those of this many latest replies."""


@dataclass(frozen=True)
class Prices:
    """What tokens cost.

    Args:
        prompt: Price of a million tokens of conversation, photos included.
        completion: Price of a million tokens of answers.
        currency: Its name, for the record.
    """

    prompt: float
    completion: float
    currency: str = "USD"

    def __post_init__(self) -> None:
        if not (self.prompt >= 0 and self.completion >= 0):
            raise ConfigurationError(f"Prices have to be 0 or more, got {self.prompt} and {self.completion}.")

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Price of so many tokens."""
        return (self.prompt * prompt_tokens + self.completion * completion_tokens) / 1e6


class CallRecord:
    """Counts what a backend does. Can be written from several threads; a pickled copy begins at nothing.

    Args:
        prices: What tokens cost; None keeps no account of money.
    """

    def __init__(self, prices: Prices | None = None) -> None:
        self.prices = prices
        self._lock = threading.Lock()
        self.reset()

    def __reduce__(self) -> tuple[type[CallRecord], tuple[Prices | None]]:
        return CallRecord, (self.prices,)

    def reset(self) -> None:
        """Begin again at nothing."""
        with self._lock:
            self._requests = self._replies = self._attempts = self._without_usage = 0
            self._prompt_tokens = self._completion_tokens = 0
            self._failures: Counter[str] = Counter()
            self._failed_attempts: Counter[str] = Counter()
            self._latencies: deque[float] = deque(maxlen=KEPT_LATENCIES)

    def add(self, result: ChatReply | ChatFailure) -> None:
        """Count one request that has ended."""
        with self._lock:
            self._requests += 1
            self._attempts += result.attempts
            if isinstance(result, ChatFailure):
                self._failures[result.kind] += 1
                return
            self._replies += 1
            self._latencies.append(result.seconds)
            self._prompt_tokens += result.prompt_tokens or 0
            self._completion_tokens += result.completion_tokens or 0
            self._without_usage += result.prompt_tokens is None or result.completion_tokens is None

    def add_failed_attempt(self, kind: FailureKind) -> None:
        """Count one attempt that failed, whether or not a later one succeeds."""
        with self._lock:
            self._failed_attempts[kind] += 1

    def summary(self) -> dict[str, Any]:
        """The figures so far, ready for JSON.

        Returns:
            ``requests`` (= ``replies`` + the sum of ``failures``), ``failures`` and ``failed_attempts`` by kind,
            ``attempts``, ``prompt_tokens``, ``completion_tokens``, ``replies_without_usage`` (their tokens are not
            known and so not counted), ``money`` (None without prices; what failed attempts cost is not known) and
            ``latency_s``: mean, percentiles and maximum of the replies, retries and their waits included, in seconds;
            None before the first.
        """
        with self._lock:
            latencies = np.array(self._latencies, np.float64)
            money = None
            if self.prices is not None:
                amount = self.prices.of(self._prompt_tokens, self._completion_tokens)
                money = {"amount": amount, "currency": self.prices.currency}
            return {
                "requests": self._requests,
                "replies": self._replies,
                "failures": dict(self._failures),
                "attempts": self._attempts,
                "failed_attempts": dict(self._failed_attempts),
                "prompt_tokens": self._prompt_tokens,
                "completion_tokens": self._completion_tokens,
                "replies_without_usage": self._without_usage,
                "money": money,
                "latency_s": _latency(latencies) if latencies.size else None,
            }


def _latency(seconds: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    p50, p90, p99 = (float(value) for value in np.percentile(seconds, (50, 90, 99)))
    return {"mean": float(seconds.mean()), "p50": p50, "p90": p90, "p99": p99, "max": float(seconds.max())}
