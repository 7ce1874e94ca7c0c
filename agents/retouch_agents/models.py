"""Loading multimodal models: any folder or id that `AutoModelForImageTextToText` opens."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, ProcessorMixin

from retouch_agents.errors import ModelError
from retouch_reward_models.backends.tiny_processor import register_tiny_processor


def load_model(
    path: str | Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> PreTrainedModel:
    """Load an image-text-to-text model for generation and training. Code from a checkpoint is never run.

    Args:
        path: A folder written by `save_pretrained`, or a model id.
        dtype: Type of the weights.
        device: Where to put them.

    Raises:
        ModelError: If nothing loadable is there.
    """
    try:
        model: PreTrainedModel = AutoModelForImageTextToText.from_pretrained(
            str(path), dtype=dtype, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"No image-text-to-text model at {str(path)!r} ({error}). Give a folder written by save_pretrained or a "
            "model id; retouch_agents.tiny.build_tiny makes a small one from nothing."
        ) from error
    torch.nn.Module.to(model, device)
    return model


def load_processor(path: str | Path) -> ProcessorMixin:
    """Load the processor (tokenizer and image processor) of a model.

    Raises:
        ModelError: If there is none, or it cannot read images.
    """
    register_tiny_processor()
    try:
        processor = AutoProcessor.from_pretrained(str(path), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"No processor at {str(path)!r} ({error}).") from error
    if not isinstance(processor, ProcessorMixin):
        # AutoProcessor falls back to the bare tokenizer without a word; the photos would be dropped.
        raise ModelError(f"{str(path)!r} has a {type(processor).__name__} but no image processor.")
    return processor
