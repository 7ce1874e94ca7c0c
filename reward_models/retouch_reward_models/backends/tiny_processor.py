"""Opening the processor of a tiny Qwen3-VL (`retouch_agents.tiny`), for policies and judges alike."""

from __future__ import annotations

from typing import Any

from transformers import AutoProcessor, Qwen3VLConfig, Qwen3VLProcessor


class TinyQwen3VLProcessor(Qwen3VLProcessor):
    """Qwen3-VL's processor without a video processor, which would need torchvision."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None, **kwargs: Any):
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template, **kwargs)

    @classmethod
    def get_attributes(cls) -> list[str]:
        """Parts that are saved and loaded."""
        return ["image_processor", "tokenizer"]


def register_tiny_processor() -> None:
    """Let `AutoProcessor` open a tiny model's folder; needed once in every process."""
    AutoProcessor.register(Qwen3VLConfig, TinyQwen3VLProcessor, exist_ok=True)
