"""What of a model is trained: all of it, all but its vision tower, or a low-rank adapter.

Low-rank adapters (LoRA, arXiv 2106.09685) are peft's, put inside the model: it stays the transformers model that
it was, so that nothing else has to know of them, and its folder is one that peft opens.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import cast_adapter_dtype
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils.import_utils import is_flash_attn_2_available

from retouch_agents.errors import ModelError
from retouch_gym.errors import ConfigurationError

ADAPTER = "default"
"""Name of the adapter that is trained."""

START = "start"
"""Name of the frozen copy of an adapter that training went on from: what the KL penalty holds the policy to."""

ALL_LINEAR = "all-linear"

Attention = Literal["eager", "sdpa", "flash_attention_2"]

# The projector of these families is a part of the tower's module: Qwen-VL's.
_INNER_PROJECTORS = frozenset({"merger", "deepstack_merger_list"})


@dataclass(frozen=True)
class FineTuning:
    """What of a model is trained, and how its layers compute.

    Args:
        lora_rank: Rank r of the adapter: W + alpha / r · B·A, with W frozen. 0: full fine-tuning.
        lora_alpha: Numerator of the adapter's scale.
        lora_dropout: Share of the adapter's inputs that is dropped, in [0, 1). Only supervised fine-tuning drops any:
            reinforcement learning scores in evaluation mode, as the ratio of probabilities would be noise.
        lora_targets: Which linear layers get an adapter. ``"all-linear"``: all of the language model. Names, such as
            ``("q_proj", "v_proj")``: those of the language model that are called so. Another string: a regular
            expression for whole dotted names, which reaches the vision tower too.
        lora_seed: Seed of A's random start; B starts at 0. The global generator is left as it was.
        freeze_vision: Keep the vision tower as it is.
        freeze_projector: Keep what maps the tower's features into the language model as it is.
        gradient_checkpointing: Keep only what enters each layer and compute the rest again in the backward pass:
            about a third more work for a fraction of the activations. Prompts are then not shared while scoring.
        attention: How attention is computed; None: as transformers chooses (SDPA where the family has it).

    Raises:
        ConfigurationError: If a value is out of range, or has no effect with the others.
    """

    lora_rank: int = 0
    lora_alpha: float = 32.0
    lora_dropout: float = 0.0
    lora_targets: str | tuple[str, ...] = ALL_LINEAR
    lora_seed: int = 0
    freeze_vision: bool = False
    freeze_projector: bool = False
    gradient_checkpointing: bool = False
    attention: Attention | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.lora_targets, str):
            object.__setattr__(self, "lora_targets", tuple(self.lora_targets))  # from YAML and JSON it is a list
        if self.lora_rank < 0:
            raise ConfigurationError(f"lora_rank = {self.lora_rank} should be 0 (full fine-tuning) or above.")
        if self.lora_alpha <= 0:
            raise ConfigurationError(
                f"lora_alpha = {self.lora_alpha} should be above 0; 2 · lora_rank is a common one."
            )
        if not 0 <= self.lora_dropout < 1:
            raise ConfigurationError(f"lora_dropout = {self.lora_dropout} should be in [0, 1).")
        if self.attention not in (None, *get_args(Attention)):
            raise ConfigurationError(
                f"attention = {self.attention!r} should be None or one of {', '.join(get_args(Attention))}."
            )
        self._check_targets()
        idle = [
            field.name
            for field in fields(self)
            if field.name.startswith("lora_") and getattr(self, field.name) != field.default
        ]
        if idle and not self.lora_rank:
            raise ConfigurationError(
                f"{', '.join(idle)} without lora_rank would train the whole model; set lora_rank (8 to 64 are common), "
                "or leave them out."
            )

    @property
    def lora(self) -> bool:
        """Whether an adapter is trained."""
        return self.lora_rank > 0

    def _check_targets(self) -> None:
        if not self.lora_targets:
            raise ConfigurationError("lora_targets is empty; give 'all-linear', names of layers or an expression.")
        if isinstance(self.lora_targets, str):
            try:
                re.compile(self.lora_targets)
            except re.error as error:
                raise ConfigurationError(
                    f"lora_targets = {self.lora_targets!r} is no regular expression ({error}). For a few names give a "
                    "list of them."
                ) from error


def check_attention(attention: str | None, dtype: torch.dtype) -> None:
    """Refuse an attention that cannot run here.

    Raises:
        ConfigurationError: If flash attention is asked for where it is not installed, or in float32.
    """
    if attention != "flash_attention_2":
        return
    if not is_flash_attn_2_available():
        raise ConfigurationError(
            "attention = 'flash_attention_2' needs the package flash-attn and a CUDA device, and one of the two is "
            "missing. attention = 'sdpa' needs neither and uses PyTorch's own fused kernels."
        )
    if dtype not in (torch.bfloat16, torch.float16):
        raise ConfigurationError(f"attention = 'flash_attention_2' needs dtype 'bfloat16', not {dtype}.")


def prepare(model: PreTrainedModel, tuning: FineTuning) -> None:
    """Freeze what is not trained, put the adapter in if there is to be one, and switch checkpointing on.

    Args:
        model: As loaded; changed in place. If it has adapters already (`adopt`), no other is added.
        tuning: What is trained.

    Raises:
        ConfigurationError: If `lora_targets` matches no layer.
        ModelError: If the vision tower or a language model cannot be told apart.
    """
    frozen = frozen_prefixes(model, tuning)
    if has_adapter(model):
        model.set_adapter(ADAPTER)
    elif tuning.lora:
        config = LoraConfig(
            r=tuning.lora_rank,
            lora_alpha=tuning.lora_alpha,  # type: ignore[arg-type]  # annotated int, used as a number
            lora_dropout=tuning.lora_dropout,
            target_modules=lora_layers(model, tuning, frozen),
        )
        insert_adapter(model, config, seed=tuning.lora_seed)
    else:
        for name, parameter in model.named_parameters():
            if _under(name, frozen):
                parameter.requires_grad_(False)
    if tuning.gradient_checkpointing:
        model.activation_checkpointing_enable()
        # Only needed by the reentrant kind, which this is not; its hook would make every prompt require a gradient.
        model.disable_input_require_grads()


def frozen_prefixes(model: PreTrainedModel, tuning: FineTuning) -> tuple[str, ...]:
    """Dotted names of the modules that `freeze_vision` and `freeze_projector` keep as they are.

    Raises:
        ModelError: If one of them is set and the model's vision tower cannot be found.
    """
    if not (tuning.freeze_vision or tuning.freeze_projector):
        return ()
    tower = _part(model, model.get_encoder(modality="image"), "vision tower")
    spoken = [_part(model, model.get_decoder(), "language model")]
    if model.get_output_embeddings() is not None:
        spoken.append(_part(model, model.get_output_embeddings(), "output layer"))
    projector: set[str] = set()
    seen: set[str] = set()
    for name, _ in model.named_parameters():
        inside = name.removeprefix(f"{tower}.").split(".")
        if _under(name, (tower,)) and inside[0] not in _INNER_PROJECTORS:
            seen.add(f"{tower}.{inside[0]}")
        elif _under(name, (tower,)):
            projector.add(f"{tower}.{inside[0]}")
        elif not _under(name, spoken):
            projector.add(name)
    return tuple(sorted((seen if tuning.freeze_vision else set()) | (projector if tuning.freeze_projector else set())))


def lora_layers(model: PreTrainedModel, tuning: FineTuning, frozen: tuple[str, ...] = ()) -> list[str]:
    """Dotted names of the linear layers that get an adapter.

    Raises:
        ConfigurationError: If there are none.
        ModelError: If the language model cannot be told from the rest.
    """
    targets = tuning.lora_targets
    linear = [
        name for name, module in model.named_modules() if isinstance(module, nn.Linear) and not _under(name, frozen)
    ]
    if isinstance(targets, str) and targets != ALL_LINEAR:
        found = [name for name in linear if re.fullmatch(targets, name)]
    else:
        decoder = _part(model, model.get_decoder(), "language model")
        inside = [name for name in linear if _under(name, (decoder,))]
        found = [name for name in inside if targets == ALL_LINEAR or name.rpartition(".")[2] in targets]
        linear = inside
    if not found:
        names = sorted({name.rpartition(".")[2] for name in linear})
        raise ConfigurationError(
            f"lora_targets = {targets!r} matches no linear layer of {type(model).__name__}. Layers here are called "
            f"{', '.join(names) or '(none is left to train)'}; a string has to match a whole name such as "
            f"{linear[0] if linear else 'model.language_model.layers.0.self_attn.q_proj'!r}."
        )
    return found


def has_adapter(model: nn.Module) -> bool:
    """Whether the model holds a low-rank adapter."""
    return bool(adapter_layers(model))


def adapter_layers(model: nn.Module) -> list[LoraLayer]:
    """The layers that have an adapter."""
    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def insert_adapter(model: PreTrainedModel, config: LoraConfig, name: str = ADAPTER, seed: int = 0) -> None:
    """Put an adapter into a model, in float32, whatever the model's type. Freezes everything else.

    Args:
        model: Changed in place.
        config: peft's; its targets are names in this model.
        name: What to call it.
        seed: Seed of its random start.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # The second adapter of a model is meant; see START.
        warnings.filterwarnings("ignore", "Already found a `peft_config`")
        torch.manual_seed(seed)
        model.add_adapter(config, name)
    # In bfloat16, steps much smaller than a weight would round to nothing.
    cast_adapter_dtype(model, name)


