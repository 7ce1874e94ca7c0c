"""SGLang's ``/generate``: token ids in with one placeholder a photo, token ids and log-probabilities out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from retouch_agents.encoding import Prompt
from retouch_agents.generation import Completion
from retouch_agents.serving.http import JsonClient, malformed, unusable
from retouch_agents.serving.wires import (
    Sampling,
    check_prompt,
    collapsed,
    completion,
    field_of,
    photo_urls,
    token_ids,
)

GENERATE = "generate"


class SGLangWire:
    """See the module.

    Args:
        model: Name of the base model; requests with another name are for an adapter.
        placeholders: Token ids that stand for photos.
        collapse: Send one placeholder a photo, which the server expands; otherwise the run as it is.
        seeded: Send seeds, and one request an answer.
    """

    def __init__(self, model: str, placeholders: Sequence[int], *, collapse: bool = True, seeded: bool = False) -> None:
        self.model = model
        self.placeholders = tuple(placeholders)
        self.collapse = collapse
        self.seeded = seeded

    async def ask(self, client: JsonClient, name: str, prompt: Prompt, sampling: Sampling) -> list[Completion]:
        """Draw answers; see `Wire.ask`."""
        ids = token_ids(prompt)
        sent = collapsed(ids, self.placeholders, len(prompt.photos)) if self.collapse else ids
        urls = await photo_urls(prompt)
        if not self.seeded or sampling.seed is None:
            unseeded = replace(sampling, seed=None)
            return await client.ask(
                GENERATE, self._body(name, sent, urls, unseeded), lambda data: _read(data, ids, unseeded)
            )
        # All answers of one request would get the same seed, and with it be the same.
        single = [replace(sampling, answers=1, seed=sampling.seed + member) for member in range(sampling.answers)]
        bodies = [self._body(name, sent, urls, one) for one in single]
        asked = (client.ask(GENERATE, body, lambda data: _read(data, ids, single[0])) for body in bodies)
        return [answer for answers in await asyncio.gather(*asked) for answer in answers]

    def _body(self, name: str, sent: list[int], urls: list[str], sampling: Sampling) -> dict[str, Any]:
        params: dict[str, Any] = {
            "n": sampling.answers,
            "temperature": sampling.temperature,
            "max_new_tokens": sampling.max_new_tokens,
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            # With ignore_eos SGLang would ignore these too, so the checkpoint's own end tokens end answers as well.
            "stop_token_ids": list(sampling.eos_ids),
            "skip_special_tokens": False,
            "no_stop_trim": True,
        }
        if sampling.bias:
            params["logit_bias"] = {str(token): bias for token, bias in sampling.bias.items()}
        if sampling.seed is not None:
            params["sampling_seed"] = sampling.seed
        body: dict[str, Any] = {
            "input_ids": sent,
            "sampling_params": params,
            "return_logprob": True,
            "return_prompt_token_ids": True,
            "stream": False,
        }
        if urls:
            body["image_data"] = urls
        if name != self.model:
            body["lora_path"] = name
        return body

    async def load_adapter(self, client: JsonClient, name: str, folder: Path) -> None:
        """Load an adapter; needs ``--enable-lora``, and ``--max-lora-rank`` with ``--lora-target-modules`` that fit."""
        await client.ask("load_lora_adapter", {"lora_name": name, "lora_path": str(folder)}, _succeeded)

    async def unload_adapter(self, client: JsonClient, name: str) -> None:
        """Forget an adapter."""
        await client.ask("unload_lora_adapter", {"lora_name": name}, _succeeded)


def _succeeded(data: Any) -> None:
    if not field_of(data, "success", bool):
        raise unusable(f"the server did not do it: {data.get('error_message')!r}")


def _read(data: Any, ids: list[int], sampling: Sampling) -> list[Completion]:
    answers = data if isinstance(data, list) else [data]
    if len(answers) != sampling.answers:
        raise malformed(f"{len(answers)} answers, expected {sampling.answers}")
    return [_answer(answer, ids, sampling) for answer in answers]


def _answer(answer: Any, ids: list[int], sampling: Sampling) -> Completion:
    about = field_of(answer, "meta_info", dict)
    if "prompt_token_ids" in answer:
        check_prompt(answer["prompt_token_ids"], ids)
    seen = field_of(about, "prompt_tokens", int)
    if seen != len(ids):
        raise unusable(
            f"the server saw a prompt of {seen} tokens, ours has {len(ids)}; it tokenises again (SGLang before "
            "SGLANG_MM_AVOID_RETOKENIZE) or prepares photos in another way; see docs/generation.md"
        )
    tokens = about.get("output_token_logprobs")
    if tokens is None:
        raise unusable("no 'output_token_logprobs' in 'meta_info'; the server does not return log-probabilities")
    if not isinstance(tokens, list) or not all(isinstance(token, list) and len(token) >= 2 for token in tokens):
        raise malformed(f"'output_token_logprobs' is {tokens!r}, expected lists [log-probability, token id, text]")
    reason = field_of(about, "finish_reason", dict).get("type")
    return completion([token[1] for token in tokens], [token[0] for token in tokens], reason, sampling)
