"""Opening, training and saving multimodal models: whatever `AutoModelForImageTextToText` opens, and adapters to it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, ProcessorMixin

from retouch_agents.adapters import adapter_folder, continue_adapter, merge_adapter, save_adapter
from retouch_agents.checkpoints import copy_notes
from retouch_agents.errors import ModelError
from retouch_agents.finetuning import FineTuning, check_attention, has_adapter, prepare
from retouch_reward_models.backends.tiny_processor import register_tiny_processor


def load_model(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    attention: str | None = None,
) -> PreTrainedModel:
    """Load an image-text-to-text model. Code from a checkpoint is never run and pickled weights are not opened.

    Args:
        path: A folder written by `save_pretrained`, a model id, or the folder of a peft adapter, which is added into
            the weights of the model that it names.
        dtype: Type of the weights.
        device: Where to put them.
        attention: As in `FineTuning`.

    Raises:
        ModelError: If nothing loadable is there.
        ConfigurationError: If the attention cannot run here.
    """
    adapter = adapter_folder(path)
    if adapter is not None:
        model = merge_adapter(_open(adapter.base, dtype, attention), adapter)
    else:
        model = _open(path, dtype, attention)
    torch.nn.Module.to(model, device)
    return model


def load_policy(
    path: str | Path,
    tuning: FineTuning | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> PreTrainedModel:
    """Load a model to train: what is not trained is frozen, and an adapter put in if there is to be one.

    Args:
        path: As for `load_model`. With `lora_rank` > 0, the adapter of an adapter's folder is trained further.
        tuning: What is trained; None: everything.
        dtype: Type of the weights. An adapter's are float32 always.
        device: Where to put them.

    Raises:
        ModelError: If nothing loadable is there, or it does not have the parts that `tuning` speaks of.
        ConfigurationError: If `tuning` does not fit the model or this machine.
    """
    tuning = tuning or FineTuning()
    adapter = adapter_folder(path) if tuning.lora else None
    if adapter is None:
        model = load_model(path, dtype=dtype, attention=tuning.attention)
    else:
        model = _open(adapter.base, dtype, tuning.attention)
        continue_adapter(model, adapter, tuning)
    prepare(model, tuning)
    torch.nn.Module.to(model, device)
    return model


def save_policy(model: PreTrainedModel, source: str | Path, folder: str | Path, *, merge: bool = False) -> Path:
    """Write a model with its processor and notes, so that it opens anywhere.

    Args:
        model: From `load_policy`, trained or not.
        source: What it was loaded from: gives processor, prompt and answer format.
        folder: Where to write. A model with an adapter becomes a peft adapter folder that names its base by its
            absolute path or id; any other an ordinary transformers folder.
        merge: Write an ordinary folder in either case. The base is read a second time, into memory of the CPU.

    Returns:
        The folder.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    if not has_adapter(model):
        model.save_pretrained(target)
    elif not merge:
        save_adapter(model, _base(source), target)
    else:
        with TemporaryDirectory() as scratch:
            save_adapter(model, _base(source), Path(scratch))
            load_model(scratch, dtype=model.dtype).save_pretrained(target)
    load_processor(source).save_pretrained(str(target))
    copy_notes(Path(source), target)
    return target


def load_processor(path: str | Path) -> ProcessorMixin:
    """Load the processor (tokenizer and image processor) of a model, or of the model that an adapter belongs to.

    Raises:
        ModelError: If there is none, or it cannot read images.
    """
    register_tiny_processor()
    adapter = adapter_folder(path)
    source = str(path) if adapter is None else adapter.base
    try:
        processor = AutoProcessor.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"No processor at {source!r} ({error}).") from error
    if not isinstance(processor, ProcessorMixin):
        # AutoProcessor falls back to the bare tokenizer without a word; the photos would be dropped.
        raise ModelError(f"{source!r} has a {type(processor).__name__} but no image processor.")
    return processor


def _open(path: str | Path, dtype: torch.dtype, attention: str | None) -> PreTrainedModel:
    check_attention(attention, dtype)
    try:
        model: PreTrainedModel = AutoModelForImageTextToText.from_pretrained(
            str(path), dtype=dtype, attn_implementation=attention, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"No image-text-to-text model at {str(path)!r} ({error}). Give a folder written by save_pretrained or a "
            "model id; retouch_agents.tiny.build_tiny makes a small one from nothing."
        ) from error
    return model


def _base(source: str | Path) -> str:
    adapter = adapter_folder(source)
    base = str(source) if adapter is None else adapter.base
    return str(Path(base).resolve()) if Path(base).is_dir() else base
