"""Prompts that have to fit: text is cut, photos never."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from retouch_agents.encoding import Prompt
from retouch_gym.chat import Message
from retouch_gym.errors import ConfigurationError

CUT = " […]"
"""Stands where text was cut."""

_SHORT = 24
"""Characters of a text that is not worth cutting."""

_ATTEMPTS = 32


def within(budget: int | None, messages: Sequence[Message], encode: Callable[[Sequence[Message]], Prompt]) -> Prompt:
    """Encode messages into at most `budget` tokens, cutting their longest texts at the end.

    What was said in the middle of a conversation is cut first, then its last message, then how it begins, which says
    what is asked for. Photos and the tokens of the template stay whole.

    Args:
        budget: Most tokens; None for no limit.
        messages: The messages.
        encode: Makes a prompt of them.

    Raises:
        ConfigurationError: If photos and template alone take more.
    """
    prompt = encode(messages)
    if budget is None:
        return prompt
    shorter = [{**message, "content": _blocks(message)} for message in messages]
    for _ in range(_ATTEMPTS):
        excess = len(prompt.input_ids) - budget
        if excess <= 0:
            return prompt
        text = _longest(shorter)
        if text is None:
            break
        # Photos are among the tokens, so that this cuts too little rather than too much, and is done again.
        per_token = max(1.0, _characters(shorter) / len(prompt.input_ids))
        kept = max(0, len(text["text"]) - math.ceil(excess * per_token) - len(CUT))
        text["text"] = text["text"][:kept].rstrip() + CUT
        prompt = encode(shorter)
    if len(prompt.input_ids) <= budget:
        return prompt
    raise ConfigurationError(
        f"A prompt with {len(prompt.photos)} photos has {len(prompt.input_ids)} tokens with its texts cut as far as "
        f"they go, and max_prompt_tokens leaves {budget}. Raise max_prompt_tokens, show smaller photos (longest=…) "
        "or only the last ones (photos='last'), or play fewer turns."
    )


def _longest(messages: Sequence[Message]) -> dict[str, Any] | None:
    """The text to cut next: the longest of the first kind of messages that still has any."""
    middle, last, first = messages[2:-1], messages[-1:], messages[:2]
    for part in (middle, last, first):
        texts = [block for message in part for block in message["content"] if block.get("type") == "text"]
        texts = [block for block in texts if len(block["text"]) > _SHORT]
        if texts:
            longest: dict[str, Any] = max(texts, key=lambda block: len(block["text"]))
            return longest
    return None


def _characters(messages: Sequence[Message]) -> int:
    return sum(len(block.get("text", "")) for message in messages for block in message["content"])


def _blocks(message: Message) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else [dict(block) for block in content]
