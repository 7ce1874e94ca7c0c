"""TRL's side of `grpo_vs_trl.py`: `python benchmarks/_trl_side.py RUN.json`, or several of it through torchrun.

TRL gets what makes it fast here and changes no result: whole generation batches in one forward pass, no gradient
checkpointing, float32 without autocast, no logging and no saving, prompts that are ready in memory, and a reward that
plays all answers in one batch.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _grpo_run import Clock, Run, save_result
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from retouch_agents.chat import ChatFormat
from retouch_agents.generation import placeholder_ids
from retouch_agents.models import load_model
from retouch_agents.prompts import build_messages
from retouch_agents.rllib.rollouts import GroupRequest, TaskOrder
from retouch_gym.envs.base import step_together
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.tools.iea import IEA
from retouch_reward_models.backends.tiny_processor import TinyQwen3VLProcessor


class TensorProcessor(TinyQwen3VLProcessor):
    """Hands TRL tensors, where the image processor that works without torchvision returns lists."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Encode texts and photos."""
        encoded = super().__call__(*args, **kwargs)
        for name in ("pixel_values", "image_grid_thw"):
            if name in encoded:
                encoded[name] = torch.as_tensor(np.asarray(encoded[name]))
        return encoded


class Tasks:
    """The tasks of a run: the same ones in the same order as ours draws them.

    Args:
        run: The run.
        chat: How the model is spoken to.
    """

    def __init__(self, run: Run, chat: ChatFormat) -> None:
        self.env = RetouchEnv(**run.env_config())
        self.chat = chat
        order = TaskOrder(len(self.env.dataset), run.seed)
        self.requests = order.requests(0, run.iterations * run.prompts)
        self.prompts = [self._prompt(request) for request in self.requests]

    def dataset(self) -> Dataset:
        """Rows that look their prompts, photos included, up in memory."""
        rows = Dataset.from_dict({"number": list(range(len(self.requests)))})
        return rows.with_transform(
            lambda batch: {"number": batch["number"], "prompt": [self.prompts[number] for number in batch["number"]]}
        )

    def reward(self, completions: Sequence[Any], number: Sequence[int], **_: Any) -> list[float | None]:
        """What the environment pays for each answer; all are rendered and scored in one batch."""
        envs: list[Any] = []
        for start, count in _stretches(number):
            request = self.requests[number[start]]
            envs += self.env.spawn_group(count, seed=request.seed, options={"index": request.index})
        actions = [self.chat.parse(completion[0]["content"]) for completion in completions]
        outcomes = step_together(envs, actions)
        return [outcome.reward if outcome.info.get("reward_valid", True) else None for outcome in outcomes]

    def check_prompt(self, processor: Any) -> None:
        """Fail unless TRL's first prompt is token for token ours."""
        found = processor.apply_chat_template(
            [self.prompts[0]], add_generation_prompt=True, tokenize=True, return_dict=True
        )
        mine = self.chat.encode(self._observation(self.requests[0]))
        if list(found["input_ids"][0]) != mine.input_ids.tolist():
            raise AssertionError("TRL would show the model another prompt than we do.")
        if not np.array_equal(np.asarray(found["pixel_values"]), mine.features["pixel_values"]):
            raise AssertionError("TRL would show the model other pixels than we do.")

    def _observation(self, request: GroupRequest) -> Mapping[str, Any]:
        observation: Mapping[str, Any] = self.env.reset(seed=request.seed, options={"index": request.index})[0]
        return observation

    def _prompt(self, request: GroupRequest) -> list[Any]:
        chat = self.chat
        return build_messages(self._observation(request), chat.template, chat.toolset, chat.answer_format)


