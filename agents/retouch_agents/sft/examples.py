"""From demonstrations to what one forward pass learns from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from retouch_agents.chat import ChatFormat, ConversationFormat
from retouch_agents.encoding import Prompt, collate
from retouch_agents.models import load_processor
from retouch_gym.chat import Message
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.errors import DatasetError

Demonstration: TypeAlias = tuple[Sequence[Message], str] | list[Message]
"""A conversation that ends where the model begins, and what it should answer; or, as a list, a whole conversation, of
which every turn of the assistant is learned."""


class Demonstrations(Protocol):
    """Conversations with their right answers. Picklable; item i is the same in every process."""

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def __getitem__(self, index: int) -> Demonstration:
        """One of them, 0 ≤ index < len. See `Demonstration`."""
        ...


@dataclass(frozen=True, eq=False)
class Example:
    """One encoded demonstration: a sequence of tokens, of which some are learned.

    Args:
        prompt: All that comes before the last answer, earlier answers and photos included.
        answer: Token ids of the last answer with its end token, int64 (A,).
        earlier: (start, end) of the answers in `prompt` that are learned as well, in order.
    """

    prompt: Prompt
    answer: NDArray[np.int64]
    earlier: tuple[tuple[int, int], ...] = ()

    @property
    def length(self) -> int:
        """Tokens of the sequence; a photo counts as its image tokens."""
        return len(self.prompt.input_ids) + len(self.answer)

    @property
    def learned(self) -> int:
        """Tokens that carry loss."""
        return len(self.answer) + sum(end - start for start, end in self.earlier)


def stack(examples: Sequence[Example], pad_id: int, *, tight: bool = False) -> dict[str, torch.Tensor]:
    """One padded batch, see `retouch_agents.encoding.collate`; ``completion_mask`` is True on learned tokens.

    Args:
        examples: B of them, with at most P tokens of a prompt, A of an answer and T of both.
        pad_id: Token id of padding.
        tight: Let all sequences end in the same column instead of all prompts: T columns and not P + A.
    """
    if tight:
        batch = collate([example.prompt.then(example.answer) for example in examples], pad_id)
        batch["completion_mask"] = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    else:
        batch = collate([example.prompt for example in examples], pad_id, [example.answer for example in examples])
    width = batch["input_ids"].shape[1] - (0 if tight else max(len(example.answer) for example in examples))
    for row, example in enumerate(examples):
        prompt = len(example.prompt.input_ids)
        offset = width - (example.length if tight else prompt)
        for start, end in [*example.earlier, (prompt, example.length)]:
            batch["completion_mask"][row, offset + start : offset + end] = True
    return batch


class Examples(Dataset[Example]):
    """What is learned from, by steps. Picklable; opens what it needs in each process.

    Args:
        folder: The model's folder, for its processor and prompt.
        data: Arguments of `RetouchEnv`, whose tasks' recipes are the right answers; or `Demonstrations`.
        steps: The optimizer steps that are fed.
        batch_size: Examples of each.
    """

    def __init__(
        self, folder: str | Path, data: Mapping[str, Any] | Demonstrations, steps: range, batch_size: int
    ) -> None:
        self.folder = str(folder)
        self.data = data
        self.first = steps.start * batch_size
        self.count = len(steps) * batch_size
        self._source: tuple[int, Callable[[int], Example]] | None = None

    @property
    def size(self) -> int:
        """How many different examples the data has; they come again after the last one."""
        return self._opened()[0]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        size, example = self._opened()
        return example((self.first + index) % size)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_source": None}

    def _opened(self) -> tuple[int, Callable[[int], Example]]:
        if self._source is None:
            self._source = self._tasks(self.data) if isinstance(self.data, Mapping) else self._shown(self.data)
            if not self._source[0]:
                raise DatasetError("There is nothing to learn from: the data is empty. SFT needs an example at least.")
        return self._source

    def _tasks(self, env_config: Mapping[str, Any]) -> tuple[int, Callable[[int], Example]]:
        env = RetouchEnv(**env_config)
        chat = ChatFormat.from_pretrained(self.folder, env.toolset)

        def example(index: int) -> Example:
            observation, _ = env.reset(options={"index": index})
            task = env.episode.task
            if task.recipe is None:
                raise DatasetError(f"Task {task.id!r} has no recipe to learn from; SFT needs a dataset with recipes.")
            return Example(_bare(chat.encode(observation)), chat.target(task.reasoning, task.recipe))

        return len(env.dataset), example

    def _shown(self, demonstrations: Demonstrations) -> tuple[int, Callable[[int], Example]]:
        chat = ConversationFormat(load_processor(self.folder))
        return len(demonstrations), lambda index: encode(chat, demonstrations[index])


def encode(chat: ConversationFormat, demonstration: Demonstration) -> Example:
    """One demonstration as tokens. Those of photos and of what others say are never learned.

    Args:
        chat: The model's format.
        demonstration: One answer with what comes before it; or a conversation, whose turns are encoded one after the
            other, as they are when a model plays: no token of an earlier turn is written anew.

    Raises:
        DatasetError: If a conversation does not end with the assistant, or gives it two turns in a row, or the first.
    """
    if isinstance(demonstration, tuple):
        messages, answer = demonstration
        return Example(_bare(chat.encode(messages)), chat.answer(answer))
    turns = [index for index, message in enumerate(demonstration) if message["role"] == "assistant"]
    between = [end - start for start, end in pairwise([-1, *turns])]
    if not turns or turns[-1] != len(demonstration) - 1 or min(between) < 2:
        raise DatasetError(
            f"A conversation with the roles {', '.join(message['role'] for message in demonstration)} cannot be "
            "learned from; expected turns of others, then one of the assistant, and so on, with the assistant last."
        )
    prompt, earlier = chat.encode(demonstration[: turns[0]]), []
    for turn, following in pairwise(turns):
        tokens = chat.answer(_said(demonstration[turn]))
        start = len(prompt.input_ids)
        earlier.append((start, start + len(tokens)))
        prompt = chat.follow(prompt, tokens, demonstration[turn + 1 : following])
    return Example(_bare(prompt), chat.answer(_said(demonstration[-1])), tuple(earlier))


def _said(message: Message) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


def _bare(prompt: Prompt) -> Prompt:
    # Photos are in the features already; their pixels would travel between processes a second time.
    return replace(prompt, photos=())
