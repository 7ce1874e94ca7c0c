"""Errors of the reward models."""

from retouch_gym.errors import RetouchError


class BackendError(RetouchError, RuntimeError):
    """A model or an endpoint cannot be used at all, for instance because its folder holds no model."""


class VerdictError(RetouchError, ValueError):
    """A judge's answer holds no valid verdict. It is asked for again, or the item fails; it is never guessed."""
