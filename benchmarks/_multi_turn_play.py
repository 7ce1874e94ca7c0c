"""Playing conversations of several turns, by agents and by scripts, and tampering with what is seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _unknown_response import RESPONSES, SLIDER, felt, hidden_response, probe_of, target_of, write
from numpy.typing import NDArray

from retouch_agents.chat import ConversationFormat
from retouch_agents.generation import TransformersGenerator
from retouch_agents.models import load_model, load_processor
from retouch_gym.chat import Message, photos_of
from retouch_gym.envs.base import step_together
from retouch_gym.envs.chat import ChatEnv
from retouch_gym.recipes import Recipe
from retouch_gym.renderers import get_renderer
from retouch_gym.rewards.distance import pixel_distance
from retouch_gym.tasks import Task
from retouch_gym.tools.iea import IEA
from retouch_gym.types import Image

BATCH = 64
"""Episodes that are played side by side."""

Conversation = Sequence[Message]
Policy = Callable[[Sequence[Task], Sequence[Conversation]], Sequence[str]]
"""Conversations in, answers out. Scripts may look into the tasks; agents do not."""

Tamper = Callable[[Task, Conversation], Conversation]
"""Changes what is seen before a second answer."""


@dataclass(frozen=True)
class Played:
    """What became of episodes, in the order of the tasks.

    Args:
        rewards: Reward at the end, float64 (N,).
        refused: Share of answers that were refused.
        responses: The hidden response of each episode, float64 (N,).
        texts: The answers of each episode.
        photos: The photos that each conversation showed: before, and after each turn, uint8 (H, W, 3).
    """

    rewards: NDArray[np.float64]
    refused: float
    responses: NDArray[np.float64]
    texts: list[list[str]]
    photos: list[list[Image]]


def play(policy: Policy, options: dict[str, Any], tamper: Tamper | None = None) -> Played:
    """Play every task of a dataset once.

    Args:
        policy: What answers.
        options: Arguments of ``Retouch/Chat-v0``.
        tamper: What is done to a conversation before a later answer; the environment does not know of it.
    """
    env = ChatEnv(**options)
    rewards, responses, texts, photos, refused = [], [], [], [], 0
    for start in range(0, len(env.dataset), BATCH):
        indices = range(start, min(start + BATCH, len(env.dataset)))
        envs = [env.spawn() for _ in indices]
        seen: list[Conversation] = [
            one.reset(options={"index": index})[0] for one, index in zip(envs, indices, strict=True)
        ]
        tasks = [one.episode.task for one in envs]
        for _ in range(env.max_turns):
            outcomes = step_together(envs, policy(tasks, seen))
            seen = [one.observation for one in envs]
            if tamper is not None:
                seen = [tamper(task, messages) for task, messages in zip(tasks, seen, strict=True)]
        # Every episode lasts as many turns as it may: there is no reason to finish early, and none is demonstrated.
        rewards += [outcome.reward for outcome in outcomes]
        responses += [hidden_response(task) for task in tasks]
        turns = [one.episode.turns for one in envs]
        texts += [[turn.text or "" for turn in done] for done in turns]
        refused += sum(turn.error is not None for done in turns for turn in done)
        photos += [list(photos_of(one.observation)) for one in envs]
    env.close()
    answers = sum(map(len, texts))
    return Played(np.array(rewards), refused / answers, np.array(responses), texts, photos)


class Agent:
    """A model folder that answers greedily, and never sees the task.

    Args:
        folder: The model.
        max_new_tokens: Most tokens of an answer.
    """

    def __init__(self, folder: Path, max_new_tokens: int = 48) -> None:
        self.chat = ConversationFormat(load_processor(folder))
        model = load_model(folder).eval()
        self.generator = TransformersGenerator(model, pad_id=self.chat.pad_id, eos_ids=[self.chat.eos_id])
        self.max_new_tokens = max_new_tokens

    def __call__(self, tasks: Sequence[Task], conversations: Sequence[Conversation]) -> list[str]:
        """Answer each conversation."""
        prompts = [self.chat.encode(messages) for messages in conversations]
        answers = self.generator.generate(prompts, temperature=0.0, max_new_tokens=self.max_new_tokens)
        return [self.chat.decode(answer.token_ids) for answer in answers]


def always(fraction: float) -> Policy:
    """The same share of what the words ask for, whatever is seen: the best of these is the best single answer."""

    def answer(tasks: Sequence[Task], conversations: Sequence[Conversation]) -> list[str]:
        return [write("", fraction * target_of(task)) for task in tasks]

    return answer


def measuring(tasks: Sequence[Task], conversations: Sequence[Conversation]) -> list[str]:
    """Try, compare the photo with what each response would have made of it, correct: what looking is worth at most.

    It does not use the hidden response, so it shows that the photos of a conversation say what there is to know.
    """
    return [_measured(task, photos_of(messages)) for task, messages in zip(tasks, conversations, strict=True)]


def _measured(task: Task, photos: Sequence[Image]) -> str:
    if len(photos) == 1:
        return write("", probe_of(task))
    expected = [probed(photos[0], task, response) for response in RESPONSES]
    distances = [pixel_distance(photo, photos[-1]) for photo in expected]
    return write("", target_of(task) / RESPONSES[int(np.argmin(distances))])


def probed(photo: Image, task: Task, response: float) -> Image:
    """The photo behind a probe, had the slider responded by `response`."""
    recipe = felt(Recipe(IEA.name, {SLIDER: probe_of(task)}), response)
    return get_renderer("native").render([photo], [recipe])[0]


def greyed(task: Task, messages: Conversation) -> Conversation:
    """The last photo replaced by mid-grey."""
    return _with_last_photo(messages, np.full_like(photos_of(messages)[-1], 128))


def swapped(task: Task, messages: Conversation) -> Conversation:
    """The last photo replaced by what another response, drawn independently, would have shown.

    Everything looks as in training, but what is seen says nothing about this episode.
    """
    rng = np.random.default_rng([0 if task.start is None else task.start.seed, 1])
    response = RESPONSES[int(rng.integers(len(RESPONSES)))]
    return _with_last_photo(messages, probed(photos_of(messages)[0], task, response))


def _with_last_photo(messages: Conversation, photo: Image) -> Conversation:
    *earlier, last = messages
    content = [{**block, "image": photo} if block["type"] == "image" else block for block in last["content"]]
    return [*earlier, {**last, "content": content}]
