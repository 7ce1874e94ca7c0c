"""EditReward from a folder: a vision-language model without its words, and a head on one of its hidden states."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, ProcessorMixin

from retouch_gym.chat import photos_of, to_pil, user_message
from retouch_gym.errors import ImageError
from retouch_reward_models.backends.tiny_processor import register_tiny_processor
from retouch_reward_models.cases import Case
from retouch_reward_models.errors import BackendError
from retouch_reward_models.judges.base import check_positive
from retouch_reward_models.judges.edit_judge import FIELD
from retouch_reward_models.judges.edit_reward import Rater, Rating
from retouch_reward_models.judges.edit_reward_head import HeadConfig, ScoringHead, load_head
from retouch_reward_models.quoting import quote


class EditRewardModel(Rater):
    """Rates edits with a local model. Open one with `from_pretrained`.

    Every dimension is one forward pass over the photo before, the photo after and the dimension's question; the hidden
    state of the head's token, after the last norm, goes through the dimension's head in float32. Ratings are the same
    in any batch up to the rounding of padded arithmetic; ``batch_size=1`` makes them equal.

    Known from the public repository TIGER-AI-Lab/EditReward: the two photos come before the text, the photos are
    resized to about 200,704 pixels each (set ``min_pixels`` and ``max_pixels`` of the processor so), the head reads a
    special token ``<|Reward|>`` behind the question. Assumed: that the folder's processor knows that token.

    Args:
        model: The backbone.
        processor: Its processor.
        head: The head; its dimensions are the config's.
        config: Questions and token.
        folder: Where all of it was read from; a pickled copy reads it again.
        batch_size: Edits per forward pass.

    Raises:
        BackendError: If the head does not fit the backbone or the processor does not know the token.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        head: ScoringHead,
        config: HeadConfig,
        *,
        folder: str = "",
        batch_size: int = 8,
    ) -> None:
        self.name = folder or type(model).__name__
        self.dimensions = tuple(config.questions)
        self.folder = folder
        self.config = config
        self.batch_size = check_positive("batch_size", batch_size)
        self._model: Any = model.eval()
        self._processor: Any = processor
        self._processor.tokenizer.padding_side = "left"
        self._head = head.to(model.device).eval()
        self._token = self._token_id(config.token)
        width = model.config.get_text_config().hidden_size
        if head.hidden_size != width:
            raise BackendError(f"The head takes {head.hidden_size} numbers, the model's hidden states have {width}.")

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, device: str = "cpu", dtype: str = "float32", batch_size: int = 8
    ) -> EditRewardModel:
        """Read backbone, processor and head from a folder. Its code is never run and nothing is unpickled.

        Args:
            folder: Holds a model in safetensors, its processor, and the two files that `save_head` writes.
            device: Where the weights go.
            dtype: Type of the backbone's weights, a name in torch; the head stays float32.
            batch_size: Edits per forward pass.

        Raises:
            BackendError: If a part is missing or does not fit the others.
        """
        register_tiny_processor()
        path = str(folder)
        try:
            processor = AutoProcessor.from_pretrained(path, trust_remote_code=False)
            model = AutoModelForImageTextToText.from_pretrained(
                path, dtype=getattr(torch, dtype), trust_remote_code=False, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise BackendError(f"No image-text-to-text model at {path!r} ({error}).") from error
        if not isinstance(processor, ProcessorMixin):
            raise BackendError(f"The processor of {path!r} is a {type(processor).__name__}, which reads no photos.")
        torch.nn.Module.to(model, device)
        head, config = load_head(folder)
        return cls(model, processor, head, config, folder=path, batch_size=batch_size)

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.folder:
            raise BackendError("An EditRewardModel that came from no folder cannot be pickled; use from_pretrained.")
        return _reload, (self.folder, str(self._model.device), str(self._model.dtype)[6:], self.batch_size)

    def rate(self, cases: Sequence[Case]) -> list[Rating]:
        """See `Rater.rate`. A batch that fails is tried again one by one, to find out whose fault it is."""
        starts = range(0, len(cases), self.batch_size)
        return [rating for start in starts for rating in self._rate(cases[start : start + self.batch_size])]

    def _rate(self, cases: Sequence[Case]) -> list[Rating]:
        started = time.perf_counter()
        try:
            found = {name: self._forward(cases, name) for name in self.dimensions}
        except (ValueError, RuntimeError, IndexError) as error:
            if len(cases) == 1:
                return [Rating(error=f"{type(error).__name__}: {error}", seconds=time.perf_counter() - started)]
            return [rating for case in cases for rating in self._rate([case])]
        seconds = (time.perf_counter() - started) / len(cases)
        return [
            Rating(
                {name: rows[number][0] for name, rows in found.items()},
                {name: rows[number][1] for name, rows in found.items()},
                seconds=seconds,
            )
            for number in range(len(cases))
        ]

    def _forward(self, cases: Sequence[Case], dimension: str) -> list[list[float]]:
        """Mean and uncertainty of each case, finite."""
        conversations = [to_pil([self._message(case, dimension)]) for case in cases]
        texts = [
            self._processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            for messages in conversations
        ]
        photos = [photos_of(messages) for messages in conversations]
        inputs = self._processor(text=texts, images=photos, return_tensors="pt", padding=True).to(self._model.device)
        with torch.inference_mode():
            hidden = self._model.base_model(**inputs).last_hidden_state
            places = self._places(inputs["input_ids"], inputs["attention_mask"])
            rated = self._head(hidden[torch.arange(len(cases)), places].float(), dimension)
        rows: list[list[float]] = rated.double().tolist()
        # An uncertainty that overflowed says nothing about the mean, which alone has to be a number.
        if not torch.isfinite(rated[:, 0]).all():
            raise ValueError(f"the head's means for {dimension!r} are {rated[:, 0].tolist()}, expected finite numbers")
        return rows

    def _message(self, case: Case, dimension: str) -> dict[str, Any]:
        if len(case.candidates) != 1:
            raise ImageError(f"The case has {len(case.candidates)} candidates, expected one photo after the edit.")
        text = self.config.questions[dimension].replace(FIELD, quote(case.instruction)) + (self.config.token or "")
        return user_message(text, [case.before, case.candidates[0]])

    def _places(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Which token of each row is rated, (B,)."""
        if self._token is None:
            return (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(dim=1)
        hits = (ids == self._token) & mask.bool()
        if not (hits.sum(dim=1) == 1).all():
            raise ValueError(f"the prompt holds {self.config.token!r} {hits.sum(dim=1).tolist()} times, expected once")
        return hits.int().argmax(dim=1)

    def _token_id(self, token: str | None) -> int | None:
        if token is None:
            return None
        tokenizer = self._processor.tokenizer
        if token not in tokenizer.get_vocab():
            raise BackendError(f"The tokenizer of {self.name!r} does not know the head's token {token!r}.")
        return int(tokenizer.convert_tokens_to_ids(token))


def _reload(folder: str, device: str, dtype: str, batch_size: int) -> EditRewardModel:
    return EditRewardModel.from_pretrained(folder, device=device, dtype=dtype, batch_size=batch_size)
