"""Chat models that judges speak to."""

from retouch_reward_models.backends.base import (
    Backend,
    ChatFailure,
    ChatReply,
    ChatRequest,
    FailureKind,
    TokenChoice,
)
from retouch_reward_models.backends.cache import CachedBackend
from retouch_reward_models.backends.endpoint import OpenAICompatible
from retouch_reward_models.backends.fake import FakeBackend, hashed_number
from retouch_reward_models.backends.records import CallRecord, Prices
from retouch_reward_models.backends.resilience import Backoff, BreakerPolicy, CircuitBreaker

__all__ = [
    "Backend",
    "Backoff",
    "BreakerPolicy",
    "CachedBackend",
    "CallRecord",
    "ChatFailure",
    "ChatReply",
    "ChatRequest",
    "CircuitBreaker",
    "FailureKind",
    "FakeBackend",
    "OpenAICompatible",
    "Prices",
    "TokenChoice",
    "hashed_number",
]
