"""Adapter folders as peft writes them: ``adapter_config.json``, ``adapter_model.safetensors``, no base model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PreTrainedModel

from retouch_agents.errors import ModelError
from retouch_agents.finetuning import ADAPTER, START, FineTuning, insert_adapter
from retouch_gym.errors import ConfigurationError

_CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class AdapterFolder:
    """An adapter on the disk.

    Args:
        folder: Where it lies.
        settings: Its ``adapter_config.json``.
    """

    folder: Path
    settings: dict[str, Any]

    @property
    def base(self) -> str:
        """Folder (absolute, or relative to the adapter's) or id of the model that it belongs to."""
        named = str(self.settings["base_model_name_or_path"])
        beside = self.folder / named
        return str(beside) if beside.is_dir() else named

    def tensors(self) -> dict[str, torch.Tensor]:
        """Its weights, by the names they have inside a transformers model, less the adapter's name."""
        return {name.removeprefix(_PREFIX): tensor for name, tensor in load_file(self.folder / _WEIGHTS).items()}


def adapter_folder(path: str | Path) -> AdapterFolder | None:
    """The adapter in a folder; None if there is none.

    Raises:
        ModelError: If it is of a kind that is not opened here.
    """
    folder = Path(path)
    if not (folder / _CONFIG).is_file():
        return None
    try:
        settings = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{folder / _CONFIG} is no JSON ({error}); save the adapter again.") from error
    kind = settings.get("peft_type")
    # peft imports whatever module `megatron_core` names, if `megatron_config` is set.
    if kind != "LORA" or settings.get("megatron_config") is not None:
        raise ModelError(
            f"The adapter in {str(folder)!r} is of the kind {kind!r}{' for Megatron' if kind == 'LORA' else ''}; plain "
            "LORA is opened here. Merge it with the library that made it, and give the merged folder."
        )
    if not settings.get("base_model_name_or_path"):
        raise ModelError(f"{folder / _CONFIG} does not name the model it belongs to: set base_model_name_or_path.")
    if not (folder / _WEIGHTS).is_file():
        raise ModelError(f"{str(folder)!r} has no {_WEIGHTS}; other formats are not opened, as they can run code.")
    return AdapterFolder(folder, settings)


def continue_adapter(model: PreTrainedModel, adapter: AdapterFolder, tuning: FineTuning) -> None:
    """Put an adapter into its model to train it further, beside a frozen copy that stays the reference.

    Its own targets and scale count, not those of `tuning`.

    Raises:
        ConfigurationError: If its rank is not `tuning`'s.
        ModelError: If it does not belong to this model.
    """
    config = LoraConfig.from_pretrained(str(adapter.folder))
    if config.r != tuning.lora_rank:
        raise ConfigurationError(
            f"The adapter in {str(adapter.folder)!r} has rank {config.r}, not lora_rank = {tuning.lora_rank}. Give "
            f"{config.r} to train it further, or save it merged (save_policy(…, merge=True)) and start from that."
        )
    if config.modules_to_save:
        raise ConfigurationError(
            f"The adapter in {str(adapter.folder)!r} replaces whole modules ({config.modules_to_save}); save it merged "
            "and start from that."
        )
    tensors = adapter.tensors()
    for name in (START, ADAPTER):
        insert_adapter(model, config, name)
        _check(adapter, tensors, _held(model, name))
        set_peft_model_state_dict(model, tensors, adapter_name=name)
    model.set_adapter(ADAPTER)


def merge_adapter(model: PreTrainedModel, adapter: AdapterFolder) -> PreTrainedModel:
    """The model with an adapter added into its weights: W + alpha / r · B·A, rounded to the model's type.

    Args:
        model: The adapter's base; used up.
        adapter: What is added.

    Raises:
        ModelError: If the adapter does not belong to this model.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            wrapped = PeftModel.from_pretrained(model, str(adapter.folder))
    except (RuntimeError, ValueError) as error:  # another shape, or targets that are not there
        raise ModelError(f"The adapter in {str(adapter.folder)!r} does not fit {adapter.base!r}: {error}") from error
    _check(adapter, adapter.tensors(), _held(wrapped, ADAPTER))
    merged: PreTrainedModel = wrapped.merge_and_unload()
    return merged.requires_grad_(True)


def save_adapter(model: PreTrainedModel, base: str, folder: Path) -> None:
    """Write the adapter that is trained; `base` is named as the model it belongs to."""
    model.peft_config[ADAPTER].base_model_name_or_path = base
    model.save_pretrained(folder)


def _held(model: torch.nn.Module, name: str) -> dict[str, torch.Tensor]:
    # Asked for embeddings, peft would look for the base's configuration on the network.
    found = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    return {key.removeprefix(_PREFIX): tensor for key, tensor in found.items()}


def _check(adapter: AdapterFolder, stored: dict[str, torch.Tensor], held: dict[str, torch.Tensor]) -> None:
    wrong = sorted(set(stored) ^ set(held)) or [n for n in held if stored[n].shape != held[n].shape]
    if wrong:
        raise ModelError(
            f"The adapter in {str(adapter.folder)!r} does not fit {adapter.base!r}: {len(wrong)} of {len(held)} "
            f"tensors are missing, left over or of another shape, {wrong[0]!r} for one."
        )
