"""Policies for evaluation: from a batch of observations to a batch of actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retouch_agents.chat import ChatFormat
from retouch_agents.generation import Generator, TransformersGenerator
from retouch_agents.models import load_model
from retouch_gym.evaluation.evaluate import Policy
from retouch_gym.tools.toolset import Toolset, get_toolset
from retouch_gym.types import Action

Observation = Mapping[str, Any]
"""An observation of `Retouch/Retouch-v0`."""


class AgentPolicy:
    """A language model that answers greedily.

    Args:
        generator: Samples tokens from the model.
        chat: How the model is spoken to.
        max_new_tokens: Longest answer in tokens.
        batch_size: Observations per forward pass.
    """

    def __init__(self, generator: Generator, chat: ChatFormat, max_new_tokens: int = 96, batch_size: int = 64) -> None:
        self.generator = generator
        self.chat = chat
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        toolset: str | Toolset = "iea",
        *,
        max_new_tokens: int = 96,
        batch_size: int = 64,
        device: str = "cpu",
    ) -> AgentPolicy:
        """The policy of a model's folder, or of an adapter's.

        Args:
            folder: As for `retouch_agents.models.load_model`.
            toolset: Its tools.
            max_new_tokens: Longest answer in tokens.
            batch_size: Observations per forward pass.
            device: Where the model runs.

        Raises:
            ModelError: If nothing loadable is there.
        """
        chat = ChatFormat.from_pretrained(folder, get_toolset(toolset))
        model = load_model(folder, device=device).eval()
        generator = TransformersGenerator(model, pad_id=chat.pad_id, eos_ids=[chat.eos_id])
        return cls(generator, chat, max_new_tokens, batch_size)

    def __call__(self, observations: Sequence[Observation]) -> list[Action]:
        """Answer each observation; what cannot be parsed becomes an `Unparsable`."""
        actions: list[Action] = []
        for start in range(0, len(observations), self.batch_size):
            batch = observations[start : start + self.batch_size]
            prompts = [self.chat.encode(observation) for observation in batch]
            answers = self.generator.generate(
                prompts, group_size=1, temperature=0.0, max_new_tokens=self.max_new_tokens
            )
            actions += [
                self.chat.parse(self.chat.decode(answer.token_ids), observation.get("task", "edit"))
                for observation, answer in zip(batch, answers, strict=True)
            ]
        return actions


def blindfold(policy: Policy) -> Policy:
    """The same policy with every photo replaced by mid-grey: what is left is what it reads from the words."""

    def blind(observations: Sequence[Observation]) -> Sequence[Action]:
        return policy([_without_photos(observation) for observation in observations])

    return blind


def _without_photos(observation: Observation) -> dict[str, Any]:
    grey: dict[str, Any] = {name: np.full_like(observation[name], 128) for name in ("image", "original")}
    if "context" in observation:
        grey["context"] = tuple(np.full_like(photo, 128) for photo in observation["context"])
    return {**observation, **grey}
