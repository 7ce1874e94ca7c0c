"""From prompts and completions to the tensors of one forward pass.

Prompts are padded on the left and completions on the right, so that the first sampled token of every
row sits in the same column. Token ids are kept as sampled and never written out and read back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from retouch_gym.types import Image


@dataclass(frozen=True, eq=False)
class Prompt:
    """One encoded prompt.

    Args:
        input_ids: Token ids, int64 (P,).
        features: Image tensors, concatenable along axis 0, for instance ``pixel_values``
            (patches, channels · patch volume) float32 and ``image_grid_thw`` (images, 3) int64.
        token_features: Per-token integers, int64 (P,), for instance ``mm_token_type_ids``.
        photos: The photos as they were shown, in order, uint8 (H, W, 3) sRGB, for a server that wants to encode them
            itself. Models here read `features`.
    """

    input_ids: NDArray[np.int64]
    features: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    token_features: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    photos: tuple[Image, ...] = ()

    def then(self, token_ids: NDArray[np.int64]) -> Prompt:
        """This prompt and sampled text after it."""
        zeros = np.zeros(len(token_ids), dtype=np.int64)
        return replace(
            self,
            input_ids=np.concatenate([self.input_ids, token_ids]),
            token_features={name: np.concatenate([row, zeros]) for name, row in self.token_features.items()},
        )

    def joined(self, other: Prompt) -> Prompt:
        """This prompt and `other` after it, which may show further photos."""
        return Prompt(
            np.concatenate([self.input_ids, other.input_ids]),
            join_features([self.features, other.features], _image_axis({**self.features, **other.features})),
            {
                name: np.concatenate([_per_token(self, name), _per_token(other, name)])
                for name in {**self.token_features, **other.token_features}
            },
            (*self.photos, *other.photos),
        )

    def after(self, other: Prompt) -> Prompt | None:
        """What follows `other` in this prompt, photos included; None if it does not begin with `other`."""
        start = len(other.input_ids)
        if not np.array_equal(self.input_ids[:start], other.input_ids):
            return None
        axis = _image_axis(self.features)
        rest = {}
        for name, array in self.features.items():
            known = other.features.get(name)
            count = 0 if known is None else known.shape[axis]
            if known is not None and not np.array_equal(array.take(range(count), axis), known):
                return None
            if array.shape[axis] > count:
                rest[name] = array.take(range(count, array.shape[axis]), axis)
        tokens = {name: row[start:] for name, row in self.token_features.items()}
        return Prompt(self.input_ids[start:], rest, tokens, self.photos[len(other.photos) :])


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
            array[row, start:end] = _per_token(prompt, name)
        if completions is not None:
            end += len(completions[row])
            ids[row, prompt_width:end] = completions[row]
            sampled[row, prompt_width:end] = True
        mask[row, start:end] = 1
    batch = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    batch |= {name: torch.from_numpy(array) for name, array in per_token.items()}
    joined = batch_features([prompt.features for prompt in prompts])
    for name in joined:
        batch[name] = torch.from_numpy(joined[name])
    if completions is not None:
        batch["completion_mask"] = torch.from_numpy(sampled)
    return batch


def join_features(rows: Sequence[Mapping[str, NDArray[np.generic]]], axis: int = 0) -> dict[str, NDArray[np.generic]]:
    """Image tensors of several pieces of text, one after the other; pieces without photos add nothing.

    Args:
        rows: Features of each.
        axis: Along which photos are counted.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: np.concatenate([row[name] for row in rows if name in row], axis=axis) for name in names}


def batch_features(rows: Sequence[Mapping[str, NDArray[np.generic]]]) -> dict[str, NDArray[np.generic]]:
    """Image tensors of a batch of prompts.

    Where photos are not counted along the first axis, that one counts prompts, and prompts with fewer photos are filled
    up with black ones, which such models leave out.
    """
    shown = [row for row in rows if row]
    if not shown or _image_axis(shown[0]) == 0:
        return join_features(shown)
    most = {name: max(row[name].shape[1] for row in shown) for name in shown[0]}
    empty = {name: array[:, :0] for name, array in shown[0].items()}
    return join_features([_filled(row or empty, most) for row in rows])


def _filled(row: Mapping[str, NDArray[np.generic]], counts: Mapping[str, int]) -> dict[str, NDArray[np.generic]]:
    return {
        name: np.pad(array, [(0, 0), (0, counts[name] - array.shape[1]), *[(0, 0)] * (array.ndim - 2)])
        for name, array in row.items()
    }


def _image_axis(features: Mapping[str, NDArray[np.generic]]) -> int:
    """Along which axis photos are counted: Idefics' and SmolVLM's processors put the prompts first."""
    return 1 if "pixel_attention_mask" in features else 0


def _per_token(prompt: Prompt, name: str) -> NDArray[np.int64]:
    return prompt.token_features.get(name, np.zeros(len(prompt.input_ids), dtype=np.int64))
