"""An episode as a conversation in OpenAI's chat format: what the model is shown, and how its answers are read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from retouch_gym.adapters.photos import data_url
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.errors import RetouchError, RewardError
from retouch_gym.tools.toolset import SUMMARY
from retouch_gym.types import Action, Image, ToolCall, Unparsable

Message: TypeAlias = dict[str, Any]
"""A message of OpenAI's chat API, JSON-able."""

LABELS: Mapping[str, tuple[str, ...]] = {
    "match": ("The goal:",),
    "transfer": ("The example before:", "The example after:"),
    "summary": ("The photo after:",),
}
"""How the further photos of a task are introduced, by mode."""


class Rollout:
    """One episode in progress.

    Args:
        env: The environment to play in; it is reset.
        task_id: The task.
        seed: Seed of the episode.

    Attributes:
        observation: What the environment showed last.
        over: Whether the episode ended, or cannot go on.
        reward: Sum of the rewards so far.
        components: The reward's components, once it was paid.
        finished: Whether the agent ended the episode itself.
        turns: Number of answers taken.
        refused: Number of answers that were refused.

    Raises:
        DatasetError: If there is no such task.
        ConfigurationError: If the reward needs a reference that the task lacks.
        ImageError: If its photo cannot be read.
        RendererError: If its photo cannot be rendered.
    """

    def __init__(self, env: RetouchEnv, task_id: str, seed: int) -> None:
        self.env = env
        self.observation, _ = env.reset(seed=seed, options={"task_id": task_id})
        self.over = self.finished = False
        self.reward = 0.0
        self.components: dict[str, float] = {}
        self.turns = self.refused = 0
        self._error: RetouchError | None = None

    @property
    def tools(self) -> list[dict[str, Any]]:
        """What may be called, as the ``tools`` of a chat API."""
        toolset = SUMMARY if self.observation["task"] == "summary" else self.env.toolset
        return [spec.to_openai() for spec in toolset.specs]

    def opening(self, request: str) -> Message:
        """The first message: the photos of the task, earlier requests if there are any, and the request."""
        seen = self.observation
        labels = ("The photo:", *LABELS.get(seen["task"], ()))
        parts: list[Message] = []
        for number, photo in enumerate((seen["image"], *seen["context"])):
            parts += [_text(labels[number] if number < len(labels) else "Another photo:"), _photo(photo)]
        earlier = json.loads(seen["history"])
        if earlier:
            parts.append(_text(f"Earlier requests: {' '.join(earlier)}"))
        if seen["recipe"] != "{}":
            parts.append(_text(f"Sliders that are set: {seen['recipe']}"))
        parts.append(_text(request))
        return {"role": "user", "content": parts}

    def answer(self, message: Mapping[str, Any]) -> list[Message]:
        """Take one answer of the model, one turn.

        What the machine does wrong (a reward or a renderer that fails) ends the episode; `settle` raises it.

        Args:
            message: The assistant's message, with ``content`` and ``tool_calls``.

        Returns:
            What the model is shown next: a result for every call, the last with feedback and photo, and what
            the user says; a single user message if nothing was called.
        """
        calls: Sequence[Mapping[str, Any]] = message.get("tool_calls") or ()
        said = self.observation["history"]
        self.turns += 1
        refused = self._step(read_action(calls, message.get("content")))
        self.refused += refused
        seen = self.observation
        result = [_text(f"{seen['feedback']} Turns left: {seen['turns_left']}.")]
        if not refused:
            result.append(_photo(seen["image"]))
        if not calls:
            return [{"role": "user", "content": result}]
        replies = [_result(call, "See the result of the last call of this message.") for call in calls[:-1]]
        replies.append(_result(calls[-1], result))
        # A user who looked at the photo may ask again in the same words, so it is the history that tells.
        if seen["history"] != said:
            replies.append({"role": "user", "content": [_text(seen["instruction"])]})
        return replies

    def settle(self) -> None:
        """See to it that the episode is over: one that was cut off does nothing in the turns it has left.

        Raises:
            RewardError: If it could not be scored.
            RetouchError: Another, if it could not be rendered or its user could not speak.
        """
        while not self.over:
            self._step([])
        if self._error is not None:
            raise self._error

    def _step(self, action: Action) -> bool:
        """Take a turn; returns whether it was refused."""
        try:
            self.observation, reward, terminated, truncated, info = self.env.step(action)
        except RetouchError as error:
            self._error, self.over = error, True
            return False
        self.reward += reward
        self.over = terminated or truncated
        if self.over and not info["reward_valid"]:
            self._error = RewardError(info["reward_error"])
        elif self.over:
            self.components, self.finished = dict(info["reward_components"]), info["finished"]
        return info["tool_error"] is not None


def read_action(calls: Sequence[Mapping[str, Any]], text: str | None) -> Action:
    """The action that an answer stands for. Never raises: what cannot be read is `Unparsable`.

    Args:
        calls: Entries of the answer's ``tool_calls``.
        text: The answer's text.
    """
    if not calls:
        return Unparsable("the answer calls no tool; call one or more", text or "")
    plan = []
    for call in calls:
        function = call.get("function") or {}
        name, written = function.get("name", ""), function.get("arguments") or "{}"
        try:
            arguments = json.loads(written)
        except (ValueError, RecursionError) as error:
            return Unparsable(f"{name}: the arguments are no JSON ({error})", written)
        plan.append(ToolCall(name, arguments))
    return plan


def _text(text: str) -> Message:
    return {"type": "text", "text": text}


def _photo(image: Image) -> Message:
    return {"type": "image_url", "image_url": {"url": data_url(image)}}


def _result(call: Mapping[str, Any], content: str | list[Message]) -> Message:
    return {"role": "tool", "tool_call_id": call["id"], "content": content}
