"""Chat messages with photos, in the content blocks that OpenAI's and Hugging Face's APIs share.

Here a photo is ``{"type": "image", "image": uint8 array (H, W, 3)}``; `to_pil` and `to_openai` turn it into what a
Hugging Face processor or an OpenAI-compatible server takes, without loss.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import PIL.Image

from retouch_gym.chat.templates import PromptTemplate
from retouch_gym.images import check_image
from retouch_gym.types import Image

Message: TypeAlias = dict[str, Any]
"""``{"role": str, "content": list of blocks}``, where a block is ``{"type": "image" | "text", …}``."""


def user_message(text: str, photos: Sequence[Image] = ()) -> Message:
    """A user's turn: the photos, then the text.

    Args:
        text: The words.
        photos: uint8 (H, W, 3) sRGB arrays of any sizes; kept as they are, not copied.

    Raises:
        ImageError: If a photo is none.
    """
    blocks = [{"type": "image", "image": check_image(photo, f"photo {n}")} for n, photo in enumerate(photos, 1)]
    return {"role": "user", "content": [*blocks, text_block(text)]}


def system_message(text: str) -> Message:
    """The system turn."""
    return {"role": "system", "content": [text_block(text)]}


def assistant_message(text: str) -> Message:
    """A turn of the model."""
    return {"role": "assistant", "content": [text_block(text)]}


def text_block(text: str) -> dict[str, str]:
    """Text as a content block."""
    return {"type": "text", "text": text}


def opening(template: PromptTemplate, values: Mapping[str, Any], photos: Sequence[Image]) -> list[Message]:
    """The first messages of a conversation: the system turn, if the template has one, and the user's.

    Args:
        template: The words around the photos.
        values: Value of each field, see `retouch_gym.chat.templates.FIELDS`.
        photos: uint8 (H, W, 3) sRGB arrays.

    Raises:
        ImageError: If a photo is none.
    """
    system, user = template.opening(values)
    return [*([system_message(system)] if system else []), user_message(user, photos)]


def photos_of(messages: Sequence[Message]) -> list[Any]:
    """The photos of a conversation in the order shown, as they are in its image blocks."""
    return [block["image"] for message in messages for block in _blocks(message) if block.get("type") == "image"]


def to_pil(messages: Sequence[Message]) -> list[Message]:
    """The messages with PIL images in their image blocks, as Hugging Face processors take them."""
    return _converted(messages, lambda photo: {"type": "image", "image": PIL.Image.fromarray(photo)})


def to_openai(messages: Sequence[Message]) -> list[Message]:
    """The messages with ``image_url`` blocks that hold the photo as a PNG data URL, as OpenAI's chat API takes them."""
    return _converted(messages, lambda photo: {"type": "image_url", "image_url": {"url": png_url(photo)}})


def png_url(photo: Image) -> str:
    """A photo as a ``data:image/png;base64,…`` URL. Lossless.

    Raises:
        ImageError: If it is not a uint8 array (H, W, 3).
    """
    buffer = io.BytesIO()
    # The lightest compression: about a quarter of the time of the default for 8% more bytes.
    PIL.Image.fromarray(check_image(photo)).save(buffer, format="PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _converted(messages: Sequence[Message], convert: Callable[[Image], dict[str, Any]]) -> list[Message]:
    return [
        {
            **message,
            "content": [
                convert(block["image"]) if block.get("type") == "image" else dict(block) for block in message["content"]
            ],
        }
        if _blocks(message)
        else dict(message)
        for message in messages
    ]


def _blocks(message: Message) -> Sequence[Mapping[str, Any]]:
    content = message.get("content")
    return content if isinstance(content, list | tuple) else ()
