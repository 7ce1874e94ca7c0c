"""Sampling from a chat model, with every prompt encoded once.

GRPO draws G answers to each prompt. The photo and the words in front of the answers are the same for
all of them, so they pass through the model once and their keys and values are shared, both when
answers are drawn (`TransformersGenerator`) and when they are scored with gradients (`retouch_agents.scoring`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import DynamicCache, DynamicLayer, PreTrainedModel

from retouch_agents.encoding import Prompt, collate

_NEVER = -1e9
"""Logit of a token that may not be sampled: finite, so that 0 · log 0 stays 0 in entropies."""

_CROWDED = 0.75
"""Finished answers are carried along until fewer than this share of the rows is still being written."""


@dataclass(frozen=True, eq=False)
class Completion:
    """One sampled answer.

    Args:
        token_ids: Sampled tokens, int64 (C,), C ≥ 1; the end token is last unless the limit was hit.
        logprobs: log-probability of each under the distribution that it was drawn from (temperature
            and suppressed tokens included), float32 (C,).
        finished: Whether the end token was sampled.
    """

    token_ids: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    finished: bool


class Generator(Protocol):
    """Something that answers prompts."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        group_size: int = 1,
        temperature: float = 1.0,
        max_new_tokens: int = 128,
        seeds: Sequence[int] | None = None,
    ) -> list[Completion]:
        """Draw `group_size` answers to each prompt; see `TransformersGenerator.generate`."""
        ...


class _ReservedLayer(DynamicLayer):
    """Keys and values of one layer with room for what is to come, so that a step writes and does not copy."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        self.lazy_initialization(keys, values)
        self._length = keys.shape[-2]
        self._all_keys = F.pad(keys, (0, 0, 0, room))
        self._all_values = F.pad(values, (0, 0, 0, room))
        self._show()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start, self._length = self._length, self._length + key_states.shape[-2]
        self._all_keys[:, :, start : self._length] = key_states
        self._all_values[:, :, start : self._length] = value_states
        return self._show()

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._all_keys, self._all_values = self._all_keys[indices], self._all_values[indices]
        self._show()

    def _show(self) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self._all_keys[:, :, : self._length], self._all_values[:, :, : self._length]
        self.keys, self.values = keys, values
        return keys, values


@dataclass(eq=False)
class Prefix:
    """Prompts that have passed through a model: rows that answers continue from.

    Args:
        cache: Keys and values of every layer.
        mask: int64 (B, P), 0 on left padding and on padding between tokens that were added.
        next_position: Rotary position of the first token after the prompt, int64 (B,).
        logits: Logits of that token, (B, V).
    """

    cache: DynamicCache
    mask: torch.Tensor
    next_position: torch.Tensor
    logits: torch.Tensor

    def select(self, rows: torch.Tensor) -> Prefix:
        """Take `rows` (int64, repeats allowed) of the prefix. The cache is moved, not copied: drop the old one."""
        self.cache.batch_select_indices(rows)
        return Prefix(self.cache, self.mask[rows], self.next_position[rows], self.logits[rows])

    def copy(self) -> Prefix:
        """One that can be selected from and continued while this one stays as it is; their tensors are shared."""
        cache = copy(self.cache)
        cache.layers = [copy(layer) for layer in self.cache.layers]
        return replace(self, cache=cache)

    def reserve(self, room: int) -> None:
        """Make room for `room` more tokens. Without gradients only: what follows is written in place."""
        for index, layer in enumerate(self.cache.layers):
            if type(layer) is DynamicLayer and layer.keys is not None and layer.values is not None:
                self.cache.layers[index] = _ReservedLayer(layer.keys, layer.values, room)


def encode_prompts(model: PreTrainedModel, prompts: Sequence[Prompt], pad_id: int) -> Prefix:
    """Pass prompts through a model once.

    Args:
        model: An image-text-to-text model.
        prompts: B prompts.
        pad_id: Token id of padding.
    """
    batch = {name: tensor.to(model.device) for name, tensor in collate(prompts, pad_id).items()}
    positions = token_positions(model, batch)
    cache = DynamicCache(config=model.config)
    output = model(
        **batch, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1, return_dict=True
    )
    # A photo takes fewer rotary positions than tokens, so the next position is not the prompt's length.
    last = positions if positions.ndim == 2 else positions.amax(dim=0)
    mask = batch["attention_mask"]
    following = (last * mask).amax(dim=1) + 1
    return Prefix(output.past_key_values, mask, following, output.logits[:, -1])


def token_positions(model: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Rotary positions (B, P), or (3, B, P) for models with multimodal positions (Qwen's M-RoPE)."""
    mask = batch["attention_mask"]
    rope_index = getattr(getattr(model, "model", None), "get_rope_index", None)
    if rope_index is None or "image_grid_thw" not in batch:
        return (mask.cumsum(dim=1) - 1).clamp(min=0)
    known = inspect.signature(rope_index).parameters
    positions, _ = rope_index(**{name: tensor for name, tensor in batch.items() if name in known})
    return positions  # type: ignore[no-any-return]  # a bound method found by name has no type


