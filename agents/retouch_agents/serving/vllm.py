"""vLLM's token endpoints: token ids in, token ids out, photos prepared by the server's own processor.

``/inference/v1/generate`` takes token ids and, for photos, what the server's processor made of them, placed at offsets
in those ids. ``/v1/chat/completions/render`` makes that of a conversation without answering it. So every photo goes
through render once, the conversation around it is thrown away, and its features are put where they stand in our ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retouch_agents.encoding import Prompt
from retouch_agents.generation import Completion
from retouch_agents.serving.http import JsonClient, malformed, unusable
from retouch_agents.serving.wires import Sampling, completion, field_of, photo_urls, token_ids
from retouch_gym.errors import ConfigurationError

GENERATE = "inference/v1/generate"
RENDER = "v1/chat/completions/render"


class VLLMWire:
    """See the module.

    Args:
        model: Name of the base model, for the preparation of photos.
        placeholders: Token ids that stand for photos.
    """

    def __init__(self, model: str, placeholders: Sequence[int]) -> None:
        self.model = model
        self.placeholders = frozenset(placeholders)

    async def ask(self, client: JsonClient, name: str, prompt: Prompt, sampling: Sampling) -> list[Completion]:
        """Draw answers; see `Wire.ask`."""
        ids = token_ids(prompt)
        if not prompt.photos and self.placeholders.intersection(ids):
            raise ConfigurationError(
                "The prompt has placeholder tokens of photos but no Prompt.photos to send; the chat format has to keep "
                "them, as retouch_agents.chat.ConversationFormat does."
            )
        body: dict[str, Any] = {
            "model": name,
            "token_ids": ids,
            "sampling_params": sampling_params(sampling) | {"logprobs": 0, "max_tokens": sampling.max_new_tokens},
            "stream": False,
        }
        if prompt.photos:
            body["features"] = await self._features(client, prompt, ids)
        return await client.ask(GENERATE, body, lambda data: read_choices(data, sampling))

    async def _features(self, client: JsonClient, prompt: Prompt, ids: list[int]) -> dict[str, Any]:
        blocks: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": url}} for url in await photo_urls(prompt)
        ]
        message = {"role": "user", "content": [*blocks, {"type": "text", "text": "."}]}
        body = {"model": self.model, "messages": [message]}
        return await client.ask(RENDER, body, lambda data: self._placed(data, ids, len(prompt.photos)))

    def _placed(self, data: Any, ids: list[int], photos: int) -> dict[str, Any]:
        """The rendered photos' features at their places in our ids."""
        rendered = field_of(data, "token_ids", list)
        features = field_of(data, "features", dict)
        places = field_of(features, "mm_placeholders", dict).get("image")
        if not isinstance(places, list) or len(places) != photos:
            raise malformed(f"places {places!r} of {photos} photos, expected one each")
        start, spans = 0, []
        for number, place in enumerate(places, 1):
            offset, length = field_of(place, "offset", int), field_of(place, "length", int)
            block = rendered[offset : offset + length]
            at = _find(ids, block, start)
            if not block or at is None:
                raise unusable(self._unlike(number, len(block), ids))
            spans.append({**place, "offset": at})
            start = at + length
        covered = {index for span in spans for index in range(span["offset"], span["offset"] + span["length"])}
        left = [index for index, token in enumerate(ids) if token in self.placeholders and index not in covered]
        if left:
            raise unusable(self._unlike(photos, int(spans[-1]["length"]), ids))
        return {**features, "mm_placeholders": {**features["mm_placeholders"], "image": spans}}

    def _unlike(self, number: int, theirs: int, ids: list[int]) -> str:
        ours = sum(token in self.placeholders for token in ids)
        return (
            f"the server's processor writes photo {number} with {theirs} tokens, which does not fit into our prompt "
            f"with {ours} placeholder tokens in all; serve the same checkpoint with the same --mm-processor-kwargs"
        )

    async def load_adapter(self, client: JsonClient, name: str, folder: Path) -> None:
        """Load an adapter; needs ``--enable-lora`` and ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=1``."""
        await client.ask("v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)}, lambda _: None)

    async def unload_adapter(self, client: JsonClient, name: str) -> None:
        """Forget an adapter."""
        await client.ask("v1/unload_lora_adapter", {"lora_name": name}, lambda _: None)


def sampling_params(sampling: Sampling) -> dict[str, Any]:
    """The parameters whose names all of vLLM's endpoints share.

    All that changes the distribution is named, as a server takes what is not from the checkpoint's generation_config
    (top-k 20 and a repetition penalty for Qwen). Only our end tokens end an answer.
    """
    params: dict[str, Any] = {
        "n": sampling.answers,
        "temperature": sampling.temperature,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop_token_ids": list(sampling.eos_ids),
        "ignore_eos": True,
        "skip_special_tokens": False,
    }
    if sampling.seed is not None:
        params["seed"] = sampling.seed
    if sampling.bias:
        params["logit_bias"] = {str(token): bias for token, bias in sampling.bias.items()}
    return params


def read_choices(data: Any, sampling: Sampling) -> list[Completion]:
    """The answers in ``choices``, in the order of their indices.

    Raises:
        AttemptError: If there are others than those asked for.
    """
    choices = field_of(data, "choices", list)
    indices = [choice.get("index") if isinstance(choice, dict) else None for choice in choices]
    if sorted(map(str, indices)) != sorted(map(str, range(sampling.answers))):
        raise malformed(f"{len(choices)} choices with indices {indices}, expected {sampling.answers}, from 0")
    return [_answer(choice, sampling) for choice in sorted(choices, key=lambda choice: int(choice["index"]))]


def _answer(choice: dict[str, Any], sampling: Sampling) -> Completion:
    ids = choice.get("token_ids")
    if ids is None:
        raise unusable("no 'token_ids' in a choice; the server does not return sampled tokens (vLLM does, from 0.10.2)")
    content = field_of(field_of(choice, "logprobs", dict), "content", list)
    logprobs = [item.get("logprob") if isinstance(item, dict) else None for item in content]
    return completion(ids, logprobs, choice.get("finish_reason"), sampling)


def _find(ids: list[int], block: list[int], start: int) -> int | None:
    places = range(start, len(ids) - len(block) + 1)
    return next((at for at in places if ids[at : at + len(block)] == block), None)
