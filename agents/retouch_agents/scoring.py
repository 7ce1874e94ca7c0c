"""Scoring what was sampled, with gradients: a prompt passes through the model once, an episode in one piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import PreTrainedModel

from retouch_agents.encoding import Prompt, batch_features, collate, join_features
from retouch_agents.finetuning import recomputation, recomputes
from retouch_agents.generation import Prefix, distribution, encode_prompts, extend, token_positions


@dataclass(frozen=True, eq=False)
class Continuation:
    """What came after a prompt: an answer; in an episode of several turns also what was shown in between.

    Args:
        tokens: All of its tokens and photos.
        sampled: Which tokens the model chose, bool (C,); the last one is always one of them.
    """

    tokens: Prompt
    sampled: NDArray[np.bool_] = field(repr=False)

    @classmethod
    def of(cls, token_ids: NDArray[np.int64]) -> Continuation:
        """A single answer."""
        return cls(Prompt(token_ids), np.ones(len(token_ids), dtype=np.bool_))


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of sampled tokens, all (N, C).

    Args:
        logprobs: log-probability of each token, with gradient where the model has one.
        entropy: Entropy in nats of the distribution that it was drawn from, with gradient if it was asked for.
        mask: bool, True on sampled tokens.
        states: What the model's output layer saw when each token was predicted, (N, C, H), if it was asked for.
    """

    logprobs: torch.Tensor
    entropy: torch.Tensor
    mask: torch.Tensor
    states: torch.Tensor | None = None


def score(
    model: PreTrainedModel,
    prompts: Sequence[Prompt],
    rows: Sequence[int],
    continuations: Sequence[Continuation | NDArray[np.int64]],
    *,
    pad_id: int,
    temperature: float = 1.0,
    suppressed: Sequence[int] = (),
    states: bool = False,
    entropy_gradient: bool = False,
) -> Scores:
    """Score N continuations, encoding each prompt once. Differentiable.

    Where a gradient is wanted of a model with gradient checkpointing, which knows no cache, whole rows are passed: each
    continuation encodes its prompt again.

    Args:
        model: The model.
        prompts: Distinct prompts.
        rows: Index of the prompt of each continuation, N of them.
        continuations: N of at most C tokens; an array of token ids is an answer.
        pad_id: Token id of padding.
        temperature: Temperature that they were sampled at.
        suppressed: Tokens that could not be sampled.
        states: Whether `Scores.states` is wanted.
        entropy_gradient: Whether the entropy is to have a gradient, which takes memory.
    """
    given = [one if isinstance(one, Continuation) else Continuation.of(one) for one in continuations]
    parts = alike([len(one.sampled) for one in given])
    found = []
    with _watched(model, states) as seen:
        encoded = None if recomputes(model) else encode_prompts(model, prompts, pad_id)
        before = seen[0][:, -1:] if seen else None
        for part in parts:
            del seen[:]
            whose, chosen = [rows[row] for row in part], [given[row] for row in part]
            width = max(len(one.sampled) for one in chosen)
            ids, present, sampled = _padded(chosen, width, pad_id, model.device)
            pieces = [prompts[row] for row in whose]
            if encoded is None:
                logits = _whole_rows(model, pieces, chosen, width, pad_id)
                hidden = seen[0][:, -width - 1 : -1] if states else None
            else:
                prefix = encoded.copy().select(torch.tensor(whose, device=model.device))
                logits = _continued(model, prefix, pieces, chosen, ids, present, pad_id)
                hidden = None if before is None else torch.cat([before[whose], *seen], dim=1)
            logs = distribution(logits, temperature, suppressed)
            with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
                entropy = -(logs.exp() * logs).sum(dim=-1)
            found.append(Scores(logs.gather(-1, ids[..., None])[..., 0], entropy, sampled, hidden))
    return _in_order(found, parts)


def alike(lengths: Sequence[int], shrink: float = 0.7, least: int = 16) -> list[list[int]]:
    """Rows in parts of like lengths, longest first, so that few of their tokens are padding.

    Args:
        lengths: Of every row.
        shrink: A row at most this long, of the longest of its part, begins a new part.
        least: Rows of a part, if there are more to come.
    """
    parts: list[list[int]] = [[]]
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if len(parts[-1]) >= least and lengths[row] <= shrink * lengths[parts[-1][0]]:
            parts.append([])
        parts[-1].append(row)
    return parts