def extend(
    model: PreTrainedModel,
    prefix: Prefix,
    tokens: torch.Tensor,
    mask: torch.Tensor,
    position: torch.Tensor,
    photos: Mapping[str, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Continue every row of a prefix by T tokens; its cache and mask grow.

    Args:
        model: The model that made the prefix.
        prefix: N rows.
        tokens: Token ids, int64 (N, T).
        mask: int64 (N, T), 0 on padding.
        position: Rotary position of the first of these tokens, int64 (N,); or of all of them, as `token_positions`
            returns them, where they show photos.
        photos: Image tensors of the photos that these tokens show.

    Returns:
        Logits of the token after each, (N, T, V).
    """
    prefix.mask = torch.cat([prefix.mask, mask], dim=1)
    positions = position
    if position.ndim == 1:
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        positions = position[:, None] + steps
        if hasattr(getattr(model, "model", None), "get_rope_index"):
            positions = positions.expand(3, -1, -1)
    output = model(
        **(photos or {}),
        input_ids=tokens,
        attention_mask=prefix.mask,
        position_ids=positions,
        past_key_values=prefix.cache,
        use_cache=True,
        return_dict=True,
    )
    logits: torch.Tensor = output.logits
    return logits


def placeholder_ids(model: PreTrainedModel) -> list[int]:
    """Tokens that stand for photos and videos in a prompt. Sampling one would crash the next forward pass."""
    names = ("image_token_id", "video_token_id", "image_token_index", "video_token_index")
    found = {getattr(model.config, name, None) for name in names}
    return sorted(index for index in found if isinstance(index, int))


def distribution(logits: torch.Tensor, temperature: float, suppressed: Sequence[int]) -> torch.Tensor:
    """log-probabilities that tokens are drawn from, float32 (..., V): tempered, without `suppressed` tokens.

    Sampling and scoring share this function, so that the ratio of the two is 1 for the same weights.
    """
    tempered = logits.float() / temperature
    if suppressed:
        tempered = tempered.index_fill(-1, torch.tensor(suppressed, device=logits.device), _NEVER)
    return F.log_softmax(tempered, dim=-1)


class TransformersGenerator:
    """Samples with a transformers model, in one process.

    A prompt's answers depend on the weights, the prompt and its seed, and not on the prompts beside it,
    up to the rounding of batched matrix products.

    Args:
        model: An image-text-to-text model; used as it is, in evaluation mode.
        pad_id: Token id of padding.
        eos_ids: Tokens that end an answer.
        max_rows: Most answers drawn at a time; more are drawn in turns, to bound the memory.
    """

    def __init__(self, model: PreTrainedModel, *, pad_id: int, eos_ids: Sequence[int], max_rows: int = 256) -> None:
        self.model = model
        self.pad_id = pad_id
        self.eos_ids = tuple(eos_ids)
        self.max_rows = max_rows
        self.suppressed = placeholder_ids(model)

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        group_size: int = 1,
        temperature: float = 1.0,
        max_new_tokens: int = 128,
        seeds: Sequence[int] | None = None,
    ) -> list[Completion]:
        """Draw `group_size` answers to each prompt.

        Args:
            prompts: B prompts.
            group_size: Answers per prompt, G.
            temperature: Divides the logits; 0 takes the likeliest token (log-probabilities at temperature 1).
            max_new_tokens: Most tokens of an answer.
            seeds: One seed per prompt (None: 0, 1, …). No global random state is read or written.

        Returns:
            B · G completions, the G of the first prompt first.

        Raises:
            ValueError: If the number of seeds is not that of the prompts, or a number is out of range.
        """
        if group_size < 1 or max_new_tokens < 1 or temperature < 0:
            raise ValueError(
                f"group_size = {group_size}, max_new_tokens = {max_new_tokens} should be ≥ 1 and temperature = "
                f"{temperature} ≥ 0."
            )
        chosen = list(range(len(prompts))) if seeds is None else list(seeds)
        if len(chosen) != len(prompts):
            raise ValueError(f"{len(chosen)} seeds for {len(prompts)} prompts; give one each.")
        turn = max(1, self.max_rows // group_size)
        found: list[Completion] = []
        training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                for start in range(0, len(prompts), turn):
                    part = slice(start, start + turn)
                    noise = _uniforms(chosen[part], group_size, max_new_tokens).to(self.model.device)
                    found.extend(self._sample(prompts[part], group_size, temperature, noise))
        finally:
            self.model.train(training)
        return found

    def _sample(
        self, prompts: Sequence[Prompt], group_size: int, temperature: float, noise: torch.Tensor
    ) -> Iterator[Completion]:
        prefix = encode_prompts(self.model, prompts, self.pad_id)
        device = self.model.device
        rows = torch.arange(len(prompts), device=device).repeat_interleave(group_size)
        prefix = prefix.select(rows)
        count, limit = noise.shape
        prefix.reserve(limit)
        tokens = torch.full((count, limit), self.pad_id, dtype=torch.int64, device=device)
        logprobs = torch.zeros((count, limit), device=device)
        lengths = torch.full((count,), limit, dtype=torch.int64, device=device)
        ends = torch.tensor(self.eos_ids, device=device)
        rows = torch.arange(count, device=device)
        is_open = torch.ones(count, dtype=torch.bool, device=device)
        logits = prefix.logits
        for step in range(limit):
            logs = distribution(logits, temperature or 1.0, self.suppressed)
            drawn = _draw(logs, noise[rows, step]) if temperature else logs.argmax(dim=-1)
            tokens[rows, step] = drawn
            logprobs[rows, step] = logs.gather(-1, drawn[:, None])[:, 0]
            ending = is_open & torch.isin(drawn, ends)
            lengths[rows[ending]] = step + 1
            is_open = is_open & ~ending
            left = int(is_open.sum())
            if left == 0 or step + 1 == limit:
                break
            if left < _CROWDED * len(rows):
                kept = is_open.nonzero()[:, 0]
                prefix, rows, drawn, is_open = prefix.select(kept), rows[kept], drawn[kept], is_open[kept]
            ones = torch.ones((len(rows), 1), dtype=torch.int64, device=device)
            logits = extend(self.model, prefix, drawn[:, None], ones, prefix.next_position + step)[:, 0]
        return self._completions(tokens.cpu().numpy(), logprobs.cpu().numpy(), lengths.cpu().numpy())

    def _completions(
        self, tokens: NDArray[np.int64], logprobs: NDArray[np.float32], lengths: NDArray[np.int64]
    ) -> Iterator[Completion]:
        for row, length in enumerate(lengths):
            ids = tokens[row, :length].copy()
            yield Completion(ids, logprobs[row, :length].copy(), bool(ids[-1] in self.eos_ids))


def _uniforms(seeds: Sequence[int], group_size: int, steps: int) -> torch.Tensor:
    """Uniform numbers in [0, 1), float64 (B · G, steps), those of a prompt from its own seed alone."""
    drawn = [
        torch.rand((group_size, steps), dtype=torch.float64, generator=torch.Generator().manual_seed(int(seed)))
        for seed in seeds
    ]
    return torch.cat(drawn)


def _draw(logs: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Invert the cumulative distribution: int64 (N,) from log-probabilities (N, V) and uniforms (N,)."""
    cumulative = logs.double().exp().cumsum(dim=-1)
    # Scaled by the sum, which rounding leaves a little off 1, so that a token of probability 0 is never drawn.
    threshold = uniform[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, threshold, right=True)[:, 0].clamp(max=logs.shape[-1] - 1)
