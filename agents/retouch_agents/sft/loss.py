"""Cross-entropy of the tokens that are learned.

Minimises −Σ log p(y_t | y_<t, photo, instruction) over reasoning and sliders (RetouchIQ, arXiv 2602.17558,
stage 1; IEA, arXiv 2606.08016, stage 1). Only tokens of answers carry loss.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from retouch_gym.errors import ConfigurationError

LARGEST_SOFT = 8192
"""Most tokens of a vocabulary whose numbers are softened: a table of V² floats is kept, 256 MB at this size."""


def soft_labels(tokens: list[str], sigma: float) -> Tensor:
    """Target distribution of every token: itself, or a Gaussian over near values where it is a whole number.

    A sign in front of the number (``"=7"``) makes another kind of number; only those of a kind are near each other.

    Args:
        tokens: The vocabulary, by id.
        sigma: Standard deviation, counted in neighbouring numbers of the vocabulary. 0 gives the identity.

    Returns:
        float32 (V, V), rows sum to 1.

    Raises:
        ConfigurationError: If the vocabulary is too large for a table.
    """
    if len(tokens) > LARGEST_SOFT:
        raise ConfigurationError(
            f"number_sigma softens the labels of vocabularies of at most {LARGEST_SOFT} tokens, where a number is one "
            f"token; this one has {len(tokens)}. Set number_sigma=0."
        )
    labels = torch.eye(len(tokens))
    kinds: dict[str, list[tuple[int, int]]] = {}
    for index, text in enumerate(tokens):
        match = re.fullmatch(r"(\D??)(-?\d+)", text)
        if match is not None:
            kinds.setdefault(match[1], []).append((int(match[2]), index))
    for numbers in kinds.values() if sigma > 0 else ():
        ids = torch.tensor([index for _, index in sorted(numbers)])
        rank = torch.arange(len(numbers), dtype=torch.float32)
        kernel = torch.exp(-0.5 * ((rank[:, None] - rank[None, :]) / sigma) ** 2)
        labels[ids[:, None], ids[None, :]] = kernel / kernel.sum(dim=1, keepdim=True)
    return labels


@dataclass(frozen=True)
class Predictions:
    """What the model says of the learned tokens' columns.

    Args:
        logits: (B, C, V), in the model's type, of the C columns in which a row has a learned token.
        ids: The right tokens there, int64 (B, C).
        learned: bool (B, C): where the right token is learned.
    """

    logits: Tensor
    ids: Tensor
    learned: Tensor


def predict(model: torch.nn.Module, batch: Mapping[str, Tensor]) -> Predictions:
    """One forward pass; logits are computed in the columns that need them and nowhere else.

    Args:
        model: An image-text-to-text model.
        batch: From `retouch_agents.sft.examples.stack`.
    """
    inputs = {name: tensor for name, tensor in batch.items() if name != "completion_mask"}
    learned = batch["completion_mask"]
    columns = learned.any(dim=0).nonzero()[:, 0]
    width = len(columns)
    if int(columns[0]) + width == learned.shape[1]:
        logits = model(**inputs, logits_to_keep=width + 1, use_cache=False).logits[:, :-1]
    else:
        logits = model(**inputs, logits_to_keep=columns - 1, use_cache=False).logits
    return Predictions(logits, batch["input_ids"][:, columns], learned[:, columns])


def completion_loss(
    model: torch.nn.Module, batch: Mapping[str, Tensor], labels: Tensor | None, tokens: float
) -> Tensor:
    """Cross-entropy of the learned tokens, summed and divided by `tokens`.

    Args:
        model: An image-text-to-text model.
        batch: From `retouch_agents.sft.examples.stack`, or from `collate` with completions.
        labels: From `soft_labels`; None for hard labels.
        tokens: Number of learned tokens in the whole optimizer step, so that micro-batches add up exactly.

    Returns:
        float32 scalar, nats.
    """
    found = predict(model, batch)
    if labels is None:
        return F.cross_entropy(found.logits[found.learned].float(), found.ids[found.learned], reduction="sum") / tokens
    log_probs = torch.log_softmax(found.logits.float(), dim=-1)
    per_token = -(labels[found.ids] * log_probs).sum(dim=-1)
    return (per_token * found.learned).sum() / tokens


@torch.no_grad()
def count_right(model: torch.nn.Module, batch: Mapping[str, Tensor]) -> tuple[float, int]:
    """Sum of the cross-entropy with hard labels (nats), and how many learned tokens are the likeliest."""
    found = predict(model, batch)
    logits, ids = found.logits[found.learned].float(), found.ids[found.learned]
    return float(F.cross_entropy(logits, ids, reduction="sum")), int((logits.argmax(dim=-1) == ids).sum())
