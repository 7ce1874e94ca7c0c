"""Supervised fine-tuning: teach a model the answers of a dataset's own recipes and reasoning.

Minimises −Σ log p(y_t | y_<t, photo, instruction) over reasoning and sliders (RetouchIQ, arXiv 2602.17558,
stage 1; IEA, arXiv 2606.08016, stage 1). Only the answer's tokens carry loss.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from retouch_agents.chat import ChatFormat, ConversationFormat
from retouch_agents.checkpoints import copy_notes, recover_folder, swap_folder
from retouch_agents.encoding import Prompt, collate
from retouch_agents.models import load_model, load_processor
from retouch_gym.chat import Message
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.errors import ConfigurationError, DatasetError

Example = tuple[Prompt, NDArray[np.int64]]

_STATE = "trainer_state.json"
_OPTIMIZER = "optimizer.pt"


@dataclass(frozen=True)
class SFTConfig:
    """Settings of supervised fine-tuning.

    Args:
        steps: Optimizer steps. Every step takes the next `batch_size` tasks of the dataset, wrapping round.
        batch_size: Examples per optimizer step.
        micro_batches: Forward passes that one step is split into; the gradient is the same for any value.
        learning_rate: Peak of a cosine schedule that ends at a hundredth of it.
        warmup: Steps of linear warm-up.
        weight_decay: AdamW's weight decay.
        max_grad_norm: Gradients are clipped to this norm.
        number_sigma: Width, in neighbouring values, of the Gaussian that softens the label of a token that
            is a whole number; 0 keeps hard labels. Only useful with one token per number.
        workers: Processes that prepare data beside the training process.
        log_every: Steps between two rows of metrics.
        checkpoint_every: Steps between two checkpoints to resume from.
    """

    steps: int = 4000
    batch_size: int = 44
    micro_batches: int = 1
    learning_rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    number_sigma: float = 1.3
    workers: int = 1
    log_every: int = 20
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        if self.batch_size % self.micro_batches:
            raise ConfigurationError(
                f"batch_size {self.batch_size} cannot be split into micro_batches {self.micro_batches}; it must divide."
            )


class Demonstrations(Protocol):
    """Conversations with their right answers. Picklable; item i is the same in every process."""

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def __getitem__(self, index: int) -> tuple[Sequence[Message], str]:
        """A conversation that ends where the model begins, and what it should answer."""
        ...


class Examples(Dataset[Example]):
    """What is learned from as (prompt, answer tokens). Picklable; opens what it needs in each process.

    Args:
        folder: The model's folder, for its processor and prompt.
        data: Arguments of `RetouchEnv`, whose tasks' recipes are the right answers; or `Demonstrations`.
        steps: The optimizer steps that are fed.
        batch_size: Examples of each.
    """

    def __init__(
        self, folder: str | Path, data: Mapping[str, Any] | Demonstrations, steps: range, batch_size: int
    ) -> None:
        self.folder = str(folder)
        self.data = data
        self.first = steps.start * batch_size
        self.count = len(steps) * batch_size
        self._open: Callable[[int], Example] | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        if self._open is None:
            self._open = self._tasks(self.data) if isinstance(self.data, Mapping) else self._shown(self.data)
        return self._open(self.first + index)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}

    def _tasks(self, env_config: Mapping[str, Any]) -> Callable[[int], Example]:
        env = RetouchEnv(**env_config)
        chat = ChatFormat.from_pretrained(self.folder, env.toolset)

        def example(index: int) -> Example:
            observation, _ = env.reset(options={"index": index % len(env.dataset)})
            task = env.episode.task
            if task.recipe is None:
                raise DatasetError(f"Task {task.id!r} has no recipe to learn from; SFT needs a dataset with recipes.")
            return chat.encode(observation), chat.target(task.reasoning, task.recipe)

        return example

    def _shown(self, demonstrations: Demonstrations) -> Callable[[int], Example]:
        chat = ConversationFormat(load_processor(self.folder))

        def example(index: int) -> Example:
            messages, answer = demonstrations[index % len(demonstrations)]
            return chat.encode(messages), chat.answer(answer)

        return example


def soft_labels(tokens: list[str], sigma: float) -> torch.Tensor:
    """Target distribution of every token: itself, or a Gaussian over near values where it is a whole number.

    A sign in front of the number (``"=7"``) makes another kind of number; only those of a kind are near each other.

    Args:
        tokens: The vocabulary, by id.
        sigma: Standard deviation, counted in neighbouring numbers of the vocabulary. 0 gives the identity.

    Returns:
        float32 (V, V), rows sum to 1.
    """
    labels = torch.eye(len(tokens))
    kinds: dict[str, list[tuple[int, int]]] = {}
    for index, text in enumerate(tokens):
        match = re.fullmatch(r"(\D??)(-?\d+)", text)
        if match is not None:
            kinds.setdefault(match[1], []).append((int(match[2]), index))
    for numbers in kinds.values() if sigma > 0 else ():
        ids = torch.tensor([index for _, index in sorted(numbers)])
        rank = torch.arange(len(numbers), dtype=torch.float32)
        kernel = torch.exp(-0.5 * ((rank[:, None] - rank[None, :]) / sigma) ** 2)
        labels[ids[:, None], ids[None, :]] = kernel / kernel.sum(dim=1, keepdim=True)
    return labels


def completion_loss(
    model: torch.nn.Module, batch: Mapping[str, torch.Tensor], labels: torch.Tensor, tokens: float
) -> torch.Tensor:
    """Cross-entropy of the answer's tokens, summed and divided by `tokens`.

    Args:
        model: An image-text-to-text model.
        batch: From `collate` with completions; every row's answer starts in the same column.
        labels: From `soft_labels`.
        tokens: Number of answer tokens in the whole optimizer step, so that micro-batches add up exactly.
    """
    inputs = {name: tensor for name, tensor in batch.items() if name != "completion_mask"}
    sampled = batch["completion_mask"]
    width = int(sampled.any(dim=0).sum())
    logits = model(**inputs, logits_to_keep=width + 1, use_cache=False).logits[:, :-1]
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    target = labels[batch["input_ids"][:, -width:]]
    per_token = -(target * log_probs).sum(dim=-1)
    return (per_token * sampled[:, -width:]).sum() / tokens


class SFTTrainer:
    """Trains a model folder into another one, in steps that can be interrupted and resumed.

    Args:
        model: Folder of the model to start from.
        output: Folder that receives the trained model; also holds the checkpoint while training runs.
        data: Arguments of `RetouchEnv` whose dataset has recipes; or `Demonstrations` of another kind.
        config: Settings.
    """

    def __init__(
        self,
        model: str | Path,
        output: str | Path,
        data: Mapping[str, Any] | Demonstrations,
        config: SFTConfig | None = None,
    ) -> None:
        self.config = config or SFTConfig()
        self.source = Path(model)
        self.output = Path(output)
        self.data: Mapping[str, Any] | Demonstrations = data
        if isinstance(data, Mapping):
            self.data = dict(data, max_turns=1)
        self.checkpoint = recover_folder(self.output.with_name(self.output.name + ".checkpoint"))
        resuming = (self.checkpoint / _STATE).is_file()
        self.model = load_model(self.checkpoint if resuming else self.source).train()
        self.chat = ConversationFormat(load_processor(self.source))
        vocabulary: list[str] = self.chat.tokenizer.convert_ids_to_tokens(range(len(self.chat.tokenizer)))
        self.labels = soft_labels(vocabulary, self.config.number_sigma)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            betas=(0.9, 0.98),
        )
        self.step = 0
        if resuming:
            self.step = json.loads((self.checkpoint / _STATE).read_text())["step"]
            self.optimizer.load_state_dict(torch.load(self.checkpoint / _OPTIMIZER, weights_only=True))

    def train(self) -> Iterator[dict[str, float]]:
        """Run the remaining steps; yields a row of metrics every `log_every` steps.

        The row: ``step``; ``loss`` (mean cross-entropy per answer token, softened labels, nats);
        ``grad_norm`` (before clipping); ``lr``; ``examples_per_s``.
        """
        since, losses, norms = time.perf_counter(), [], []
        for examples in self._batches():
            loss, norm = self._update(examples)
            losses.append(loss)
            norms.append(norm)
            self.step += 1
            if self.step % self.config.checkpoint_every == 0 and self.step < self.config.steps:
                self._save_checkpoint()
            if self.step % self.config.log_every == 0 or self.step == self.config.steps:
                elapsed = time.perf_counter() - since
                yield {
                    "step": self.step,
                    "loss": float(np.mean(losses)),
                    "grad_norm": float(np.mean(norms)),
                    "lr": self._learning_rate(self.step),
                    "examples_per_s": len(losses) * self.config.batch_size / elapsed,
                }
                since, losses, norms = time.perf_counter(), [], []
        self._finish()

    def _batches(self) -> Iterator[list[Example]]:
        steps = range(self.step, self.config.steps)
        loader: DataLoader[Example] = DataLoader(
            Examples(self.source, self.data, steps, self.config.batch_size),
            batch_size=self.config.batch_size,
            num_workers=self.config.workers,
            collate_fn=list,
            # A forked child of a process that has used numba's or torch's threads can hang.
            multiprocessing_context="spawn" if self.config.workers else None,
            prefetch_factor=8 if self.config.workers else None,
        )
        yield from loader

    def _update(self, examples: list[Example]) -> tuple[float, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(self.step)
        self.optimizer.zero_grad()
        tokens = float(sum(len(answer) for _, answer in examples))
        size = len(examples) // self.config.micro_batches
        total = 0.0
        for start in range(0, len(examples), size):
            part = examples[start : start + size]
            batch = collate([prompt for prompt, _ in part], self.chat.pad_id, [answer for _, answer in part])
            loss = completion_loss(self.model, batch, self.labels, tokens)
            torch.autograd.backward(loss)
            total += float(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        return total, float(norm)

    def _learning_rate(self, step: int) -> float:
        config = self.config
        if step < config.warmup:
            return config.learning_rate * (step + 1) / config.warmup
        progress = (step - config.warmup) / max(1, config.steps - config.warmup)
        return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))

    def _save_checkpoint(self) -> None:
        fresh = self.checkpoint.with_name(self.checkpoint.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        self._save_model(fresh)
        torch.save(self.optimizer.state_dict(), fresh / _OPTIMIZER)
        (fresh / _STATE).write_text(json.dumps({"step": self.step, "config": asdict(self.config)}))
        swap_folder(fresh, self.checkpoint)

    def _save_model(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.chat.processor.save_pretrained(str(folder))
        copy_notes(self.source, folder)

    def _finish(self) -> None:
        fresh = self.output.with_name(self.output.name + ".new")
        self._save_model(fresh)
        swap_folder(fresh, self.output)
        shutil.rmtree(self.checkpoint, ignore_errors=True)
