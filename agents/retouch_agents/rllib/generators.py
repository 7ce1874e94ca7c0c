"""What an env runner samples with: the policy in the process, or its twin behind a server."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeAlias, runtime_checkable

from transformers import PreTrainedModel

from retouch_agents.adapters import save_adapter
from retouch_agents.chat import ConversationFormat
from retouch_agents.encoding import Prompt
from retouch_agents.finetuning import has_adapter
from retouch_agents.generation import Completion, Generator, TransformersGenerator, placeholder_ids
from retouch_agents.rllib.conversing import Chat
from retouch_agents.serving import EndpointGenerator, EndpointSettings, GenerationError
from retouch_gym.errors import ConfigurationError

GeneratorFactory: TypeAlias = Callable[[PreTrainedModel, Chat], Generator]
"""From a runner's policy and chat format to what answers in its place; has to be picklable."""

GeneratorChoice: TypeAlias = EndpointSettings | GeneratorFactory | None
"""None: the policy itself, in the process."""


@runtime_checkable
class Follower(Protocol):
    """A generator whose weights are its own: it is told when the policy's have changed."""

    def follow(self, policy: PreTrainedModel) -> None:
        """Answer with the weights that the policy has now, from the next call on."""
        ...

    def close(self) -> None:
        """Give back what it holds elsewhere. Called when its runner stops."""
        ...


class ServedPolicy:
    """The twin of a runner's policy behind a server; a `Generator` and a `Follower`.

    Every runner has an adapter of its own there, so that runners may hold different weights for a while.

    Args:
        settings: The server; it serves the policy's base.
        policy: The runner's policy, with a low-rank adapter.
        chat: The runner's chat format.

    Raises:
        ConfigurationError: If the policy has no adapter, or ``wire="chat"`` and the chat format no tokenizer.
    """

    def __init__(self, settings: EndpointSettings, policy: PreTrainedModel, chat: Chat) -> None:
        if not has_adapter(policy):
            raise ConfigurationError(
                "A server answers with the policy's weights only if they can be pushed to it, which goes for low-rank "
                "adapters alone: train one (lora_rank > 0), or leave out generator=… to sample in the runners."
            )
        write = chat.tokenizer.decode if isinstance(chat, ConversationFormat) else None
        self._endpoint = EndpointGenerator(
            settings, eos_ids=[chat.eos_id], suppressed=placeholder_ids(policy), write=write
        )
        self._name = f"policy-{uuid.uuid4().hex[:12]}"
        self._pushed = 0
        self._folder: TemporaryDirectory[str] | None = None

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        group_size: int = 1,
        temperature: float = 1.0,
        max_new_tokens: int = 128,
        seeds: Sequence[int] | None = None,
    ) -> list[Completion]:
        """Draw answers; see `EndpointGenerator.generate`."""
        return self._endpoint.generate(
            prompts, group_size=group_size, temperature=temperature, max_new_tokens=max_new_tokens, seeds=seeds
        )

    def follow(self, policy: PreTrainedModel) -> None:
        """Push the policy's adapter.

        Raises:
            GenerationError: If the server does not take it.
        """
        self._pushed += 1
        folder = TemporaryDirectory(prefix=f"{self._name}-", dir=self._endpoint.settings.adapter_folder)
        save_adapter(policy, str(policy.name_or_path), Path(folder.name))
        self._endpoint.push_adapter(folder.name, f"{self._name}-{self._pushed}")
        # A server that runs out of places drops an adapter and reads it again: its folder stays while it is in use.
        before, self._folder = self._folder, folder
        if before is not None:
            before.cleanup()

    def close(self) -> None:
        """Take the adapter off the server, if that still answers, and its folder off the disk."""
        with suppress(GenerationError):
            self._endpoint.drop_adapter()
        self._endpoint.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def make_generator(choice: GeneratorChoice, policy: PreTrainedModel, chat: Chat, *, max_rows: int) -> Generator:
    """What a runner samples with.

    Args:
        choice: See `GeneratorChoice`.
        policy: The runner's policy.
        chat: The runner's chat format.
        max_rows: Most answers that are drawn at a time in the process.

    Raises:
        ConfigurationError: If a server cannot answer in place of this policy.
    """
    if choice is None:
        return TransformersGenerator(policy, pad_id=chat.pad_id, eos_ids=[chat.eos_id], max_rows=max_rows)
    if isinstance(choice, EndpointSettings):
        return ServedPolicy(choice, policy, chat)
    return choice(policy, chat)