def _stretches(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """(start, length) of every stretch of equal numbers: the answers of a group follow one another."""
    starts = [row for row, number in enumerate(numbers) if row == 0 or number != numbers[row - 1]]
    return [(start, end - start) for start, end in zip(starts, [*starts[1:], len(numbers)], strict=True)]


class Timing(TrainerCallback):
    """Times a trainer's iterations and their stages, and collects its rewards.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.clock = Clock()
        self.rewards: list[float] = []
        self.lengths: list[float] = []
        self._prepared = 0.0

    def attach(self, trainer: GRPOTrainer) -> None:
        """Wrap the methods whose seconds are wanted."""
        self.trainer = trainer
        trainer._generate_single_turn = self.clock.timed("generation", trainer._generate_single_turn)
        trainer._calculate_rewards = self.clock.timed("reward", trainer._calculate_rewards)
        score, prepare = trainer._get_per_token_logps_and_entropies, trainer._prepare_inputs
        scored = self.clock.timed("learning", score)

        def scoring(*args: Any, **kwargs: Any) -> Any:
            """Those of the old policy and of the reference; with gradients it is inside the step that is timed."""
            return (score if torch.is_grad_enabled() else scored)(*args, **kwargs)

        def preparing(*args: Any, **kwargs: Any) -> Any:
            inputs = prepare(*args, **kwargs)
            self._prepared = time.perf_counter()
            return inputs

        trainer._get_per_token_logps_and_entropies, trainer._prepare_inputs = scoring, preparing
        trainer.add_callback(self)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The first iteration begins."""
        self.clock.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After the last optimiser step on the answers of an iteration, the next iteration begins."""
        self.clock.add("learning", time.perf_counter() - self._prepared)
        if state.global_step % self.run.updates == 0:
            self.clock.stop()
            metrics = self.trainer._metrics["train"]
            self.rewards.append(metrics["reward"][-1])
            self.lengths.append(metrics["completions/mean_length"][-1])
            self.clock.start()


def settings(run: Run, processes: int) -> dict[str, Any]:
    """`GRPOConfig`'s arguments."""
    return {
        "output_dir": str(Path(run.out) / "trainer"),
        "seed": run.seed,
        "max_steps": run.iterations * run.updates,
        "num_iterations": run.updates,
        "per_device_train_batch_size": run.answers // processes,
        "gradient_accumulation_steps": 1,
        "num_generations": run.group,
        "max_completion_length": run.max_new_tokens,
        "temperature": 1.0,
        "shuffle_dataset": False,  # the rows are in our order already
        "loss_type": "grpo",
        "scale_rewards": "group",
        "epsilon": 0.2,
        "beta": run.kl,
        "use_bias_correction_kl": False,
        "learning_rate": run.learning_rate,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "use_cpu": True,
        **({"ddp_backend": "gloo", "ddp_find_unused_parameters": False} if processes > 1 else {}),
        "bf16": False,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "report_to": "none",
        "logging_strategy": "no",
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def trainer_of(run: Run, chat: ChatFormat) -> GRPOTrainer:
    """TRL's trainer with the settings of a run."""
    base: Any = chat.processor
    processor = TensorProcessor(base.image_processor, base.tokenizer, chat_template=base.chat_template)
    tasks = Tasks(run, chat)
    tasks.check_prompt(processor)
    model = load_model(run.model)
    config = GRPOConfig(
        **settings(run, max(1, run.processes)), generation_kwargs={"suppress_tokens": placeholder_ids(model)}
    )
    return GRPOTrainer(
        model, reward_funcs=tasks.reward, args=config, train_dataset=tasks.dataset(), processing_class=processor
    )


def train(run: Run) -> None:
    """Train, and write the result (and the policy)."""
    torch.set_num_threads(run.threads)
    chat = ChatFormat.from_pretrained(run.model, IEA)
    trainer = trainer_of(run, chat)
    timing = Timing(run)
    timing.attach(trainer)
    trainer.train()
    if trainer.accelerator.is_main_process:
        if run.keep:
            trainer.accelerator.unwrap_model(trainer.model).save_pretrained(Path(run.out) / "policy")
            chat.save_pretrained(Path(run.out) / "policy")
        save_result(run, timing.clock, timing.rewards, timing.lengths, torch.get_num_threads())


if __name__ == "__main__":
    train(Run.read(Path(sys.argv[1])))
