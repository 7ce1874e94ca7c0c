"""Supervised fine-tuning: teach a model the answers of demonstrations, in steps that can be resumed."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from retouch_agents.chat import ConversationFormat
from retouch_agents.checkpoints import recover_folder, swap_folder
from retouch_agents.finetuning import FineTuning
from retouch_agents.models import load_policy, load_processor, save_policy
from retouch_agents.sft.batching import bucketed, split_by_tokens, split_evenly, window_start
from retouch_agents.sft.config import SFTConfig
from retouch_agents.sft.examples import Demonstrations, Example, Examples, stack
from retouch_agents.sft.loss import completion_loss, count_right, soft_labels
from retouch_agents.sft.meter import Meter
from retouch_agents.sft.optimizer import FullPrecisionAdamW
from retouch_gym.errors import ConfigurationError
from retouch_gym.resolve import load_attribute

_STATE = "trainer_state.json"
_OPTIMIZER = "optimizer.pt"
_EXTRA = "trainer_extra.pt"
_ORDER = ("batch_size", "bucket")


class SFTTrainer:
    """Trains a model folder into another one, in steps that can be interrupted and resumed.

    Args:
        model: Folder of the model to start from.
        output: Folder that receives the trained model. While training runs, ``<output>.checkpoint`` beside it is what
            a new trainer with the same arguments goes on from.
        data: Arguments of `RetouchEnv` whose dataset has recipes; or `Demonstrations` of another kind.
        config: Settings.
        validation: The same, of examples that are not trained on. Every `validate_every` steps and at the end the loss
            on them is measured, and the model with the lowest one so far is kept in the folder ``<output>.best``.
        tuning: What of the model is trained; None: everything. With an adapter (LoRA) the output is an adapter folder.

    Raises:
        ConfigurationError: If a checkpoint that is gone on from was made with another order of examples.
    """

    def __init__(
        self,
        model: str | Path,
        output: str | Path,
        data: Mapping[str, Any] | Demonstrations,
        config: SFTConfig | None = None,
        *,
        validation: Mapping[str, Any] | Demonstrations | None = None,
        tuning: FineTuning | None = None,
    ) -> None:
        self.config = config or SFTConfig()
        self.source = Path(model)
        self.output = Path(output)
        self.data = _single_turn(data)
        self.validation = None if validation is None else _single_turn(validation)
        self.best = recover_folder(self.output.with_name(self.output.name + ".best"))
        self.checkpoint = recover_folder(self.output.with_name(self.output.name + ".checkpoint"))
        resuming = (self.checkpoint / _STATE).is_file()
        self.model = load_policy(
            self.checkpoint if resuming else self.source,
            tuning,
            dtype=getattr(torch, self.config.dtype),
            device=self.config.device,
        ).train()
        self.chat = ConversationFormat(load_processor(self.source))
        self.labels: torch.Tensor | None = None
        if self.config.number_sigma > 0:
            vocabulary: list[str] = self.chat.tokenizer.convert_ids_to_tokens(range(len(self.chat.tokenizer)))
            self.labels = soft_labels(vocabulary, self.config.number_sigma).to(self.config.device)
        self.optimizer = FullPrecisionAdamW(
            self.model.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        self.step = 0
        self.lowest = math.inf
        self._random: list[torch.Tensor] | None = None
        self._validation: list[Example] | None = None
        if resuming:
            self._resume()

    def train(self) -> Iterator[dict[str, float]]:
        """Run the remaining steps; yields a row of metrics every `log_every` steps.

        The row: ``step``; ``loss`` (mean cross-entropy per answer token, softened labels, nats);
        ``grad_norm`` (before clipping); ``lr``; ``examples_per_s``; ``tokens_per_s`` (without padding); ``padding``
        (share of token positions that is padding). After an evaluation also ``validation_loss`` (hard labels, nats)
        and ``validation_accuracy`` (share of answer tokens that are the likeliest); such a step has a row of its own.
        """
        config = self.config
        if self._random is not None:
            _set_random_state(self._random)
        meter = Meter()
        for examples in self._batches():
            self._update(examples, meter)
            self.step += 1
            last = self.step == config.steps
            found = self._validate() if self.step % config.validate_every == 0 or last else {}
            if self.step % config.checkpoint_every == 0 and not last:
                self._save_checkpoint()
            if self.step % config.log_every == 0 or last or found:
                yield {"step": self.step, "lr": self._learning_rate(self.step), **meter.read(), **found}
                meter = Meter()
        self._finish()

    def _batches(self) -> Iterator[list[Example]]:
        config = self.config
        steps = range(window_start(self.step, config.bucket), config.steps)
        examples = Examples(self.source, self.data, steps, config.batch_size)
        if config.source == "ray":
            # Loaded on demand: importing ray.data takes seconds, in every worker of a DataLoader too.
            stream = load_attribute("retouch_agents.sft.streaming:stream", "source of examples")
            batches: Iterator[list[Example]] = stream(examples, config.batch_size, config.workers)
        else:
            loader: DataLoader[Example] = DataLoader(
                examples,
                batch_size=config.batch_size,
                num_workers=config.workers,
                collate_fn=list,
                # A forked child of a process that has used numba's or torch's threads can hang.
                multiprocessing_context="spawn" if config.workers else None,
                prefetch_factor=8 if config.workers else None,
                # The global one, which dropout draws from, then goes on as if there had been no interruption.
                generator=torch.Generator(),
            )
            batches = iter(loader)
        if config.bucket:
            batches = bucketed(batches, steps, config.bucket)
        yield from islice(batches, self.step - steps.start, None)

    def _update(self, examples: list[Example], meter: Meter) -> None:
        tokens = float(sum(example.learned for example in examples))
        loss = 0.0
        for part in self._parts(examples):
            batch = self._stack(part)
            part_loss = completion_loss(self.model, batch, self.labels, tokens)
            torch.autograd.backward(part_loss)
            self.optimizer.collect()
            loss += float(part_loss.detach())
            meter.saw(batch["attention_mask"])
        norm = self.optimizer.step(self._learning_rate(self.step), self.config.max_grad_norm)
        meter.stepped(loss, norm, len(examples))

    def _parts(self, examples: list[Example]) -> list[list[Example]]:
        if self.config.max_tokens_per_micro_batch:
            return split_by_tokens(examples, self.config.max_tokens_per_micro_batch)
        return split_evenly(examples, self.config.micro_batches)

    def _stack(self, examples: list[Example]) -> dict[str, torch.Tensor]:
        tight = bool(self.config.bucket or self.config.max_tokens_per_micro_batch)
        batch = stack(examples, self.chat.pad_id, tight=tight)
        return {name: tensor.to(self.config.device) for name, tensor in batch.items()}

    def _validate(self) -> dict[str, float]:
        if self.validation is None:
            return {}
        if self._validation is None:
            self._validation = self._validation_examples(self.validation)
        self.model.eval()
        size = self.config.batch_size // self.config.micro_batches
        loss, right = 0.0, 0
        for start in range(0, len(self._validation), size):
            part = self._validation[start : start + size]
            part_loss, part_right = count_right(self.model, self._stack(part))
            loss, right = loss + part_loss, right + part_right
        self.model.train()
        tokens = sum(example.learned for example in self._validation)
        found = {"validation_loss": loss / tokens, "validation_accuracy": right / tokens}
        if found["validation_loss"] < self.lowest:
            self.lowest = found["validation_loss"]
            self._put_model(self.best)
        return found

    def _validation_examples(self, data: Mapping[str, Any] | Demonstrations) -> list[Example]:
        examples = Examples(self.source, data, range(self.config.validation_examples), 1)
        return [examples[index] for index in range(min(len(examples), examples.size))]

    def _learning_rate(self, step: int) -> float:
        config = self.config
        if step < config.warmup:
            return config.learning_rate * (step + 1) / config.warmup
        progress = (step - config.warmup) / max(1, config.steps - config.warmup)
        return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))

    def _resume(self) -> None:
        state = json.loads((self.checkpoint / _STATE).read_text())
        made = state.get("config", {})
        for name in _ORDER:
            found, wanted = made.get(name, getattr(SFTConfig, name)), getattr(self.config, name)
            if found != wanted:
                raise ConfigurationError(
                    f"{self.checkpoint} was made with {name} {found}, and this run has {wanted}, which feeds other "
                    f"examples at step {state['step']}. Use {found}, or delete the folder to start over."
                )
        self.step = state["step"]
        self.lowest = state.get("lowest", math.inf)
        self.optimizer.adamw.load_state_dict(torch.load(self.checkpoint / _OPTIMIZER, weights_only=True))
        extra = torch.load(self.checkpoint / _EXTRA, weights_only=True)
        self.optimizer.load_copies(extra["copies"])
        self._random = extra["random"]

    def _save_checkpoint(self) -> None:
        fresh = self.checkpoint.with_name(self.checkpoint.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        save_policy(self.model, self.source, fresh)
        torch.save(self.optimizer.adamw.state_dict(), fresh / _OPTIMIZER)
        torch.save({"copies": self.optimizer.copies, "random": _random_state()}, fresh / _EXTRA)
        state = {"step": self.step, "config": asdict(self.config)}
        if self.lowest < math.inf:
            state["lowest"] = self.lowest
        (fresh / _STATE).write_text(json.dumps(state))
        swap_folder(fresh, self.checkpoint)

    def _put_model(self, folder: Path) -> None:
        fresh = folder.with_name(folder.name + ".new")
        save_policy(self.model, self.source, fresh)
        swap_folder(fresh, folder)

    def _finish(self) -> None:
        self._put_model(self.output)
        shutil.rmtree(self.checkpoint, ignore_errors=True)


def _single_turn(data: Mapping[str, Any] | Demonstrations) -> Mapping[str, Any] | Demonstrations:
    # A dataset's recipe is one answer.
    return dict(data, max_turns=1) if isinstance(data, Mapping) else data


def _random_state() -> list[torch.Tensor]:
    """What dropout draws from: the generator of the CPU, then those of the GPUs."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]


def _set_random_state(state: list[torch.Tensor]) -> None:
    torch.set_rng_state(state[0])
    for device, generator in enumerate(state[1 : 1 + torch.cuda.device_count()]):
        torch.cuda.set_rng_state(generator, device)
