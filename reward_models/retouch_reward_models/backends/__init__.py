"""Chat models that judges speak to."""

from retouch_reward_models.backends.base import (
    Backend,
    ChatFailure,
    ChatReply,
    ChatRequest,
    FailureKind,
    TokenChoice,
)

__all__ = ["Backend", "ChatFailure", "ChatReply", "ChatRequest", "FailureKind", "TokenChoice"]
