"""GRPO with TRL: the model calls tools, sees the photo after each call, and is paid by the environment.

Run: python examples/train_trl.py --steps 3
Needs: pip install 'retouch-gym[agents,trl]'

Without --model a tiny Qwen3-VL is built and shown a few examples first, because a model with random weights
never writes a tool call. With --model any image-text-to-text checkpoint whose chat template knows tools.
A few steps of the tiny model show that everything fits together, no more: where its first guesses are worse than
no edit, longer training teaches it to call nothing.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForImageTextToText, AutoProcessor, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.chat_template_utils import qwen3_template
from trl.data_utils import prepare_multimodal_messages

from retouch_agents.tiny import TinyQwen3VLProcessor, TinySize, build_tiny
from retouch_gym.adapters.trl import ToolEnvironmentFactory, reward_function, task_rows, tool_environment
from retouch_gym.datasets.base import get_dataset
from retouch_gym.datasets.grammar import words
from retouch_gym.tools import IEA

CHAT_TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %} {{ tool.function.name }}{% endfor %}<|im_end|>\n"
    "{% endif %}{% for message in messages %}"
    "<|im_start|>{{ 'user' if message.role == 'tool' else message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% for call in message.tool_calls or [] %}"
    '<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>'
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A short template for the tiny model: names of the tools, Qwen's ``<tool_call>`` blocks, results as user turns."""

SYNTAX = ('<tool_call>{"name": "", "arguments": {"value": 0}}</tool_call>', "done", "undo", "finish")
"""What the tiny model writes besides the sliders' names and numbers."""


class TensorProcessor(TinyQwen3VLProcessor):
    """Hands TRL tensors, where the image processor that works without torchvision returns lists."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Encode texts and photos."""
        encoded = super().__call__(*args, **kwargs)
        for name in ("pixel_values", "image_grid_thw"):
            if name in encoded:
                encoded[name] = torch.as_tensor(encoded[name])
        return encoded


def build_tool_caller(folder: Path, size: TinySize | None = None) -> tuple[Any, TensorProcessor]:
    """A tiny Qwen3-VL, not trained, that knows tools in its chat template, and its processor."""
    names = [f'"{tool.name}"' for tool in IEA.tools]
    build_tiny(folder, IEA, [*words(), *SYNTAX, *names], size=size)
    base = AutoProcessor.from_pretrained(folder)
    tokenizer = base.tokenizer
    tokenizer.chat_template, tokenizer.response_template = CHAT_TEMPLATE, qwen3_template
    return (
        AutoModelForImageTextToText.from_pretrained(folder),
        TensorProcessor(base.image_processor, tokenizer, chat_template=CHAT_TEMPLATE),
    )


def demonstration(factory: ToolEnvironmentFactory, row: Mapping[str, Any], recipe: Mapping[str, float]) -> list[Any]:
    """A conversation that sets a known recipe, with the results that the environment really returns."""
    environment = factory()
    messages = [*row["prompt"][:-1], {"role": "user", "content": environment.reset(**row)}]
    for name, arguments in [*((name, {"value": int(value)}) for name, value in recipe.items()), ("finish", {})]:
        call = {"type": "function", "function": {"name": name, "arguments": arguments}}
        messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        messages.append({"role": "tool", "name": name, "content": getattr(environment, name)(**arguments)})
    return [*messages, {"role": "assistant", "content": " done"}]


