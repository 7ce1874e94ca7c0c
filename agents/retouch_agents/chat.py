"""Between an environment and a chat model: observation → prompt, tokens → text → tool calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import ProcessorMixin

from retouch_agents.answers import format_answer, parse_answer
from retouch_agents.encoding import Prompt
from retouch_agents.models import load_processor
from retouch_agents.prompts import PromptTemplate, build_messages
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.tools.toolset import Toolset
from retouch_gym.types import Action

_PER_TOKEN = ("mm_token_type_ids", "token_type_ids")
_NOT_FEATURES = frozenset({"input_ids", "attention_mask", *_PER_TOKEN})


class ChatFormat:
    """How one model is spoken to.

    Args:
        processor: Tokenizer and image processor of the model.
        toolset: The environment's toolset.
        template: The words around the photo.
    """

    def __init__(self, processor: ProcessorMixin, toolset: Toolset, template: PromptTemplate) -> None:
        self.processor = processor
        self.tokenizer: Any = processor.tokenizer
        self.toolset = toolset
        self.template = template

    @classmethod
    def from_pretrained(cls, folder: str | Path, toolset: Toolset) -> ChatFormat:
        """The format of a checkpoint: its processor, and the prompt template saved beside it.

        Raises:
            ModelError: If the processor cannot be loaded.
        """
        return cls(load_processor(folder), toolset, PromptTemplate.load(folder))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write processor and prompt template into a checkpoint folder."""
        self.processor.save_pretrained(str(folder))
        self.template.save(folder)

    @property
    def eos_id(self) -> int:
        """Token id that ends an answer."""
        return int(self.tokenizer.eos_token_id)

    @property
    def pad_id(self) -> int:
        """Token id of padding."""
        pad = self.tokenizer.pad_token_id
        return self.eos_id if pad is None else int(pad)

    def encode(self, observation: Mapping[str, Any]) -> Prompt:
        """Encode an observation of `Retouch/Retouch-v0` into a prompt that ends where the model begins."""
        messages = build_messages(self._disarm(observation), self.template, self.toolset)
        text = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        image = messages[-1]["content"][0]["image"]
        encoded = self.processor(text=[text], images=[image], return_tensors="np")
        return Prompt(
            input_ids=np.asarray(encoded["input_ids"][0], dtype=np.int64),
            features={name: np.asarray(value) for name, value in encoded.items() if name not in _NOT_FEATURES},
            token_features={
                name: np.asarray(encoded[name][0], dtype=np.int64) for name in _PER_TOKEN if name in encoded
            },
        )

    def _disarm(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Take the tokenizer's special tokens out of every text, so that no request can open a turn or a photo."""
        clean = dict(observation)
        for name, value in observation.items():
            if isinstance(value, str):
                for token in self.tokenizer.all_special_tokens:
                    value = value.replace(token, " ")
                clean[name] = value
        return clean

    def target(self, reasoning: str, recipe: Recipe) -> NDArray[np.int64]:
        """Token ids of the right answer, end token included, for supervised training."""
        order = [name for name in self.toolset.controls if name in recipe.controls]
        text = format_answer(reasoning, {name: recipe.controls[name] for name in order})
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return np.asarray([*ids, self.eos_id], dtype=np.int64)

    def decode(self, token_ids: Sequence[int] | NDArray[np.int64]) -> str:
        """The text of sampled tokens, without special tokens."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def parse(self, text: str) -> Action:
        """The tool calls in an answer. See `retouch_agents.answers.parse_answer`."""
        return parse_answer(text)
