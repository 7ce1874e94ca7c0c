"""Errors of the agents package."""

from retouch_gym.errors import RetouchError


class ModelError(RetouchError, RuntimeError):
    """A model, tokenizer or processor cannot be loaded or does not fit the task."""