def warm_up(
    model: Any, processor: Any, conversations: Sequence[list[Any]], steps: int, lr: float = 3e-3
) -> list[float]:
    """Supervised steps on what the assistant says, one conversation a step. Returns the losses."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    header = processor.tokenizer("<|im_start|>assistant\n")["input_ids"]
    losses = []
    for step in range(steps):
        messages = prepare_multimodal_messages(conversations[step % len(conversations)])
        inputs = processor.apply_chat_template([messages], tokenize=True, return_dict=True, return_tensors="pt")
        ids = inputs["input_ids"][0].tolist()
        labels = torch.full_like(inputs["input_ids"], -100)
        for start in range(len(ids)):
            if ids[start : start + len(header)] == header:
                first = start + len(header)
                end = ids.index(processor.tokenizer.eos_token_id, first) + 1
                labels[0, first:end] = inputs["input_ids"][0, first:end]
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def vision_tokens(processor: Any) -> list[int]:
    """Tokens that announce a photo or a video; a model that wrote one would be asked for pixels."""
    names = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    vocabulary = processor.tokenizer.get_vocab()
    return [vocabulary[name] for name in names if name in vocabulary]


class PrintRewards(TrainerCallback):
    """A line for each step."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Print what was logged."""
        if logs and "reward" in logs:
            print(
                f"{state.global_step:4d}  reward {logs['reward']:+.3f} ± {logs['reward_std']:.3f}"
                f"  calls {logs['tools/call_frequency']:.1f}  finished {logs.get('retouch/finished', 0.0):.0%}"
            )


def make_trainer(
    model: Any, processor: Any, factory: ToolEnvironmentFactory, rows: Sequence[dict[str, Any]], **settings: Any
) -> GRPOTrainer:
    """TRL's trainer on the environment's tools, photos and rewards; `settings` go to `GRPOConfig`."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    plain = {
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "bf16": torch.cuda.is_available(),
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "generation_kwargs": {"suppress_tokens": vision_tokens(processor)},
    }
    trainer = GRPOTrainer(
        model,
        args=GRPOConfig(**(plain | settings)),
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=processor,
        environment_factory=factory,
        reward_funcs=reward_function,
        callbacks=[PrintRewards()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def main() -> None:
    """Build or load a model, train it for a few steps, print the rewards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or id of a model with tools in its chat template; default a tiny one")
    parser.add_argument("--dataset", default="samples", help="for instance samples, pairs:FOLDER, module:attribute")
    parser.add_argument("--reward", default="likeness", help="for instance edit, likeness, module:attribute")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=2, help="tasks per step")
    parser.add_argument("--group-size", type=int, default=4, help="rollouts per task")
    parser.add_argument("--max-turns", type=int, default=4, help="tool calls per rollout")
    parser.add_argument("--max-tokens", type=int, help="tokens of calls and results; default 256, or 2048 with --model")
    parser.add_argument("--warm-up", type=int, default=300, help="supervised steps of the tiny model")
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--out", default="runs/trl", help="folder for the models")
    options = parser.parse_args()

    out = Path(options.out)
    tasks = get_dataset(options.dataset)
    common = {"dataset": tasks, "reward": options.reward, "max_turns": options.max_turns}
    if options.model is None:
        model, processor = build_tool_caller(out / "tiny")
        factory = tool_environment(longest=64, **common)
        conversations = []
        for row in task_rows(factory, limit=50):
            recipe = tasks.get(row["task_id"]).recipe
            if recipe is not None and len(recipe.controls) < options.max_turns:
                conversations.append(demonstration(factory, row, recipe.controls))
        losses = warm_up(model, processor, conversations, options.warm_up)
        print(f"warmed up on {len(conversations)} conversations: loss {losses[0]:.2f} to {losses[-1]:.2f}")
    else:
        model = AutoModelForImageTextToText.from_pretrained(options.model)
        processor = AutoProcessor.from_pretrained(options.model, padding_side="left")
        factory = tool_environment(special_tokens=processor.tokenizer.all_special_tokens, **common)
    trainer = make_trainer(
        model,
        processor,
        factory,
        task_rows(factory, limit=1000),
        output_dir=str(out),
        max_steps=options.steps,
        learning_rate=options.lr,
        num_generations=options.group_size,
        per_device_train_batch_size=options.group_size * options.prompts,
        max_completion_length=options.max_tokens or (256 if options.model is None else 2048),
        max_tool_calling_iterations=options.max_turns + 1,
        use_cpu=not torch.cuda.is_available(),
    )
    trainer.train()
    trainer.save_model(str(out / "policy"))
    print("policy written to", out / "policy")


if __name__ == "__main__":
    main()