def _continued(
    model: PreTrainedModel,
    prefix: Prefix,
    prompts: Sequence[Prompt],
    given: Sequence[Continuation],
    ids: torch.Tensor,
    present: torch.Tensor,
    pad_id: int,
) -> torch.Tensor:
    """Logits of every token of the continuations, (N, C, V), going on from prompts that have passed already."""
    logits, width = prefix.logits[:, None], ids.shape[1]
    if width == 1:
        return logits
    position, photos = prefix.next_position, None
    if any(one.tokens.features for one in given):
        position = _positions(model, prompts, given, pad_id)[..., -width:-1]
        features = batch_features([one.tokens.features for one in given])
        photos = {name: torch.from_numpy(array).to(model.device) for name, array in features.items()}
    rest = extend(model, prefix, ids[:, :-1], present[:, :-1].long(), position, photos)
    return torch.cat([logits, rest], dim=1)


def _in_order(found: Sequence[Scores], parts: Sequence[Sequence[int]]) -> Scores:
    """The scores of all parts, as wide as the widest, in the order of the rows."""
    width = max(one.mask.shape[1] for one in found)
    back = torch.argsort(torch.tensor([row for part in parts for row in part], device=found[0].mask.device))

    def together(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        padded = [F.pad(one, (0, 0) * (one.ndim - 2) + (0, width - one.shape[1])) for one in tensors]
        return torch.cat(padded)[back]

    hidden = [one.states for one in found if one.states is not None]
    return Scores(
        together([one.logprobs for one in found]),
        together([one.entropy for one in found]),
        together([one.mask for one in found]),
        together(hidden) if hidden else None,
    )


def _padded(
    given: Sequence[Continuation], width: int, pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, where there are any, and which of them were sampled, all (N, C)."""
    ids = np.full((len(given), width), pad_id, dtype=np.int64)
    present = np.zeros(ids.shape, dtype=np.bool_)
    sampled = np.zeros(ids.shape, dtype=np.bool_)
    for row, one in enumerate(given):
        length = len(one.sampled)
        ids[row, :length] = one.tokens.input_ids
        present[row, :length] = True
        sampled[row, :length] = one.sampled
    return torch.from_numpy(ids).to(device), torch.from_numpy(present).to(device), torch.from_numpy(sampled).to(device)


def _whole_rows(
    model: PreTrainedModel, prompts: Sequence[Prompt], given: Sequence[Continuation], width: int, pad_id: int
) -> torch.Tensor:
    """Logits of every token of the continuations, (N, C, V), without a cache."""
    batch = _rows(prompts, given, pad_id)
    features = batch_features([prompt.joined(one.tokens).features for prompt, one in zip(prompts, given, strict=True)])
    batch |= {name: torch.from_numpy(array) for name, array in features.items()}
    batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
    with recomputation(model):
        output = model(
            **batch,
            position_ids=token_positions(model, batch),
            use_cache=False,
            logits_to_keep=width + 1,
            return_dict=True,
        )
    logits: torch.Tensor = output.logits[:, -width - 1 : -1]
    return logits


def _positions(
    model: PreTrainedModel, prompts: Sequence[Prompt], given: Sequence[Continuation], pad_id: int
) -> torch.Tensor:
    """Rotary positions of prompts and what follows them, (N, P + C) or (3, N, P + C): photos take fewer than tokens."""
    batch = _rows(prompts, given, pad_id)
    grids = [
        {"image_grid_thw": array}
        for prompt, one in zip(prompts, given, strict=True)
        for array in (prompt.features.get("image_grid_thw"), one.tokens.features.get("image_grid_thw"))
        if array is not None
    ]
    batch |= {name: torch.from_numpy(array) for name, array in join_features(grids).items()}
    return token_positions(model, {name: tensor.to(model.device) for name, tensor in batch.items()})


def _rows(prompts: Sequence[Prompt], given: Sequence[Continuation], pad_id: int) -> dict[str, torch.Tensor]:
    """The tokens of prompts and what follows them, (N, P + C), without photos."""
    batch = collate(
        [Prompt(one.input_ids, {}, one.token_features) for one in prompts],
        pad_id,
        [one.tokens.input_ids for one in given],
    )
    del batch["completion_mask"]
    start = max(len(one.input_ids) for one in prompts)
    for row, one in enumerate(given):
        for name, array in one.tokens.token_features.items():
            batch[name][row, start : start + len(array)] = torch.from_numpy(array)
    return batch


@contextmanager
def _watched(model: PreTrainedModel, wanted: bool) -> Iterator[list[torch.Tensor]]:
    """What the output layer is given, call by call."""
    seen: list[torch.Tensor] = []
    if not wanted:
        yield seen
        return
    # The hidden states that a model returns are those of all layers, and not every model's last ones are normed.
    layer = model.get_output_embeddings()
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()
