"""What a request says: its words, and a digest that is the same in every process and on every machine."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retouch_reward_models.backends.base import ChatRequest

_VERSION = "1"


def request_key(request: ChatRequest, name: str = "") -> str:
    """SHA-256 of a backend's name and everything in a request, as 64 hexadecimal digits.

    Photos count with dtype, shape and pixels. Every field of the request counts, those of later versions too.

    Args:
        request: The conversation and how it is to be answered.
        name: The backend's name.

    Raises:
        TypeError: If a message holds something that is neither plain data nor an array.
    """
    hasher = hashlib.sha256()
    _feed(hasher, [_VERSION, name])
    for field in sorted(dataclasses.fields(request), key=lambda field: field.name):
        _feed(hasher, [field.name, getattr(request, field.name)])
    return hasher.hexdigest()


def request_text(request: ChatRequest) -> str:
    """The words of a conversation, one block after another; photos are left out."""
    contents = [message.get("content") for message in request.messages]
    blocks = [[content] if isinstance(content, str) else content or [] for content in contents]
    texts = [block if isinstance(block, str) else block.get("text", "") for content in blocks for block in content]
    return "\n".join(text for text in texts if text)


def _feed(hasher: Any, value: Any) -> None:
    # Every value is preceded by its type and length, so that no two values are written alike.
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError("An array of objects has no content that could be hashed.")
        _write(hasher, f"array {value.dtype.str} {value.shape}", np.ascontiguousarray(value).data)
    elif isinstance(value, Mapping):
        _write(hasher, f"map {len(value)}", b"")
        for key in sorted(value):
            _feed(hasher, key)
            _feed(hasher, value[key])
    elif isinstance(value, str):
        _write(hasher, "text", value.encode("utf-8", "surrogatepass"))
    elif isinstance(value, bytes):
        _write(hasher, "bytes", value)
    elif isinstance(value, Sequence):
        _write(hasher, f"list {len(value)}", b"")
        for item in value:
            _feed(hasher, item)
    elif value is None or isinstance(value, bool | int | float):
        _write(hasher, type(value).__name__, repr(value).encode())
    else:
        raise TypeError(f"A request holds {type(value).__name__}, which cannot be hashed; use plain data and arrays.")


def _write(hasher: Any, kind: str, content: bytes | memoryview) -> None:
    size = content.nbytes if isinstance(content, memoryview) else len(content)
    hasher.update(f"{kind} {size}\n".encode())
    hasher.update(content)
