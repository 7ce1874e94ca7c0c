"""What all servers have in common: what is asked of them, and when an answer counts as one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from retouch_agents.encoding import Prompt
from retouch_agents.generation import Completion
from retouch_agents.serving.http import JsonClient, malformed, unusable
from retouch_gym.chat.messages import png_url
from retouch_gym.errors import ConfigurationError

Kind = TypeVar("Kind")

SUPPRESSED_BIAS = -100.0
"""Added to the logit of a token that may not be sampled: the most that servers take, and e⁻¹⁰⁰ of its probability."""

_NOT_LISTED = -9000.0
"""vLLM writes −9999 where it has no log-probability, as JSON has no −∞."""


@dataclass(frozen=True)
class Sampling:
    """How the answers to one prompt are drawn.

    Args:
        answers: How many.
        temperature: Divides the logits; 0 takes the likeliest token.
        max_new_tokens: Most tokens of an answer.
        seed: Seed of the first answer; servers count on from it. None leaves it to the server.
        eos_ids: Tokens that end an answer.
        bias: Added to logits, by token id.
    """

    answers: int
    temperature: float
    max_new_tokens: int
    seed: int | None
    eos_ids: tuple[int, ...]
    bias: Mapping[int, float] = field(default_factory=dict)


class Wire(Protocol):
    """One way of speaking to a server."""

    async def ask(self, client: JsonClient, name: str, prompt: Prompt, sampling: Sampling) -> list[Completion]:
        """Draw answers to a prompt.

        Args:
            client: To the server.
            name: The model's name there, or its adapter's.
            prompt: The prompt; its token ids are what is answered, whatever the server makes of photos and text.
            sampling: How.

        Raises:
            GenerationError: If there are no usable answers.
        """
        ...

    async def load_adapter(self, client: JsonClient, name: str, folder: Path) -> None:
        """Make the server load an adapter. Raises `GenerationError` if it does not."""
        ...

    async def unload_adapter(self, client: JsonClient, name: str) -> None:
        """Make the server forget an adapter. Raises `GenerationError` if it does not."""
        ...


def token_ids(prompt: Prompt) -> list[int]:
    """The prompt's token ids as JSON holds them."""
    return [int(token) for token in prompt.input_ids]


async def photo_urls(prompt: Prompt) -> list[str]:
    """The prompt's photos as PNG data URLs, in order; compressed in a thread."""
    return await asyncio.to_thread(lambda: [png_url(photo) for photo in prompt.photos])


def runs(ids: Sequence[int], placeholders: Sequence[int]) -> list[tuple[int, int]]:
    """Where equal placeholder tokens stand side by side: the first index and the length of each run."""
    found: list[tuple[int, int]] = []
    for index, token in enumerate(ids):
        if token not in placeholders:
            continue
        if found and sum(found[-1]) == index and ids[index - 1] == token:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((index, 1))
    return found


def collapsed(ids: Sequence[int], placeholders: Sequence[int], photos: int) -> list[int]:
    """Token ids with one placeholder token a photo.

    Args:
        ids: Token ids with one run of placeholders a photo.
        placeholders: Token ids that stand for photos.
        photos: Number of photos.

    Raises:
        ConfigurationError: If there are not as many runs as photos.
    """
    spans = runs(ids, placeholders)
    if len(spans) != photos:
        raise ConfigurationError(
            f"The prompt has {photos} photos but {len(spans)} runs of placeholder tokens {list(placeholders)}. Only "
            "models that write a photo as one run of placeholders can be sampled so; wire='vllm' takes the others too."
        )
    dropped = {index for start, length in spans for index in range(start + 1, start + length)}
    return [token for index, token in enumerate(ids) if index not in dropped]


def completion(ids: Any, logprobs: Any, ended: Any, sampling: Sampling) -> Completion:
    """An answer as the server sent it, checked.

    Args:
        ids: Sampled token ids, the end token included.
        logprobs: log-probability of each.
        ended: Why the server stopped: ``"stop"`` or ``"length"``.
        sampling: What was asked for.

    Raises:
        AttemptError: If it cannot be such an answer.
    """
    if not isinstance(ids, list) or not ids or not all(type(token) is int and token >= 0 for token in ids):
        raise malformed(f"token ids {_shown(ids)}, expected a list of at least one")
    if not isinstance(logprobs, list) or len(logprobs) != len(ids):
        raise malformed(f"log-probabilities {_shown(logprobs)} for {len(ids)} tokens, expected one each")
    for value in logprobs:
        # Rounding may leave the logarithm of a certain token a little above 0.
        if not isinstance(value, int | float) or not math.isfinite(value) or not _NOT_LISTED < value < 1e-3:
            raise malformed(f"log-probability {value!r}, expected a finite number that is at most 0")
    if ended not in ("stop", "length"):
        raise malformed(f"the server ended an answer for the reason {ended!r}, expected 'stop' or 'length'")
    banned = sorted(token for token in set(ids) if sampling.bias.get(token, 0.0) <= SUPPRESSED_BIAS)
    if banned:
        raise unusable(
            f"the answer holds tokens {banned}, which logit_bias should have kept out; the server ignores it"
        )
    ends = [index for index, token in enumerate(ids) if token in sampling.eos_ids]
    if len(ids) > sampling.max_new_tokens or (ends and ends[0] != len(ids) - 1):
        raise unusable(
            f"an answer of {len(ids)} tokens with end tokens at {ends}, expected at most {sampling.max_new_tokens} and "
            "the end token last; the server ignores the limit or stop_token_ids"
        )
    if ended == "stop" and not ends:
        raise unusable(
            f"the server ended an answer with token {ids[-1]}, which is none of the end tokens {sampling.eos_ids}; its "
            "generation_config has other end tokens than the policy's chat format: make them agree"
        )
    return Completion(np.array(ids, dtype=np.int64), np.array(logprobs, dtype=np.float32).clip(max=0.0), bool(ends))


def field_of(data: Any, name: str, kind: type[Kind]) -> Kind:
    """A field of a JSON object.

    Raises:
        AttemptError: If there is none of that type.
    """
    value = data.get(name) if isinstance(data, dict) else None
    if not isinstance(value, kind):
        raise malformed(f"{name!r} is {_shown(value)} in {_shown(data)}, expected a {kind.__name__}")
    return value


def check_prompt(seen: Any, ids: Sequence[int], others: Sequence[Sequence[int]] = ()) -> None:
    """Check that the server answered our prompt and not one that it tokenised in another way.

    Args:
        seen: The prompt's token ids as the server saw them.
        ids: Ours.
        others: Forms of ours that are as good.

    Raises:
        AttemptError: If they differ, with the first place where they do.
    """
    if seen in ([*ids], *([*other] for other in others)):
        return
    if not isinstance(seen, list):
        raise unusable(f"the prompt's token ids are {_shown(seen)}, expected {len(ids)} ids")
    pairs = zip(seen, ids, strict=False)
    place = next((index for index, (theirs, ours) in enumerate(pairs) if theirs != ours), min(len(seen), len(ids)))
    raise unusable(
        f"the server saw a prompt of {len(seen)} tokens, ours has {len(ids)}; they differ first at {place}: "
        f"{seen[place : place + 6]} there, {list(ids[place : place + 6])} here. It tokenises text again or prepares "
        "photos in another way; see docs/generation.md"
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}…"
