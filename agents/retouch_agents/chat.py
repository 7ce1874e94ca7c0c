"""Between an environment and a chat model: observation → prompt, tokens → text → tool calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import ProcessorMixin

from retouch_agents.budget import within
from retouch_agents.encoding import Prompt
from retouch_agents.models import load_processor
from retouch_agents.prompts import build_messages, load_prompt, save_prompt
from retouch_gym.chat import (
    AnswerFormat,
    Message,
    PromptTemplate,
    assistant_message,
    get_answer_format,
    photos_of,
    to_pil,
    user_message,
)
from retouch_gym.errors import ConfigurationError
from retouch_gym.recipes import Recipe, plan_of
from retouch_gym.tools.toolset import Toolset
from retouch_gym.types import Action, ToolCall

_PER_TOKEN = ("mm_token_type_ids", "token_type_ids")
_NOT_FEATURES = frozenset({"input_ids", "attention_mask", *_PER_TOKEN})
_MARK = "\u2042 \u2042"
"""Stands for an answer, to find what a template writes after one."""


class ConversationFormat:
    """How a model speaks in an environment that writes the prompts and reads the answers itself.

    `Retouch/Chat-v0` and `Retouch/Judge-v0` do: observations are conversations, actions the model's text.

    Args:
        processor: Tokenizer and image processor of the model.
        max_prompt_tokens: Most tokens of a prompt, photos included. Longer ones lose text (see
            `retouch_agents.budget.within`), never a photo. None: no limit.
    """

    def __init__(self, processor: ProcessorMixin, max_prompt_tokens: int | None = None) -> None:
        self.processor = processor
        self.max_prompt_tokens = max_prompt_tokens
        self.tokenizer: Any = processor.tokenizer

    @property
    def eos_id(self) -> int:
        """Token id that ends an answer."""
        return int(self.tokenizer.eos_token_id)

    @property
    def pad_id(self) -> int:
        """Token id of padding."""
        pad = self.tokenizer.pad_token_id
        return self.eos_id if pad is None else int(pad)

    def encode(self, observation: Any) -> Prompt:
        """Encode a conversation into a prompt that ends where the model begins, whatever photos it shows.

        Args:
            observation: Messages as in `retouch_gym.chat.messages`: photos as uint8 arrays.

        Raises:
            ConfigurationError: If it does not fit into `max_prompt_tokens`, however much of its text is cut.
        """
        return within(self.max_prompt_tokens, observation, lambda messages: self._encode(self._shown(messages)))

    def next_prompt(self, prompt: Prompt, token_ids: NDArray[np.int64], before: Any, after: Any) -> Prompt:
        """The prompt of the next turn.

        Where the conversation has only grown, so has the prompt: its tokens and the sampled ones are kept as they are,
        and what the environment said is added. Otherwise (earlier photos are no longer shown, or the whole would be
        longer than `max_prompt_tokens` allows) the conversation is encoded anew.

        Args:
            prompt: What was answered.
            token_ids: The answer as it was sampled, int64 (C,).
            before: The observation that `prompt` encodes.
            after: The observation after the answer.

        Raises:
            ConfigurationError: See `encode`.
        """
        if not _grown(before, after):
            return self.encode(after)
        known = prompt.then(token_ids)
        budget = None if self.max_prompt_tokens is None else self.max_prompt_tokens - len(known.input_ids)
        try:
            return known.joined(
                within(budget, after[len(before) + 1 :], lambda messages: self._follow(token_ids, messages))
            )
        except ConfigurationError:
            return self.encode(after)

    def follow(self, prompt: Prompt, token_ids: NDArray[np.int64], messages: Sequence[Message]) -> Prompt:
        """The prompt after an answer and what the others said then; no token of prompt or answer is written anew.

        Args:
            prompt: What was answered.
            token_ids: The answer, int64 (C,), with or without the end token.
            messages: The turns after it, up to where the model begins again.
        """
        return prompt.then(token_ids).joined(self._follow(token_ids, messages))

    def _follow(self, token_ids: NDArray[np.int64], messages: Sequence[Message]) -> Prompt:
        """What stands between an answer and the next one: the end of the turn, and the turns of the others."""
        turns = [user_message("."), assistant_message(_MARK), *self._shown(messages)]
        text = self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        rest = text[text.rindex(_MARK) + len(_MARK) :]
        end = str(self.tokenizer.eos_token)
        if len(token_ids) and int(token_ids[-1]) == self.eos_id and rest.lstrip().startswith(end):
            rest = rest.lstrip()[len(end) :]
        # A tokenizer that begins every text with a token of its own would put one into the middle here.
        return self._tokens(rest, photos_of(turns), add_special_tokens=False)

    def answer(self, text: str) -> NDArray[np.int64]:
        """Token ids of a right answer, end token included, for supervised training."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return np.asarray([*ids, self.eos_id], dtype=np.int64)

    def decode(self, token_ids: Sequence[int] | NDArray[np.int64]) -> str:
        """The text of sampled tokens, without special tokens."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def parse(self, text: str, task: str = "edit") -> Any:
        """The text itself, which is the action."""
        return text

    def _encode(self, messages: Sequence[Message]) -> Prompt:
        text = self.processor.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        return self._tokens(text, photos_of(messages))

    def _tokens(self, text: str, photos: Sequence[Any], **options: Any) -> Prompt:
        encoded = self.processor(text=[text], images=list(photos) or None, return_tensors="np", **options)
        return Prompt(
            input_ids=np.asarray(encoded["input_ids"][0], dtype=np.int64),
            features={name: np.asarray(value) for name, value in encoded.items() if name not in _NOT_FEATURES},
            token_features={
                name: np.asarray(encoded[name][0], dtype=np.int64) for name in _PER_TOKEN if name in encoded
            },
            photos=tuple(np.asarray(photo) for photo in photos),
        )

    def _shown(self, messages: Sequence[Message]) -> list[Message]:
        """The messages as a processor takes them, without special tokens of the tokenizer in their texts."""
        return to_pil([{**message, "content": self._clean(message["content"])} for message in messages])

    def _disarm(self, text: str) -> str:
        """Take the tokenizer's special tokens out of a text, so that no request can open a turn or a photo."""
        for token in self.tokenizer.all_special_tokens:
            text = text.replace(token, " ")
        return text

    def _clean(self, content: str | Sequence[Mapping[str, Any]]) -> str | list[dict[str, Any]]:
        if isinstance(content, str):
            return self._disarm(content)
        return [
            {**block, "text": self._disarm(block["text"])} if block.get("type") == "text" else dict(block)
            for block in content
        ]


