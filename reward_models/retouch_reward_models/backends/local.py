"""A judge's model in this process: anything that `AutoModelForImageTextToText` opens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, ProcessorMixin

from retouch_gym.chat.messages import photos_of, to_pil
from retouch_gym.images import check_image
from retouch_reward_models.backends.base import Backend, ChatFailure, ChatReply, ChatRequest, TokenChoice
from retouch_reward_models.backends.tiny_processor import register_tiny_processor
from retouch_reward_models.errors import BackendError


class TransformersBackend(Backend):
    """Answers conversations with a local model, many in one batch.

    Greedy answers are the same in any batch up to the rounding of padded arithmetic. Code from a checkpoint is never
    run.

    Args:
        model: Folder or id of the model.
        version: What this state of the weights is called; part of `name`, and so of every cache key.
        batch_size: Conversations per forward pass; those of similar length are put together.
        dtype: Type of the weights, a name in torch.
        device: Where they are.

    Raises:
        BackendError: If there is no such model.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        version: str = "",
        batch_size: int = 64,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        self.model_path = str(model)
        self.version = version
        self.batch_size = batch_size
        self.dtype, self.device = dtype, device
        self.name = f"{self.model_path}@{version}" if version else self.model_path
        self._load()

    def __getstate__(self) -> dict[str, Any]:
        # A copy elsewhere loads its own weights.
        return {**self.__dict__, "model": None, "processor": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._load()

    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply | ChatFailure]:
        """See `Backend.complete`. A batch that fails is tried again one by one, to find out whose fault it is."""
        found: dict[int, ChatReply | ChatFailure] = {}
        prompts: dict[int, dict[str, Any]] = {}
        for number, request in enumerate(requests):
            try:
                prompts[number] = self._prompt(request)
            except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
                found[number] = ChatFailure("model", f"the conversation cannot be encoded: {error}")
        for batch in self._batches(requests, prompts):
            found.update(self._answer(requests, prompts, batch))
        return [found[number] for number in range(len(requests))]

    def _load(self) -> None:
        register_tiny_processor()
        try:
            self.processor: Any = AutoProcessor.from_pretrained(self.model_path, trust_remote_code=False)
            self.model: Any = AutoModelForImageTextToText.from_pretrained(
                self.model_path, dtype=getattr(torch, self.dtype), trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise BackendError(
                f"No image-text-to-text model at {self.model_path!r} ({error}). Give a folder written by "
                "save_pretrained or a model id."
            ) from error
        if not isinstance(self.processor, ProcessorMixin):
            raise BackendError(
                f"The processor of {self.model_path!r} is a {type(self.processor).__name__}, which reads no photos."
            )
        self.processor.tokenizer.padding_side = "left"
        torch.nn.Module.to(self.model, self.device)
        self.model.eval()

    def _prompt(self, request: ChatRequest) -> dict[str, Any]:
        """Text and photos of a conversation, special tokens taken out of every text."""
        for number, photo in enumerate(photos_of(request.messages), 1):
            check_image(photo, f"photo {number}")
        messages = to_pil([{**message, "content": self._clean(message["content"])} for message in request.messages])
        text = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return {"text": text, "images": photos_of(messages)}

    def _clean(self, content: Any) -> Any:
        if isinstance(content, str):
            for token in self.processor.tokenizer.all_special_tokens:
                content = content.replace(token, " ")
            return content
        return [
            {**block, "text": self._clean(block["text"])} if block.get("type") == "text" else dict(block)
            for block in content
        ]

    def _batches(self, requests: Sequence[ChatRequest], prompts: dict[int, dict[str, Any]]) -> Iterator[list[int]]:
        """Conversations that can be answered in one call, the shorter ones first."""
        kinds: dict[tuple[int, float, int, int | None, bool], list[int]] = {}
        for number, prompt in prompts.items():
            asked = requests[number]
            # Sampling is seeded per call: an answer must not depend on its neighbours.
            seed = (asked.seed if asked.seed is not None else number) if asked.temperature > 0 else None
            alone = number if seed is not None else None
            kind = (asked.max_tokens, asked.temperature, asked.top_logprobs, alone, bool(prompt["images"]))
            kinds.setdefault(kind, []).append(number)
        for numbers in kinds.values():
            numbers.sort(key=lambda number: len(prompts[number]["text"]))
            for start in range(0, len(numbers), self.batch_size):
                yield numbers[start : start + self.batch_size]

    def _answer(
        self, requests: Sequence[ChatRequest], prompts: dict[int, dict[str, Any]], batch: list[int]
    ) -> dict[int, ChatReply | ChatFailure]:
        try:
            replies = self._generate(requests[batch[0]], [prompts[number] for number in batch])
            return dict(zip(batch, replies, strict=True))
        except (ValueError, RuntimeError, IndexError) as error:
            if len(batch) == 1:
                return {batch[0]: ChatFailure("model", f"{type(error).__name__}: {error}")}
        return {number: reply for one in batch for number, reply in self._answer(requests, prompts, [one]).items()}

    def _generate(self, asked: ChatRequest, prompts: list[dict[str, Any]]) -> list[ChatReply]:
        started = time.perf_counter()
        images = [prompt["images"] for prompt in prompts]
        inputs = self.processor(
            text=[prompt["text"] for prompt in prompts],
            images=images if any(images) else None,
            return_tensors="pt",
            padding=True,
        ).to(self.device)
        sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if asked.temperature > 0:
            sampling = {"do_sample": True, "temperature": asked.temperature, "top_p": 1.0, "top_k": 0}
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(asked.seed or 0)
            output = self.model.generate(
                **inputs,
                **sampling,
                max_new_tokens=asked.max_tokens,
                return_dict_in_generate=True,
                output_logits=bool(asked.top_logprobs),
                bad_words_ids=[[token] for token in _placeholders(self.model)] or None,
            )
        width = inputs["input_ids"].shape[1]
        prompt_tokens = inputs["attention_mask"].sum(dim=1).tolist()
        likely = _likely(output.logits, asked.top_logprobs) if asked.top_logprobs else None
        seconds = (time.perf_counter() - started) / len(prompts)
        return [
            self._reply(
                sequence, prompt_tokens[row], seconds, None if likely is None else (likely[0][row], likely[1][row])
            )
            for row, sequence in enumerate(output.sequences[:, width:].tolist())
        ]

    def _reply(
        self, sequence: list[int], prompt_tokens: int, seconds: float, likely: tuple[torch.Tensor, torch.Tensor] | None
    ) -> ChatReply:
        tokenizer = self.processor.tokenizer
        ends = _end_tokens(self.model, tokenizer)
        length = next((place for place, token in enumerate(sequence) if token in ends), len(sequence))
        kept = sequence[:length]
        text = str(tokenizer.decode(kept, skip_special_tokens=True))
        tokens: tuple[TokenChoice, ...] = ()
        if likely is not None:
            pieces = [str(tokenizer.decode([token])) for token in kept]
            # Where bytes of one character are spread over tokens, their texts do not add up, and say nothing.
            if "".join(pieces) == text:
                tokens = tuple(
                    TokenChoice(piece, _alternatives(tokenizer, *(part[place] for part in likely)))
                    for place, piece in enumerate(pieces)
                )
        complete = length < len(sequence)
        return ChatReply(text, prompt_tokens, length + complete, seconds, complete=complete, tokens=tokens)


def _likely(logits: Sequence[torch.Tensor], count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """log-probabilities and ids of the most likely tokens, each (B, T, count)."""
    logprobs = torch.log_softmax(torch.stack(list(logits), dim=1).float(), dim=-1)
    values, ids = logprobs.topk(min(count, logprobs.shape[-1]), dim=-1)
    return values.cpu(), ids.cpu()


def _alternatives(tokenizer: Any, values: torch.Tensor, ids: torch.Tensor) -> dict[str, float]:
    return {str(tokenizer.decode([token])): value for token, value in zip(ids.tolist(), values.tolist(), strict=True)}


def _end_tokens(model: PreTrainedModel, tokenizer: Any) -> set[int]:
    ends: Any = model.generation_config.eos_token_id if model.generation_config is not None else None
    listed = ends if isinstance(ends, list) else [ends]
    return {token for token in (*listed, tokenizer.eos_token_id) if token is not None}


def _placeholders(model: PreTrainedModel) -> list[int]:
    """Tokens that stand for photos: sampled, they would be taken for one."""
    names = ("image_token_id", "video_token_id", "image_token_index")
    found = [getattr(model.config, name, None) for name in names]
    return sorted({token for token in found if isinstance(token, int)})
