"""Architectures of well-known models, so that a dry run can count them where nothing was downloaded.

Sizes as in the models' published ``config.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig, PretrainedConfig

_QWEN25_VISION: Mapping[str, Any] = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}


def _qwen25(hidden: int, inner: int, layers: int, heads: int, vocabulary: int, tied: bool) -> dict[str, Any]:
    text = {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 4 if hidden == 3584 else 2,
        "vocab_size": vocabulary,
        "max_position_embeddings": 128000,
        "tie_word_embeddings": tied,
    }
    vision = {**_QWEN25_VISION, "out_hidden_size": hidden}
    return {"model_type": "qwen2_5_vl", "text_config": text, "vision_config": vision, "tie_word_embeddings": tied}


_KNOWN: Mapping[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-VL-3B-Instruct": _qwen25(2048, 11008, 36, 16, 151936, True),
    "Qwen/Qwen2.5-VL-7B-Instruct": _qwen25(3584, 18944, 28, 28, 152064, False),
}


def known_shape(model: str) -> PretrainedConfig | None:
    """The architecture of a well-known id, or None."""
    if model not in _KNOWN:
        return None
    settings = dict(_KNOWN[model])
    found: PretrainedConfig = AutoConfig.for_model(settings.pop("model_type"), **settings)
    return found
