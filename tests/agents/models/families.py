"""Tiny models of several families, built from their configurations with random weights, and saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoProcessor,
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from retouch_agents.prompts import save_prompt
from retouch_agents.tiny import TinySize, build_tiny, build_tokenizer
from retouch_gym.chat import BARE
from retouch_gym.tools import IEA

WORDS = ("make", "it", "warmer", "a", "little", "brighter", "please", "now")
SIDE, PATCH, WIDTH = 32, 8, 32


def _template(photo: str) -> str:
    return (
        "{% for message in messages %}user: {% for part in message.content %}"
        "{% if part.type == 'image' %}" + photo + "{% else %}{{ part.text }}{% endif %}{% endfor %}\n{% endfor %}"
    )


def _tokenizer(*special: str, **named: str) -> PreTrainedTokenizerFast:
    tokenizer = build_tokenizer(IEA, WORDS)
    tokenizer.add_special_tokens({"additional_special_tokens": [*special, *named.values()]})
    for name, token in named.items():
        setattr(tokenizer, name, token)
    return tokenizer


def _text(tokenizer: PreTrainedTokenizerFast, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.05,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
        **more,
    }


def _tower(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": PATCH,
        "initializer_range": 0.05,
        **more,
    }


def _write(root: Path, model: type, config: Any, processor: Any) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = model(config)
    text = config.get_text_config()
    built.generation_config.pad_token_id, built.generation_config.eos_token_id = text.pad_token_id, text.eos_token_id
    built.save_pretrained(root)
    processor.save_pretrained(root)
    save_prompt(root, BARE)
    return root


def qwen3_vl(root: Path) -> Path:
    size = TinySize(hidden=WIDTH, layers=2, heads=2, vision_hidden=16, vision_layers=2)
    return build_tiny(root, IEA, WORDS, size=size)


class PhotoQwen25Processor(Qwen2_5_VLProcessor):
    """Without a video processor, which would need torchvision."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None, **kwargs: Any):
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template, **kwargs)

    @classmethod
    def get_attributes(cls) -> list[str]:
        return ["image_processor", "tokenizer"]


class PhotoInternVLProcessor(InternVLProcessor):
    """Without a video processor, which would need torchvision."""

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        image_seq_length: int = 256,
        chat_template: Any = None,
        **kwargs: Any,
    ):
        super().__init__(image_processor, tokenizer, None, image_seq_length, chat_template=chat_template, **kwargs)

    @classmethod
    def get_attributes(cls) -> list[str]:
        return ["image_processor", "tokenizer"]


def qwen2_5_vl(root: Path) -> Path:
    tokenizer = _tokenizer()
    ids = tokenizer.get_vocab()
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
    vision = {
        "depth": 2,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_heads": 2,
        "patch_size": PATCH,
        "temporal_patch_size": 1,
        "window_size": 2 * PATCH,
        "out_hidden_size": WIDTH,
        "fullatt_block_indexes": [1],
        "initializer_range": 0.05,
    }
    config = Qwen2_5_VLConfig(
        text_config=_text(tokenizer, rope_parameters=rope),
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    AutoProcessor.register(Qwen2_5_VLConfig, PhotoQwen25Processor, exist_ok=True)
    images = Qwen2VLImageProcessorPil(
        size={"shortest_edge": SIDE**2, "longest_edge": SIDE**2}, patch_size=PATCH, temporal_patch_size=1, merge_size=2
    )
    template = _template("<|vision_start|><|image_pad|><|vision_end|>")
    return _write(
        root,
        Qwen2_5_VLForConditionalGeneration,
        config,
        PhotoQwen25Processor(images, tokenizer, chat_template=template),
    )


def llava(root: Path) -> Path:
    tokenizer = _tokenizer("<image>")
    # Layer −2, as in the published ones, leaves the last layer of the tower without use.
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**_tower()).to_dict(),
        text_config=_text(tokenizer, model_type="llama"),
        image_token_index=tokenizer.get_vocab()["<image>"],
    )
    images = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_template("<image>"),
    )
    return _write(root, LlavaForConditionalGeneration, config, processor)


def _idefics(root: Path, config_class: type, model: type) -> Path:
    tokenizer = _tokenizer("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>")
    config = config_class(
        vision_config=_tower(),
        text_config=_text(tokenizer, model_type="llama"),
        image_token_id=tokenizer.get_vocab()["<image>"],
        scale_factor=2,
    )
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=False
    )
    seen = (SIDE // PATCH) ** 2 // 4
    # SmolVLM's own processor writes photos in the same way, but needs the package num2words for its videos.
    processor = Idefics3Processor(images, tokenizer, image_seq_len=seen, chat_template=_template("<image>"))
    return _write(root, model, config, processor)


def idefics3(root: Path) -> Path:
    return _idefics(root, Idefics3Config, Idefics3ForConditionalGeneration)


def smolvlm(root: Path) -> Path:
    return _idefics(root, SmolVLMConfig, SmolVLMForConditionalGeneration)


def internvl(root: Path) -> Path:
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(IEA, WORDS).backend_tokenizer,
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        padding_side="left",
        extra_special_tokens=named,
    )
    seen = (SIDE // PATCH) ** 2 // 4
    config = InternVLConfig(
        vision_config=_tower(),
        text_config=_text(tokenizer, model_type="qwen2"),
        image_token_id=tokenizer.get_vocab()["<IMG_CONTEXT>"],
        image_seq_length=seen,
    )
    AutoProcessor.register(InternVLConfig, PhotoInternVLProcessor, exist_ok=True)
    images = GotOcr2ImageProcessorPil(size={"height": SIDE, "width": SIDE}, crop_to_patches=False, max_patches=1)
    processor = PhotoInternVLProcessor(
        images, tokenizer, image_seq_length=seen, chat_template=_template("<IMG_CONTEXT>")
    )
    return _write(root, InternVLForConditionalGeneration, config, processor)


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "qwen3_vl": qwen3_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "smolvlm": smolvlm,
    "idefics3": idefics3,
    "llava": llava,
    "internvl": internvl,
}
