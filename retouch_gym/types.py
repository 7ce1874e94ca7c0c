"""Plain data that crosses every layer: photos, actions, and the protocol of a lazily read photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
"""A photo: uint8, shape (H, W, 3), channels R, G, B, sRGB-encoded, C-contiguous."""

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""A value that JSON can hold."""


@dataclass(frozen=True)
class ToolCall:
    """One structured action: a tool's name and its arguments, as a model writes them.

    Nothing is checked here. The environment's `Toolset` validates a call against the tool's JSON
    Schema, so that a bad call can be shown to the agent instead of raising in its face.

    Args:
        name: Name of the tool, for instance ``"exposure"``.
        arguments: JSON-like arguments. NumPy scalars are turned into Python numbers.
    """

    name: str
    arguments: Mapping[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.arguments, Mapping):
            plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in self.arguments.items()}
            object.__setattr__(self, "arguments", plain)

    def __hash__(self) -> int:
        return hash((self.name, repr(self.arguments)))


@dataclass(frozen=True)
class Unparsable:
    """An answer from which no tool call could be read. Taking it as an action costs a turn.

    Args:
        reason: What is wrong, in words that help the agent to mend it.
        text: The answer as written.
    """

    reason: str
    text: str = ""


Action: TypeAlias = ToolCall | Sequence[ToolCall] | Unparsable
"""What an agent does in one turn: one call, a plan of several calls (all or nothing), or a failure to say."""


@runtime_checkable
class Photo(Protocol):
    """A photo that is read or computed only when it is needed. Implementations are small, picklable data."""

    def load(self) -> Image:
        """Return the pixels: uint8 (H, W, 3) sRGB. It may be shared and read-only: copy before writing.

        Raises:
            ImageError: If the photo cannot be read.
        """
        ...
