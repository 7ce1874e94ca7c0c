"""What a row of metrics says of the steps since the last one."""

from __future__ import annotations

import time

import numpy as np
from torch import Tensor


class Meter:
    """Counts from its making on."""

    def __init__(self) -> None:
        self.since = time.perf_counter()
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.examples = self.tokens = self.positions = 0

    def saw(self, attention_mask: Tensor) -> None:
        """A forward pass over a batch, int (B, T): 1 on tokens, 0 on padding."""
        self.tokens += int(attention_mask.sum())
        self.positions += attention_mask.numel()

    def stepped(self, loss: float, norm: float, examples: int) -> None:
        """An optimizer step."""
        self.losses.append(loss)
        self.norms.append(norm)
        self.examples += examples

    def read(self) -> dict[str, float]:
        """The row; see `retouch_agents.sft.trainer.SFTTrainer.train`."""
        elapsed = time.perf_counter() - self.since
        return {
            "loss": float(np.mean(self.losses)),
            "grad_norm": float(np.mean(self.norms)),
            "examples_per_s": self.examples / elapsed,
            "tokens_per_s": self.tokens / elapsed,
            "padding": 1 - self.tokens / self.positions,
        }
