"""OpenAI's chat API with vLLM's ``return_token_ids``, for servers that take no token ids.

The prompt is written out and sent with a chat template of our own that adds nothing to it. The server tokenises it
again, which need not give the same tokens; it returns those it used, and a prompt that came out differently is an
error, never an answer to another prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from retouch_agents.encoding import Prompt
from retouch_agents.generation import Completion
from retouch_agents.serving.http import JsonClient, unusable
from retouch_agents.serving.vllm import VLLMWire, read_choices, sampling_params
from retouch_agents.serving.wires import Sampling, check_prompt, collapsed, photo_urls, runs, token_ids

Write: TypeAlias = Callable[[Sequence[int]], str]
"""From token ids to text, special tokens included, such that tokenising it mostly gives the ids again."""

CHAT = "v1/chat/completions"

_TEMPLATE = (
    "{%- for message in messages -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'text' -%}{{ part['text'] }}{%- else -%}PHOTO{%- endif -%}"
    "{%- endfor -%}{%- endfor -%}"
)


class ChatWire:
    """See the module.

    Args:
        model: Name of the base model.
        placeholders: Token ids that stand for photos.
        write: The policy's tokenizer, backwards.
    """

    def __init__(self, model: str, placeholders: Sequence[int], write: Write) -> None:
        self.placeholders = tuple(placeholders)
        self.write = write
        self._adapters = VLLMWire(model, placeholders)

    async def ask(self, client: JsonClient, name: str, prompt: Prompt, sampling: Sampling) -> list[Completion]:
        """Draw answers; see `Wire.ask`."""
        ids = token_ids(prompt)
        short = collapsed(ids, self.placeholders, len(prompt.photos))
        body = sampling_params(sampling) | {
            "model": name,
            "messages": [{"role": "user", "content": self._content(short, await photo_urls(prompt))}],
            "chat_template": _TEMPLATE.replace("PHOTO", self._photo_text(short)),
            "add_generation_prompt": False,
            "max_tokens": sampling.max_new_tokens,
            "logprobs": True,
            "top_logprobs": 0,
            "return_token_ids": True,
        }
        return await client.ask(CHAT, body, lambda data: self._read(data, ids, short, sampling))

    def _read(self, data: Any, ids: list[int], short: list[int], sampling: Sampling) -> list[Completion]:
        seen = data.get("prompt_token_ids") if isinstance(data, dict) else None
        if seen is None and isinstance(data, dict) and "choices" in data:
            raise unusable(
                "no 'prompt_token_ids'; the server does not return token ids (vLLM does, from 0.10.2), and without "
                "them the answers cannot be trained on"
            )
        check_prompt(seen, ids, [short])
        return read_choices(data, sampling)

    def _content(self, short: list[int], urls: list[str]) -> list[dict[str, Any]]:
        """Text and photos in turn, as they stand in the prompt."""
        content: list[dict[str, Any]] = []
        start = 0
        for (place, _), url in zip(runs(short, self.placeholders), urls, strict=True):
            content += [self._text(short[start:place]), {"type": "image_url", "image_url": {"url": url}}]
            start = place + 1
        return [*content, self._text(short[start:])]

    def _text(self, ids: Sequence[int]) -> dict[str, Any]:
        return {"type": "text", "text": self.write(ids)}

    def _photo_text(self, short: list[int]) -> str:
        spans = runs(short, self.placeholders)
        return self.write([short[spans[0][0]]]) if spans else ""

    async def load_adapter(self, client: JsonClient, name: str, folder: Path) -> None:
        """Load an adapter through vLLM's endpoint."""
        await self._adapters.load_adapter(client, name, folder)

    async def unload_adapter(self, client: JsonClient, name: str) -> None:
        """Forget an adapter."""
        await self._adapters.unload_adapter(client, name)
