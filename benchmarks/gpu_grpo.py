"""GRPO steps of a model as large as Qwen2.5-VL-7B, with random weights, on one GPU: rates, times, memory, utilisation.

    python benchmarks/gpu_grpo.py                              # 7B in bfloat16 with LoRA, on the GPU
    python benchmarks/gpu_grpo.py --shape tiny --device cpu    # the same steps at a size for a laptop

Nothing is downloaded: the model is built from its published sizes (arXiv 2502.13923) and saved below --out (17 GB).
Random weights seldom end an answer, so that every answer is as long as allowed: the work is that of the longest ones.
Two copies of the weights are on the card, the sampler's and the learner's. Figures are written to benchmarks/results/
under the card's name.

Utilisation counts the language model alone, without attention scores and vision tower; N is its parameters without the
embedding. Learning: 4N operations a token with LoRA (forward, and back through frozen weights), 6N in full fine-tuning,
2N more with gradient checkpointing, over the card's dense bfloat16 peak. Generation: 2N bytes a step over the card's
memory bandwidth.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoProcessor, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from retouch_agents.chat import ConversationFormat
from retouch_agents.finetuning import FineTuning
from retouch_agents.models import load_processor
from retouch_agents.rllib import GRPO, GRPOConfig
from retouch_agents.rllib.cluster import start_ray
from retouch_agents.tiny import CHAT_TEMPLATE, build_tokenizer
from retouch_gym.datasets.grammar import words
from retouch_gym.tools.iea import IEA

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Shape:
    """Sizes of a Qwen2.5-VL.

    Args:
        hidden: Width of the language model.
        layers: Its depth.
        heads: Attention heads.
        kv_heads: Heads of keys and values.
        inner: Width of its feed-forward layers.
        vocabulary: Tokens.
        tied: Whether embedding and output layer are one.
        vision_hidden: Width of the vision tower.
        vision_layers: Its depth.
        vision_inner: Width of its feed-forward layers.
        vision_heads: Its attention heads.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    tied: bool
    vision_hidden: int = 1280
    vision_layers: int = 32
    vision_inner: int = 3420
    vision_heads: int = 16


SHAPES = {
    "7b": Shape(3584, 28, 28, 4, 18944, 152064, tied=False),
    "3b": Shape(2048, 36, 16, 2, 11008, 151936, tied=True),
    "tiny": Shape(
        64, 2, 4, 2, 128, 2048, tied=False, vision_hidden=32, vision_layers=2, vision_inner=64, vision_heads=2
    ),
}

PEAKS = {"H200": (989e12, 4.8e12), "H100": (989e12, 3.35e12), "A100": (312e12, 2.0e12), "L40S": (362e12, 0.86e12)}
"""Dense bfloat16 operations and bytes of memory a second, from the cards' data sheets."""


