"""Spaces for photos, instructions and tool calls.

Gymnasium's `Box` has one fixed shape and its `Text` a closed alphabet (letters and digits by default;
all of Unicode costs seconds and tens of megabytes per space). These are small, cheap and picklable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from gymnasium import Space
from numpy.typing import NDArray

from retouch_gym.chat.messages import Message
from retouch_gym.errors import ConfigurationError, ToolError
from retouch_gym.images import is_image
from retouch_gym.tools.toolset import MAX_CALLS, Toolset
from retouch_gym.types import Image, ToolCall

Seed: TypeAlias = int | np.random.Generator | None
Plan: TypeAlias = ToolCall | tuple[ToolCall, ...]
"""An element of `PlanSpace`: one call, or several that are applied together."""

ROLES = ("system", "user", "assistant")
"""Who can speak in a conversation."""

_LAST_CODE_POINT = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)
_SAMPLED_LENGTH = 64


class ImageSpace(Space[Image]):
    """Photos of any size: uint8 arrays (H, W, 3), RGB, sRGB-encoded.

    Args:
        min_side: Smallest side of a *sampled* photo, in pixels.
        max_side: Largest side of a *sampled* photo, in pixels. Membership has no bound on the size.
        seed: Seed or generator for sampling.

    Raises:
        ConfigurationError: If not 1 ≤ min_side ≤ max_side.

    Example:
        >>> space = ImageSpace(min_side=4, max_side=8, seed=0)
        >>> space.contains(np.zeros((600, 400, 3), np.uint8))
        True
    """

    def __init__(self, min_side: int = 8, max_side: int = 64, seed: Seed = None) -> None:
        if not 1 <= min_side <= max_side:
            raise ConfigurationError(f"ImageSpace sides {min_side}..{max_side}: expected 1 <= min_side <= max_side.")
        self.min_side = int(min_side)
        self.max_side = int(max_side)
        super().__init__(None, np.uint8, seed)

    @property
    def is_np_flattenable(self) -> bool:
        """False: photos differ in size."""
        return False

    def sample(self, mask: tuple[int, int] | None = None, probability: None = None) -> Image:
        """Draw a photo of uniform noise.

        Args:
            mask: Height and width to use instead of drawn ones.
            probability: Not supported; present for Gymnasium's signature.
        """
        _no_probability(probability, "ImageSpace")
        height, width = mask or self.np_random.integers(self.min_side, self.max_side, size=2, endpoint=True)
        return self.np_random.integers(0, 256, (int(height), int(width), 3), dtype=np.uint8)

    def contains(self, x: Any) -> bool:
        """Whether `x` is a uint8 array (H, W, 3) with at least one pixel."""
        return is_image(x)

    def to_jsonable(self, sample_n: Sequence[Image]) -> list[Any]:
        """Photos as nested lists of integers."""
        return [image.tolist() for image in sample_n]

    def from_jsonable(self, sample_n: list[Any]) -> list[Image]:
        """Inverse of `to_jsonable`."""
        return [np.asarray(image, dtype=np.uint8) for image in sample_n]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageSpace) and (self.min_side, self.max_side) == (other.min_side, other.max_side)

    def __hash__(self) -> int:
        return hash((ImageSpace, self.min_side, self.max_side))

    def __repr__(self) -> str:
        return f"ImageSpace({self.min_side}, {self.max_side})"


class TextSpace(Space[str]):
    """Any Unicode text of at most `max_length` characters, the empty one included.

    Lone surrogates, which cannot be written as UTF-8, are no Unicode text and not contained.

    Args:
        max_length: Most characters (code points).
        seed: Seed or generator for sampling.

    Raises:
        ConfigurationError: If `max_length` is negative.
    """

    def __init__(self, max_length: int, seed: Seed = None) -> None:
        if max_length < 0:
            raise ConfigurationError(f"TextSpace max_length is {max_length}; expected 0 or more.")
        self.max_length = int(max_length)
        # No dtype: gymnasium would turn `str` into NumPy's fixed-width "<U0".
        super().__init__(None, None, seed)

    @property
    def is_np_flattenable(self) -> bool:
        """False: there is no useful fixed-size encoding."""
        return False

    def sample(self, mask: int | None = None, probability: None = None) -> str:
        """Draw a short text with characters from all of Unicode.

        Args:
            mask: Length to use instead of a drawn one, 0..max_length.
            probability: Not supported; present for Gymnasium's signature.
        """
        _no_probability(probability, "TextSpace")
        longest = min(self.max_length, _SAMPLED_LENGTH)
        length = int(self.np_random.integers(longest, endpoint=True)) if mask is None else int(mask)
        if not 0 <= length <= self.max_length:
            raise ConfigurationError(f"TextSpace mask {mask!r} is no length in 0..{self.max_length}.")
        first, last = _SURROGATES
        codes = self.np_random.integers(0, _LAST_CODE_POINT - (last - first + 1), size=length, endpoint=True)
        return "".join(chr(code if code < first else code + last - first + 1) for code in codes.tolist())

    def contains(self, x: Any) -> bool:
        """Whether `x` is a string of at most `max_length` characters that UTF-8 can hold."""
        return isinstance(x, str) and len(x) <= self.max_length and (x.isascii() or _is_unicode(x))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TextSpace) and self.max_length == other.max_length

    def __hash__(self) -> int:
        return hash((TextSpace, self.max_length))

    def __repr__(self) -> str:
        return f"TextSpace({self.max_length})"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class MessagesSpace(Space[tuple[Message, ...]]):
    """Chat conversations: tuples of messages with text and photos in content blocks.

    A message is ``{"role": …, "content": [block, …]}``, a block ``{"type": "text", "text": str}`` or
    ``{"type": "image", "image": uint8 (H, W, 3)}``, as in `retouch_gym.chat.messages`.

    Args:
        max_text: Most characters of a text block.
        seed: Seed or generator for sampling.
    """

    def __init__(self, max_text: int, seed: Seed = None) -> None:
        self.max_text = int(max_text)
        self._text = TextSpace(max_text)
        self._photo = ImageSpace()
        super().__init__(None, None, seed)

    @property
    def is_np_flattenable(self) -> bool:
        """False: conversations differ in length."""
        return False

    def seed(self, seed: int | None = None) -> int | list[int] | dict[str, int]:
        """Seed the sampling."""
        own = super().seed(seed)
        self._text.seed(seed)
        self._photo.seed(seed)
        return own

    def sample(self, mask: None = None, probability: None = None) -> tuple[Message, ...]:
        """Draw a user's message with a photo and a text.

        Args:
            mask: Not supported; present for Gymnasium's signature.
            probability: Likewise.
        """
        _no_probability(probability, "MessagesSpace")
        photo = {"type": "image", "image": self._photo.sample()}
        return ({"role": "user", "content": [photo, {"type": "text", "text": self._text.sample()}]},)

    def contains(self, x: Any) -> bool:
        """Whether `x` is a non-empty tuple or list of messages."""
        return isinstance(x, tuple | list) and len(x) > 0 and all(self._is_message(message) for message in x)

    def _is_message(self, message: Any) -> bool:
        if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
            return False
        blocks = message["content"]
        return message["role"] in ROLES and isinstance(blocks, list) and all(self._is_block(block) for block in blocks)

    def _is_block(self, block: Any) -> bool:
        if not isinstance(block, Mapping):
            return False
        if block.get("type") == "text":
            return set(block) == {"type", "text"} and self._text.contains(block["text"])
        return set(block) == {"type", "image"} and block["type"] == "image" and is_image(block["image"])

    def to_jsonable(self, sample_n: Sequence[tuple[Message, ...]]) -> list[Any]:
        """The messages with their photos as nested lists."""
        return [[_message_map(message, lambda photo: photo.tolist()) for message in sample] for sample in sample_n]

    def from_jsonable(self, sample_n: list[Any]) -> list[tuple[Message, ...]]:
        """Inverse of `to_jsonable`."""
        return [
            tuple(_message_map(message, lambda photo: np.asarray(photo, np.uint8)) for message in sample)
            for sample in sample_n
        ]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MessagesSpace) and self.max_text == other.max_text

    def __hash__(self) -> int:
        return hash((MessagesSpace, self.max_text))

    def __repr__(self) -> str:
        return f"MessagesSpace({self.max_text})"


def _message_map(message: Message, convert: Callable[[Any], Any]) -> Message:
    blocks = [
        {**block, "image": convert(block["image"])} if block["type"] == "image" else dict(block)
        for block in message["content"]
    ]
    return {"role": message["role"], "content": blocks}


class PlanSpace(Space[Plan]):
    """Valid calls of a toolset: one `ToolCall`, or a tuple of 0 to `max_calls` of them.

    `RetouchEnv.step` takes more than this space contains: what is not valid becomes feedback there.

    Args:
        toolset: The tools.
        max_calls: Most calls of one plan.
        seed: Seed or generator for sampling.

    Raises:
        ConfigurationError: If `max_calls` is not in 1..64.
    """

    def __init__(self, toolset: Toolset, max_calls: int = MAX_CALLS, seed: Seed = None) -> None:
        if not 1 <= max_calls <= MAX_CALLS:
            raise ConfigurationError(f"PlanSpace max_calls is {max_calls}; expected 1..{MAX_CALLS}.")
        self.toolset = toolset
        self.max_calls = int(max_calls)
        super().__init__(None, None, seed)

    @property
    def is_np_flattenable(self) -> bool:
        """False: tools differ in their arguments."""
        return False

    def sample(self, mask: NDArray[np.int8] | None = None, probability: NDArray[np.float64] | None = None) -> Plan:
        """Draw one call (half of the time) or a plan that calls each of several tools once.

        Args:
            mask: 0 or 1 per tool of the toolset, which tools may be drawn; shape (number of tools,).
            probability: Weight per tool, same shape; not together with `mask`.

        Raises:
            ConfigurationError: If mask or probability has the wrong shape or allows no tool.
        """
        weights = self._weights(mask, probability)
        most = min(self.max_calls, int(np.count_nonzero(weights)))
        count = 1 if self.np_random.random() < 0.5 else int(self.np_random.integers(1, most, endpoint=True))
        chosen = self.np_random.choice(len(weights), size=count, replace=False, p=weights / weights.sum())
        tools = [self.toolset.tools[index] for index in chosen.tolist()]
        calls = tuple(ToolCall(tool.name, tool.sample(self.np_random)) for tool in tools)
        return calls[0] if count == 1 else calls

    def _weights(self, mask: NDArray[np.int8] | None, probability: NDArray[np.float64] | None) -> NDArray[np.float64]:
        if mask is not None and probability is not None:
            raise ConfigurationError("PlanSpace.sample takes a mask or a probability, not both.")
        given = mask if mask is not None else probability
        count = len(self.toolset.tools)
        weights = np.ones(count) if given is None else np.asarray(given, dtype=np.float64)
        if weights.shape != (count,) or not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
            raise ConfigurationError(f"PlanSpace.sample needs {count} weights >= 0, one per tool, not all 0.")
        return weights

    def contains(self, x: Any) -> bool:
        """Whether `x` is a valid call, or a tuple or list of 0..max_calls valid calls."""
        calls = list(x) if isinstance(x, tuple | list) else [x]
        if len(calls) > self.max_calls:
            return False
        try:
            self.toolset.parse_plan(calls)
        except ToolError:
            return False
        return True

    def to_jsonable(self, sample_n: Sequence[Plan]) -> list[Any]:
        """Each call as ``{"name": …, "arguments": …}``, each plan as a list of those."""
        return [
            _call_to_json(plan) if isinstance(plan, ToolCall) else [_call_to_json(call) for call in plan]
            for plan in sample_n
        ]

    def from_jsonable(self, sample_n: list[Any]) -> list[Plan]:
        """Inverse of `to_jsonable`."""
        return [
            _call_from_json(plan) if isinstance(plan, Mapping) else tuple(_call_from_json(call) for call in plan)
            for plan in sample_n
        ]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PlanSpace) or self.max_calls != other.max_calls:
            return False
        # A toolset that went through pickle has equal specs but other tool objects.
        mine, theirs = self.toolset, other.toolset
        return mine is theirs or (mine.name == theirs.name and mine.specs == theirs.specs)

    def __hash__(self) -> int:
        return hash((PlanSpace, self.toolset.name, self.max_calls))

    def __repr__(self) -> str:
        return f"PlanSpace({self.toolset.name!r}, max_calls={self.max_calls})"


def _call_to_json(call: ToolCall) -> dict[str, Any]:
    return {"name": call.name, "arguments": dict(call.arguments)}


def _call_from_json(data: Mapping[str, Any]) -> ToolCall:
    return ToolCall(data["name"], data["arguments"])


def _no_probability(probability: None, space: str) -> None:
    if probability is not None:
        raise ConfigurationError(f"{space}.sample does not take a probability, got {probability!r}.")
