"""From prompts and completions to the tensors of one forward pass.

Prompts are padded on the left and completions on the right, so that the first sampled token of every
row sits in the same column. Token ids are kept as sampled and never written out and read back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Prompt:
    """One encoded prompt.

    Args:
        input_ids: Token ids, int64 (P,).
        features: Image tensors, concatenable along axis 0, for instance ``pixel_values``
            (patches, channels · patch volume) float32 and ``image_grid_thw`` (images, 3) int64.
        token_features: Per-token integers, int64 (P,), for instance ``mm_token_type_ids``.
    """

    input_ids: NDArray[np.int64]
    features: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    token_features: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


def collate(
    prompts: Sequence[Prompt], pad_id: int, completions: Sequence[NDArray[np.int64]] | None = None
) -> dict[str, torch.Tensor]:
    """Stack prompts, and completions after them, into one padded batch.

    Args:
        prompts: B prompts; P is the longest.
        pad_id: Token id of padding.
        completions: B arrays of sampled token ids; C is the longest. None for prompts alone.

    Returns:
        ``input_ids`` and ``attention_mask`` int64 (B, P + C), every token feature in that shape, every
        image feature concatenated, and, with completions, ``completion_mask`` bool (B, P + C): True on
        sampled tokens.
    """
    prompt_width = max(len(prompt.input_ids) for prompt in prompts)
    width = prompt_width + (max(len(tokens) for tokens in completions) if completions is not None else 0)
    shape = (len(prompts), width)
    ids = np.full(shape, pad_id, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    sampled = np.zeros(shape, dtype=bool)
    per_token = {name: np.zeros(shape, dtype=np.int64) for name in prompts[0].token_features}
    for row, prompt in enumerate(prompts):
        start = prompt_width - len(prompt.input_ids)
        end = prompt_width
        ids[row, start:end] = prompt.input_ids
        for name, array in per_token.items():
            array[row, start:end] = prompt.token_features[name]
        if completions is not None:
            end += len(completions[row])
            ids[row, prompt_width:end] = completions[row]
            sampled[row, prompt_width:end] = True
        mask[row, start:end] = 1
    batch = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    batch |= {name: torch.from_numpy(array) for name, array in per_token.items()}
    for name in prompts[0].features:
        batch[name] = torch.from_numpy(np.concatenate([prompt.features[name] for prompt in prompts], axis=0))
    if completions is not None:
        batch["completion_mask"] = torch.from_numpy(sampled)
    return batch
