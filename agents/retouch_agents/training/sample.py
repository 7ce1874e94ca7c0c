"""What the model sees first: one task of a stage, encoded as it will be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from retouch_agents.chat import ChatFormat, ConversationFormat
from retouch_agents.encoding import Prompt
from retouch_agents.errors import ModelError
from retouch_agents.prompts import build_messages
from retouch_agents.rllib.env_runner import default_chat
from retouch_agents.training.config import EnvironmentConfig
from retouch_agents.training.memory import PromptSize, Shape
from retouch_agents.training.start import open_environment
from retouch_gym.chat import IEA_EDIT, Message, photos_of
from retouch_gym.spaces import MessagesSpace
from retouch_gym.types import Image

_CHARACTERS_PER_TOKEN = 3
"""Fewer than a token of English has on average, so that an estimate is rather too high."""

_PATCH_BYTES = 3 * 2 * 4
"""Bytes per pixel of an image tensor: three channels, the photo twice in time, float32."""


@dataclass(frozen=True)
class Sample:
    """One task as the model meets it.

    Args:
        task_id: Its id.
        instruction: What the user asks for.
        photo: The first photo shown, uint8 (H, W, 3).
        text: The prompt in the model's own tokens, runs of image tokens folded; without a processor, the messages.
        size: How large it is.
        measured: Whether tokens were counted; otherwise they are estimated.
        answer_tokens: Tokens of the dataset's own answer; None if it has none, or without a processor.
    """

    task_id: str
    instruction: str
    photo: Image | None
    text: str
    size: PromptSize
    measured: bool
    answer_tokens: int | None = None


def draw_sample(environment: EnvironmentConfig, model: str | Path, shape: Shape | None) -> Sample:
    """Encode the first task of an environment.

    Args:
        environment: The environment.
        model: Folder or id of the model; its processor is used if it is on this machine.
        shape: Of the model, to estimate tokens where there is no processor.

    Raises:
        ConfigurationError: If the environment cannot be made.
        DatasetError: If its tasks are not there.
    """
    env = open_environment(environment)
    try:
        observation, info = env.reset(seed=0, options={"index": 0} if _has_tasks(env) else None)
        instruction = _instruction(env, observation)
        photo = _first_photo(observation)
        task_id = str(info.get("task_id", ""))
        try:
            chat: Any = default_chat(str(model), env)
        except ModelError:
            text, size = _estimate(env, observation, shape)
            return Sample(task_id, instruction, photo, text, size, measured=False)
        prompt = chat.encode(observation)
        text = fold(chat, prompt) if isinstance(chat, ConversationFormat) else ""
        return Sample(task_id, instruction, photo, text, _measure(prompt), True, _answer_tokens(env, chat))
    finally:
        env.close()


def fold(chat: ConversationFormat, prompt: Prompt) -> str:
    """The prompt as text with its special tokens, a run of image tokens as ``<|image_pad|>×16``."""
    tokenizer = chat.tokenizer
    parts: list[str] = []
    special = set(tokenizer.all_special_ids)
    for token, run in groupby(prompt.input_ids.tolist(), key=lambda index: index if index in special else -1):
        ids = list(run)
        if token < 0:
            parts.append(str(tokenizer.decode(ids)))
        else:
            name = str(tokenizer.convert_ids_to_tokens(token))
            parts.append(name if len(ids) == 1 else f"{name}×{len(ids)}")
    return "".join(parts)


def _has_tasks(env: Any) -> bool:
    return getattr(env.unwrapped, "dataset", None) is not None


def _instruction(env: Any, observation: Any) -> str:
    if isinstance(observation, Mapping):
        return str(observation.get("instruction", ""))
    episode = getattr(env.unwrapped, "episode", None)
    return "" if episode is None else str(episode.task.instruction)


def _first_photo(observation: Any) -> Image | None:
    if isinstance(observation, Mapping):
        found = observation.get("image")
        return found if isinstance(found, np.ndarray) else None
    photos = photos_of(observation)
    return photos[0] if photos else None


def _answer_tokens(env: Any, chat: Any) -> int | None:
    episode = getattr(env.unwrapped, "episode", None)
    if episode is None or episode.task.recipe is None or not isinstance(chat, ChatFormat):
        return None
    return len(chat.target(episode.task.reasoning, episode.task.recipe))


def _measure(prompt: Prompt) -> PromptSize:
    return PromptSize(len(prompt.input_ids), sum(int(array.nbytes) for array in prompt.features.values()))


def _estimate(env: Any, observation: Any, shape: Shape | None) -> tuple[str, PromptSize]:
    if isinstance(env.observation_space, MessagesSpace):
        messages: Sequence[Message] = observation
        photos = [photo.shape[:2] for photo in photos_of(messages)]
    else:
        messages = build_messages(observation, IEA_EDIT, env.unwrapped.toolset)
        photos = [photo.size[::-1] for photo in photos_of(messages)]
    side = (shape.pixels_per_token if shape else None) or 28
    images = [math.ceil(height / side) * math.ceil(width / side) for height, width in photos]
    lines: list[str] = []
    shown = iter(images)
    for message in messages:
        lines.append(f"[{message['role']}]")
        for block in message["content"]:
            lines.append(f"<photo, about {next(shown)} tokens>" if block["type"] == "image" else block["text"])
    text = "\n".join(lines)
    tokens = len(text) // _CHARACTERS_PER_TOKEN + sum(images)
    return text, PromptSize(tokens, sum(images) * side**2 * _PATCH_BYTES)