def trainable_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """What training changes: trainable parameters, and stored buffers of the modules that own one.

    With an adapter that is the adapter alone, with a frozen tower all but the tower.

    Returns:
        Copies in memory of the CPU, in the model's own types; tensors shared by two names are there once.
    """
    return {name: tensor.detach().cpu().clone() for name, tensor in _trained(model).items()}


@torch.no_grad()
def load_trainable_state(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Take over what `trainable_state` gave, from a model with the same `FineTuning`.

    Args:
        model: Receives it, on its device and in its types: bfloat16 that travelled as float32 returns exactly.
        state: By name.

    Raises:
        ModelError: If names or shapes are not those of this model's trainable tensors.
    """
    own = _trained(model)
    wrong = sorted(set(own) ^ set(state)) or [n for n in own if own[n].shape != state[n].shape]
    if wrong:
        raise ModelError(
            f"The weights do not fit what is trained here: {len(wrong)} of {len(own)} tensors are missing, left over "
            f"or of another shape, {wrong[0]!r} for one. Both sides need the same model and the same FineTuning."
        )
    for name, tensor in own.items():
        tensor.copy_(state[name])


def _trained(model: nn.Module) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    stored = model.state_dict(keep_vars=True)
    for prefix, module in model.named_modules():
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            names = [f"{prefix}.{name}" if prefix else name for name, _ in module.named_buffers(recurse=False)]
            found |= {name: stored[name] for name in names if name in stored}
    return found


@contextmanager
def reference_of(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """The model as it was before training, while an adapter is trained: no second copy is needed.

    The adapter is switched off; where an adapter was trained further, the copy of its start is switched on.

    Args:
        model: From `load_policy` with `lora_rank` > 0. No other thread may use it meanwhile.

    Raises:
        ModelError: If the model has no adapter, so that training overwrites what it was.
    """
    layers = adapter_layers(model)
    if not layers:
        raise ModelError("Without an adapter training changes the model itself; load a second one as the reference.")
    # Switching moves the flags; optimiser and learner go by them.
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        for layer in layers:
            if START in layer.lora_A:
                layer.set_adapter(START, inference_mode=True)
            else:
                layer.enable_adapters(False)
        yield model
    finally:
        for layer in layers:
            layer.enable_adapters(True)
            layer.set_adapter(ADAPTER)
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)


def recomputes(model: PreTrainedModel) -> bool:
    """Whether the model was prepared with gradient checkpointing, and gradients are wanted now."""
    return torch.is_grad_enabled() and any(layer.gradient_checkpointing for layer in _layers(model))


@contextmanager
def recomputation(model: PreTrainedModel) -> Iterator[None]:
    """Have the layers of a model keep only what enters them, though the model is in evaluation mode.

    transformers checkpoints a layer in training mode only, in evaluation mode it says nothing and keeps everything.
    Training mode would also switch dropout on; so it is told of the layers themselves, and not of what is in them,
    where dropout is. A layer drops its cache meanwhile: what passes through has to be whole rows.
    """
    layers = [layer for layer in _layers(model) if not layer.training]
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


def _layers(model: nn.Module) -> list[GradientCheckpointingLayer]:
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def _part(model: nn.Module, part: Any, what: str) -> str:
    for name, module in model.named_modules():
        if module is part and name:
            return str(name)
    raise ModelError(
        f"{type(model).__name__} has no {what} of its own that could be told from the rest; train it whole, or name "
        "the layers in lora_targets by a regular expression."
    )


def _under(name: str, prefixes: Collection[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
