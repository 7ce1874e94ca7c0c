"""Settings of supervised fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from retouch_gym.errors import ConfigurationError


@dataclass(frozen=True)
class SFTConfig:
    """Settings of supervised fine-tuning.

    Args:
        steps: Optimizer steps. Every step takes the next `batch_size` tasks of the dataset, wrapping round.
        batch_size: Examples per optimizer step.
        micro_batches: Forward passes that one step is split into; the gradient is the same for any value.
        max_tokens_per_micro_batch: Most token positions, padding included, of one forward pass; a step is split into
            as many as that takes, examples of like length together. The gradient is the same for any value. An
            example that is longer goes alone. 0 splits by `micro_batches`.
        bucket: Steps whose examples are sorted by length together, so that a batch holds examples of like length.
            Each of these steps still has `batch_size` examples, and together they have the same. 0 keeps their order.
        learning_rate: Peak of a cosine schedule that ends at a hundredth of it.
        warmup: Steps of linear warm-up.
        weight_decay: AdamW's weight decay.
        max_grad_norm: Gradients are clipped to this norm.
        number_sigma: Width, in neighbouring values, of the Gaussian that softens the label of a token that
            is a whole number; 0 keeps hard labels. Only useful with one token per number.
        dtype: Type of the model's weights while training. With ``"bfloat16"`` AdamW works on a float32 copy of them.
        device: Where the model is, for instance ``"cpu"`` or ``"cuda"``.
        source: What prepares examples: ``"torch"``, a DataLoader of this machine, or ``"ray"``, Ray Data on the
            cluster that runs. Both give the same examples in the same order.
        workers: Processes that prepare data beside the training process; with ``"ray"`` at least one.
        log_every: Steps between two rows of metrics.
        checkpoint_every: Steps between two checkpoints to resume from.
        validate_every: Steps between two evaluations on the validation examples, if there are any.
        validation_examples: Most examples of an evaluation: the first ones.
    """

    steps: int = 4000
    batch_size: int = 44
    micro_batches: int = 1
    max_tokens_per_micro_batch: int = 0
    bucket: int = 0
    learning_rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    number_sigma: float = 1.3
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = "cpu"
    source: Literal["torch", "ray"] = "torch"
    workers: int = 1
    log_every: int = 20
    checkpoint_every: int = 500
    validate_every: int = 200
    validation_examples: int = 256

    def __post_init__(self) -> None:
        if self.batch_size % self.micro_batches:
            raise ConfigurationError(
                f"batch_size {self.batch_size} cannot be split into micro_batches {self.micro_batches}; it must divide."
            )
        if self.max_tokens_per_micro_batch and self.micro_batches > 1:
            raise ConfigurationError(
                f"micro_batches {self.micro_batches} and max_tokens_per_micro_batch {self.max_tokens_per_micro_batch} "
                "both say how a step is split; leave one at its default."
            )
        for name in ("bucket", "max_tokens_per_micro_batch", "workers"):
            if getattr(self, name) < 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; expected 0 or more.")
        for name in ("validate_every", "validation_examples", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; expected 1 or more.")
        for name, choices in (("dtype", ("float32", "bfloat16")), ("source", ("torch", "ray"))):
            if getattr(self, name) not in choices:
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(choices)}.")
        if self.source == "ray" and not self.workers:
            raise ConfigurationError("source 'ray' encodes in workers of the cluster: set workers to 1 or more.")
