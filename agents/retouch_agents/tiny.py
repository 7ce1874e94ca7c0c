"""A tiny Qwen3-VL with random weights and its own tokenizer, built from nothing.

For tests, for the demo, and for trying a pipeline without a GPU or a download. The architecture is the
real one; only its sizes are small: a 64×64 photo is 16 image tokens, a slider name is one token and so is
an integer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.trainers import WordLevelTrainer
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from retouch_agents.prompts import save_prompt
from retouch_gym.chat import BARE, PromptTemplate
from retouch_gym.tools.toolset import Toolset
from retouch_reward_models.backends.tiny_processor import TinyQwen3VLProcessor, register_tiny_processor

_SPECIAL = ("<|endoftext|>", "<unk>", "<|im_start|>", "<|im_end|>")
_VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_ROLES = ("system", "user", "assistant", "\n")
# Tags, a slider's key with its colon, JSON's separator, a whole number, a word with the space before it,
# any other character.
_PATTERN = r'</?(?:think|answer)>|"[a-z_]+": |, (?=")|-?\d+| ?[a-z]+|\n|.'

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The turns of Qwen's chat template, without its system prompt and tools."""


@dataclass(frozen=True)
class TinySize:
    """Sizes of the tiny model.

    Args:
        hidden: Width of the text decoder.
        layers: Layers of the text decoder.
        heads: Attention heads of the text decoder.
        vision_hidden: Width of the vision encoder.
        vision_layers: Layers of the vision encoder.
        image_side: Photos are resized to about this many pixels squared.
        patch: Side of a patch in pixels; 2×2 patches make one image token.
        number_step: Sliders are written in multiples of this.
    """

    hidden: int = 96
    layers: int = 3
    heads: int = 4
    vision_hidden: int = 64
    vision_layers: int = 2
    image_side: int = 64
    patch: int = 8
    number_step: int = 5


def build_tokenizer(
    toolset: Toolset, words: Iterable[str], number_step: int = 5, whole: Iterable[str] = ()
) -> PreTrainedTokenizerFast:
    """Train a whole-word tokenizer: every word, every control's JSON key and every allowed number is one token.

    Text is lower-cased; what it does not know becomes ``<unk>``. Text made of known words survives
    encoding and decoding unchanged.

    Args:
        toolset: Its controls are the JSON keys; their ranges give the numbers.
        words: The words that instructions and reasoning use.
        number_step: Numbers are the multiples of this in the widest control range.
        whole: Further strings that are one token each, in lower case, wherever they occur.
    """
    tokens = sorted(whole, key=len, reverse=True)
    pattern = "|".join([*map(re.escape, tokens), _PATTERN])
    tokenizer = Tokenizer(WordLevel(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    trainer = WordLevelTrainer(special_tokens=[*_SPECIAL, *_VISION], show_progress=False)
    tokenizer.train_from_iterator([*_corpus(toolset, words, number_step), *tokens], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>", *_VISION],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _corpus(toolset: Toolset, words: Iterable[str], step: int) -> Iterator[str]:
    yield from _ROLES
    yield from ("<think>", "</think>", "<answer>", "</answer>", "{", "}", "{}", ".", ",")
    for word in words:
        yield f" {word}"
    low = int(min(control.low for control in toolset.controls.values()))
    high = int(max(control.high for control in toolset.controls.values()))
    for name in toolset.controls:
        yield f'"{name}": , "'
    yield from (f"{value}" for value in range(low, high + 1) if value % step == 0)


def build_tiny(
    folder: str | Path,
    toolset: Toolset,
    words: Iterable[str],
    *,
    size: TinySize | None = None,
    template: PromptTemplate = BARE,
    seed: int = 0,
    whole: Iterable[str] = (),
) -> Path:
    """Write a tiny model with random weights, its processor and its prompt template into a folder.

    Args:
        folder: Where to write; opens with `load_model` and `ChatFormat.from_pretrained`.
        toolset: The controls that it will speak of.
        words: Vocabulary of instructions and reasoning.
        size: Sizes; default about half a million parameters.
        template: The prompt it is to be trained with.
        seed: Seed of the weights. The global generator is left as it was.
        whole: Further strings that are one token each.
    """
    sizes = size or TinySize()
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    register_tiny_processor()
    tokenizer = build_tokenizer(toolset, words, sizes.number_step, whole)
    pixels = sizes.image_side**2
    images = Qwen2VLImageProcessorPil(
        size={"shortest_edge": pixels, "longest_edge": pixels},
        patch_size=sizes.patch,
        temporal_patch_size=1,
        merge_size=2,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.25, 0.25, 0.25],
    )
    processor = TinyQwen3VLProcessor(images, tokenizer, chat_template=CHAT_TEMPLATE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(_config(sizes, tokenizer))
    for ids in (model.config, model.generation_config):
        ids.pad_token_id, ids.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    model.save_pretrained(target)
    processor.save_pretrained(target)
    save_prompt(target, template)
    return target


def _config(sizes: TinySize, tokenizer: PreTrainedTokenizerFast) -> Qwen3VLConfig:
    def token(text: str) -> int:
        return tokenizer.get_vocab()[text]

    head = sizes.hidden // sizes.heads
    rotary = head // 2
    sections = [rotary - 2 * (rotary // 3), rotary // 3, rotary // 3]
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.hidden * 3,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.heads,
        "head_dim": head,
        "max_position_embeddings": 1024,
        "initializer_range": 0.05,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": sections,
            "mrope_interleaved": True,
        },
        "pad_token_id": token("<|endoftext|>"),
        "eos_token_id": token("<|im_end|>"),
        "bos_token_id": None,
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": sizes.vision_layers,
        "hidden_size": sizes.vision_hidden,
        "intermediate_size": sizes.vision_hidden * 2,
        "num_heads": 4,
        "patch_size": sizes.patch,
        "temporal_patch_size": 1,
        "spatial_merge_size": 2,
        "out_hidden_size": sizes.hidden,
        "num_position_embeddings": (sizes.image_side // sizes.patch) ** 2,
        "deepstack_visual_indexes": [],
        "initializer_range": 0.05,
    }
    return Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