class ChatFormat(ConversationFormat):
    """How one model is spoken to in `Retouch/Retouch-v0`.

    Args:
        processor: Tokenizer and image processor of the model.
        toolset: The environment's toolset.
        template: The words around the photo.
        answer_format: How it answers: a short name, ``"module:attribute"`` or an `AnswerFormat`.

    Raises:
        ConfigurationError: If the answer format is not known.
    """

    def __init__(
        self,
        processor: ProcessorMixin,
        toolset: Toolset,
        template: PromptTemplate,
        answer_format: str | AnswerFormat = "iea",
    ) -> None:
        super().__init__(processor)
        self.toolset = toolset
        self.template = template
        self.answer_format = get_answer_format(answer_format)

    @classmethod
    def from_pretrained(cls, folder: str | Path, toolset: Toolset) -> ChatFormat:
        """The format of a checkpoint: its processor, and the template and answer format saved beside it.

        Raises:
            ModelError: If the processor cannot be loaded.
            ConfigurationError: If the file of the prompt holds none.
        """
        return cls(load_processor(folder), toolset, *load_prompt(folder))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write processor, prompt template and answer format into a checkpoint folder."""
        self.processor.save_pretrained(str(folder))
        save_prompt(folder, self.template, self.answer_format)

    def encode(self, observation: Mapping[str, Any]) -> Prompt:
        """Encode an observation of `Retouch/Retouch-v0` into a prompt that ends where the model begins.

        The photo as it is now is shown, and no other; conversations that show more are for `ConversationFormat`.

        Raises:
            ConfigurationError: See `ConversationFormat.encode`.
        """
        messages = build_messages(observation, self.template, self.toolset, self.answer_format, clean=self._disarm)
        return within(self.max_prompt_tokens, messages, self._encode)

    def next_prompt(self, prompt: Prompt, token_ids: NDArray[np.int64], before: Any, after: Any) -> Prompt:
        """The prompt of the next turn: the photo and the recipe as they are then. Nothing of the last one stays."""
        return self.encode(after)

    def target(self, reasoning: str, recipe: Recipe) -> NDArray[np.int64]:
        """Token ids of the right answer, end token included, for supervised training.

        Raises:
            ConfigurationError: If the answer format cannot hold the reasoning, as it has the format's tags in it.
        """
        calls = list(plan_of(recipe, self.toolset))
        if not calls and not self.answer_format.empty_plan:
            calls = [ToolCall("finish")]
        return self.answer(self.answer_format.write(reasoning, calls))

    def parse(self, text: str, task: str = "edit") -> Action:
        """The tool calls in an answer. See `retouch_gym.chat.AnswerFormat.parse`."""
        return self.answer_format.parse(text, task)


def _grown(before: Sequence[Message], after: Sequence[Message]) -> bool:
    """Whether a conversation goes on from where it was: the answer comes next, and nothing before it has changed."""
    if len(after) < len(before) + 2:
        return False
    return all(_same(old, new) for old, new in zip(before, after, strict=False))


def _same(old: Message, new: Message) -> bool:
    one, other = old["content"], new["content"]
    if old["role"] != new["role"] or len(one) != len(other):
        return False
    return all(
        a["type"] == b["type"] and (np.array_equal(a["image"], b["image"]) if a["type"] == "image" else a == b)
        for a, b in zip(one, other, strict=True)
    )