class PhotoProcessor(Qwen2_5_VLProcessor):  # type: ignore[misc]  # transformers leaves it untyped
    """Without a video processor, which would need torchvision."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None, **kwargs: Any):
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template, **kwargs)

    @classmethod
    def get_attributes(cls) -> list[str]:
        """Parts that are saved and loaded."""
        return ["image_processor", "tokenizer"]


class LargeVocabulary(ConversationFormat):
    """Reads answers whose tokens the small tokenizer does not know; nobody reads what random weights write."""

    def decode(self, token_ids: Sequence[int] | NDArray[np.int64]) -> str:
        """Unknown tokens as the last known one."""
        return super().decode([min(int(token), len(self.tokenizer) - 1) for token in token_ids])


def chat_of(model: str, env: Any) -> LargeVocabulary:
    """The chat format of a run."""
    return LargeVocabulary(load_processor(model))


def build(folder: Path, shape: Shape, device: str, dtype: torch.dtype) -> Path:
    """Write the model with random weights."""
    if (folder / "config.json").is_file():
        return folder
    tokenizer = build_tokenizer(IEA, words())
    ids = tokenizer.get_vocab()
    head = shape.hidden // shape.heads
    quarter = head // 8
    text = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": 32768,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
        "tie_word_embeddings": shape.tied,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [head // 2 - 2 * (3 * quarter // 2), 3 * quarter // 2, 3 * quarter // 2],
        },
    }
    vision = {
        "depth": shape.vision_layers,
        "hidden_size": shape.vision_hidden,
        "intermediate_size": shape.vision_inner,
        "num_heads": shape.vision_heads,
        "out_hidden_size": shape.hidden,
        "fullatt_block_indexes": [shape.vision_layers - 1],
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=shape.tied,
    )
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = Qwen2_5_VLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(torch.float32)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    PhotoProcessor(
        Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 1280 * 28 * 28}),
        tokenizer,
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    return folder


def algorithm_of(model: Path, args: argparse.Namespace) -> GRPO:
    """GRPO with sampler and learner on the device."""
    gpus = 0.5 if args.device == "cuda" else 0
    start_ray(num_cpus=4)
    config = (
        GRPOConfig()
        .environment(
            "Retouch/Chat-v0",
            env_config={
                "dataset": "samples",
                "dataset_kwargs": {"resolution": args.photo},
                "max_turns": args.turns,
                "reward": "edit",
            },
        )
        .env_runners(num_env_runners=0, num_gpus_per_env_runner=gpus)
        .learners(num_learners=0, num_gpus_per_learner=gpus)
    )
    config.training(
        model=str(model.resolve()),
        chat_format=chat_of,
        dtype="bfloat16" if args.device == "cuda" else "float32",
        tuning=FineTuning(
            lora_rank=args.lora_rank,
            lora_alpha=2.0 * args.lora_rank,
            gradient_checkpointing=args.gradient_checkpointing,
        )
        if args.lora_rank
        else FineTuning(gradient_checkpointing=args.gradient_checkpointing),
        group_size=args.group_size,
        prompts_per_iteration=args.prompts,
        max_new_tokens=args.new_tokens,
        micro_batch_size=args.micro_batch,
        lr=1e-5,
    )
    algorithm: GRPO = config.build_algo()
    return algorithm


def utilisation(args: argparse.Namespace, shape: Shape, rows: list[dict[str, float]], prompt: int) -> dict[str, float]:
    """Rates of an iteration, and their share of what the card can do."""
    attention = 2 * shape.hidden**2 * (1 + shape.kv_heads / shape.heads)
    parameters = shape.layers * (attention + 3 * shape.hidden * shape.inner) + shape.hidden * shape.vocabulary
    generate, learn = (float(np.median([row[name] for row in rows])) for name in ("generate_seconds", "learn_seconds"))
    answers = rows[-1]["answers"]
    sampled = answers * rows[-1]["response_length"]
    # Shared prompts pass once a group; with checkpointing once an answer.
    prompts = answers if args.gradient_checkpointing else answers / args.group_size
    work = (4 if args.lora_rank else 6) + (2 if args.gradient_checkpointing else 0)
    found = {
        "parameters_b": parameters / 1e9,
        "prompt_tokens": prompt,
        "generated_tokens_per_s": sampled / generate,
        "learned_tokens_per_s": (sampled + prompts * prompt) / learn,
        "learn_seconds_per_answer": learn / answers,
    }
    card = torch.cuda.get_device_name() if args.device == "cuda" else ""
    for name, (operations, bandwidth) in PEAKS.items():
        if name in card:
            found["learner_mfu"] = work * parameters * found["learned_tokens_per_s"] / operations
            steps = args.new_tokens * -(-answers // 256)
            found["generation_bandwidth_share"] = 2 * parameters * steps / generate / bandwidth
    return found


def main() -> None:
    """Build, train a few iterations, write what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="7b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--iterations", type=int, default=3, help="after one to warm up")
    parser.add_argument("--prompts", type=int, default=8, help="tasks per iteration")
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=256, help="tokens of an answer")
    parser.add_argument("--photo", type=int, default=448, help="side of the photos in pixels; 28 × 28 are a token")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--micro-batch", type=int, default=8, help="answers per backward pass")
    parser.add_argument("--lora-rank", type=int, default=16, help="0: full fine-tuning")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --shape tiny --device cpu tries the script without one")
    AutoProcessor.register(Qwen2_5_VLConfig, PhotoProcessor, exist_ok=True)
    shape = SHAPES[args.shape]
    dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
    started = time.perf_counter()
    model = build(args.out / args.shape, shape, args.device, dtype)
    print(f"model built in {time.perf_counter() - started:.0f} s", flush=True)
    algorithm = algorithm_of(model, args)
    print(f"algorithm built in {time.perf_counter() - started:.0f} s", flush=True)
    rows: list[dict[str, float]] = []
    for number in range(1 + args.iterations):
        if number == 1 and args.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        rows.append({name: float(value) for name, value in algorithm.train()["grpo"].items()})
        shown = {name: round(value, 2) for name, value in rows[-1].items() if name.endswith("seconds")}
        print(f"iteration {number}: {rows[-1]['answers']:.0f} answers, {shown}", flush=True)
    runner = algorithm.env_runner_group.local_env_runner
    observation, _ = runner.env.reset(seed=0)
    prompt = len(runner.chat.encode(observation).input_ids)
    found = {
        "card": torch.cuda.get_device_name() if args.device == "cuda" else f"none ({platform.machine()} CPU)",
        "peak_memory_gib": torch.cuda.max_memory_allocated() / 2**30 if args.device == "cuda" else None,
        "settings": {name: str(value) for name, value in vars(args).items()},
        **utilisation(args, shape, rows[1:], prompt),
        "iterations": rows[1:],
    }
    algorithm.stop()
    print(json.dumps({name: value for name, value in found.items() if name != "iterations"}, indent=1))
    RESULTS.mkdir(exist_ok=True)
    name = found["card"].replace(" ", "-").lower() if args.device == "cuda" else "cpu"
    target = (RESULTS if args.device == "cuda" else args.out) / f"gpu_grpo-{args.shape}-{name}.json"
    target.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print("written to", target)


if __name__ == "__main__":
    main()
