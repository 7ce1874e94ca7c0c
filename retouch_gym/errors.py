"""Errors of retouch-gym.

The rule: what an *agent* does wrong is feedback inside an episode and never an exception
(`ToolError` is caught by the environment and becomes `info["tool_error"]`); what a *user* or the
machine does wrong raises. Every message names the value, what was expected and the next step.
"""


class RetouchError(Exception):
    """Base class of every error raised by retouch-gym."""


class ImageError(RetouchError, ValueError):
    """A photo cannot be read, written, or is not a uint8 (H, W, 3) sRGB array."""


class ToolError(RetouchError, ValueError):
    """A tool call is refused: unknown tool, or an argument that breaks the tool's JSON Schema."""


class RecipeError(RetouchError, ValueError):
    """A recipe is malformed, of an unknown version, or belongs to another toolset."""


class RendererError(RetouchError, RuntimeError):
    """A renderer failed, or cannot render this recipe."""


class RewardError(RetouchError, RuntimeError):
    """A reward could not score an episode. Never replaced by a number."""


class DatasetError(RetouchError, ValueError):
    """A dataset or one of its tasks cannot be found or read."""


class ConfigurationError(RetouchError, ValueError):
    """A name, option or combination of options is not known."""


class StateError(RetouchError, ValueError):
    """A saved state does not fit the environment or is damaged."""
