"""How much memory a run takes, by process, before anything is loaded: counted on meta tensors, no download."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, PretrainedConfig

from retouch_agents.finetuning import FineTuning, has_adapter, prepare
from retouch_agents.training.config import RayConfig, RLStage, SFTStage
from retouch_agents.training.shapes import known_shape

BYTES = {"float32": 4, "bfloat16": 2}
_TOKEN = 12
"""Bytes of a sampled token in the object store: an id (8) and a log-probability (4)."""


@dataclass(frozen=True)
class Shape:
    """What of an architecture decides its memory.

    Args:
        name: The architecture's.
        parameters: All of them, an adapter's included.
        trained: Those that are trained.
        reference: Whether the KL penalty needs a second model; an adapter is switched off instead.
        layers: Of the text decoder.
        cache_width: Numbers kept per token and layer: keys and values.
        vocabulary: Tokens.
        pixels_per_token: Side of the square of pixels that becomes one image token; None if unknown.
    """

    name: str
    parameters: int
    trained: int
    reference: bool
    layers: int
    cache_width: int
    vocabulary: int
    pixels_per_token: int | None


def find_config(model: str | Path) -> PretrainedConfig | None:
    """The architecture of a folder, of an id whose files are on this machine, or of a well-known id; else None."""
    try:
        found: PretrainedConfig = AutoConfig.from_pretrained(str(model), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError):
        return known_shape(str(model))
    return found


def shape_of(config: PretrainedConfig, tuning: FineTuning | None = None) -> Shape:
    """Count an architecture without allocating it.

    Args:
        config: The architecture.
        tuning: What of it is trained; None for everything.

    Raises:
        ConfigurationError: If `tuning` does not fit it.
    """
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
        prepare(model, tuning or FineTuning())
    text: Any = config.get_text_config()
    vision: Any = getattr(config, "vision_config", None)
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    patch, merge = getattr(vision, "patch_size", None), getattr(vision, "spatial_merge_size", None)
    return Shape(
        name=type(model).__name__,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        trained=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        reference=not has_adapter(model),
        layers=int(text.num_hidden_layers),
        cache_width=2 * heads * head,
        vocabulary=int(text.vocab_size),
        pixels_per_token=patch * merge if isinstance(patch, int) and isinstance(merge, int) else None,
    )


@dataclass(frozen=True)
class Load:
    """Memory of one kind of process.

    Args:
        process: What it is.
        count: How many there are.
        parts: Bytes by what they are for, of one of them.
    """

    process: str
    count: int
    parts: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Bytes of one of them."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class PromptSize:
    """Size of an encoded prompt.

    Args:
        tokens: Its tokens, image tokens included.
        feature_bytes: Its image tensors.
    """

    tokens: int
    feature_bytes: int


def sft_loads(stage: SFTStage, shape: Shape, prompt: PromptSize, answer: int, dtype: str) -> list[Load]:
    """Memory of a supervised stage, at least: the activations of the layers come on top.

    Args:
        stage: The stage.
        shape: Of the model.
        prompt: Size of a prompt.
        answer: Tokens of an answer.
        dtype: Of the weights.
    """
    rows = -(-stage.batch_size // stage.micro_batches)
    parts = _training(shape, BYTES[dtype], rows * answer)
    if dtype != "float32" and shape.reference:
        # AdamW works in float32, on copies.
        whole = shape.trained * BYTES["float32"]
        parts |= {"gradients": 2 * whole, "optimizer (Adam)": 2 * whole, "float32 copies": whole}
    return [Load("main process (trainer)", 1, parts)]


def rl_loads(stage: RLStage, ray: RayConfig, shape: Shape, prompt: PromptSize, turns: int, dtype: str) -> list[Load]:
    """Memory of a stage of reinforcement, at least: the activations of the layers come on top.

    Args:
        stage: The stage.
        ray: Who does what.
        shape: Of the model.
        prompt: Size of the first prompt; each further turn is taken to add as much again.
        turns: Turns of an episode.
        dtype: Of the weights.
    """
    size = BYTES[dtype]
    minibatch = stage.minibatch_size or stage.episodes
    rows = min(stage.micro_batch_size or minibatch, minibatch)
    learner = _training(shape, size, rows * stage.max_new_tokens)
    if stage.objective_kl > 0 and shape.reference:
        learner["reference model"] = shape.parameters * size
    samplers = max(1, ray.env_runners)
    share = -(-stage.prompts_per_iteration // samplers) * stage.group_size
    drawn = min(share, int(stage.options.get("sampler_batch_size", 256)))
    longest = prompt.tokens * turns + stage.max_new_tokens * turns
    runner = {"weights": shape.parameters * size, "keys and values": drawn * longest * _per_token(shape, size)}
    loads: list[Load] = []
    if ray.env_runners:
        loads.append(Load("env runner", ray.env_runners, runner))
    if ray.learners:
        loads.append(Load("learner", ray.learners, learner))
    here = {f"sampling: {name}": found for name, found in runner.items()} if not ray.env_runners else {}
    here |= {f"learning: {name}": found for name, found in learner.items()} if not ray.learners else {}
    # What is trained is handed on, in float32, as NumPy has no bfloat16.
    here["weights on their way"] = shape.trained * 4
    loads.insert(0, Load("main process", 1, here))
    rollouts = stage.prompts_per_iteration * turns * (prompt.feature_bytes + prompt.tokens * 16)
    rollouts += stage.episodes * turns * stage.max_new_tokens * _TOKEN
    store: dict[str, int] = {}
    if ray.env_runners:
        store |= {"weights": shape.trained * 4, "rollouts of an iteration": rollouts}
    if ray.learners:
        store["batches for the learners"] = rollouts
    if store:
        loads.append(Load("object store", 1, store))
    return loads


def _training(shape: Shape, size: int, tokens: int) -> dict[str, int]:
    # An adapter is float32 whatever the model is.
    trained_size = size if shape.reference else BYTES["float32"]
    return {
        "weights": shape.parameters * size,
        "gradients": shape.trained * trained_size,
        "optimizer (Adam)": 2 * shape.trained * trained_size,
        # In float32: logits, their log-probabilities, and the gradient.
        "logits of a backward pass": 3 * tokens * shape.vocabulary * 4,
    }


def _per_token(shape: Shape, size: int) -> int:
    return shape.layers * shape.cache_width * size


def human(count: float) -> str:
    """Bytes in words, for instance ``"1.5 GiB"``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}" if unit != "B" else f"{int(count)} B"
        count /= 1024
    return f"{count:.1f} GiB"
