"""The client: a session on a server of `retouch_gym.adapters.openenv.server`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openenv.core.client_types import StepResult
from openenv.core.env_client import EnvClient

from retouch_gym.adapters.openenv.models import RetouchAction, RetouchObservation, RetouchState
from retouch_gym.adapters.photos import from_base64_png
from retouch_gym.types import Action, Image


@dataclass(frozen=True, eq=False)
class Seen:
    """What the agent sees. See `RetouchEnv` for the meanings; photos are read-only, copy them before writing.

    Attributes:
        image: The photo as it is now, uint8 (H, W, 3) sRGB.
        original: The photo before any edit, uint8 (H, W, 3) sRGB.
        context: Further photos of the task, each uint8 (H, W, 3) sRGB.
        task: What is asked of the agent, for instance ``"edit"``.
        instruction: What the user asks for.
        history: Earlier requests, a JSON list.
        feedback: What came of the last turn.
        recipe: The controls that are set, a JSON object.
        turns_left: Turns until the episode ends by itself.
        task_id: The task's id.
        kind: Class of task, for breakdowns.
        tool_error: Why the last turn was refused; None if it was not.
    """

    image: Image
    original: Image
    context: tuple[Image, ...]
    task: str
    instruction: str
    history: str
    feedback: str
    recipe: str
    turns_left: int
    task_id: str
    kind: str
    tool_error: str | None


class RetouchClient(EnvClient[Action, Seen, RetouchState]):
    """A session of its own on the server; see `openenv.core.env_client.EnvClient` for the arguments.

    ``reset(seed=…, task_id=…)`` or ``reset(index=…)`` begins an episode, ``step`` takes an action of
    `retouch_gym` (a `ToolCall`, a list of them, an `Unparsable`) or a `RetouchAction`. Both return a
    `StepResult`: ``observation`` is a `Seen`; ``reward`` is None after a reset and where it could not be scored;
    ``metadata`` says at the end what came of the episode, see `RetouchObservation`.

    Raises:
        RuntimeError: From ``reset`` and ``step``, if the server refuses the message; it says why.
        ConnectionError: If the server cannot be reached or is full.
    """

    def __init__(self, base_url: str | None = None, **options: Any) -> None:
        super().__init__(base_url, **options)
        self._photos: dict[str, Image] = {}

    def _step_payload(self, action: Action | RetouchAction) -> dict[str, Any]:
        message = action if isinstance(action, RetouchAction) else RetouchAction.of(action)
        payload: dict[str, Any] = message.model_dump(exclude_defaults=True)
        return payload

    def _parse_result(self, payload: Mapping[str, Any]) -> StepResult[Seen]:
        told = RetouchObservation.model_validate(payload["observation"])
        # Most photos were in the last message too, so they are decoded once and kept until the next.
        known, self._photos = self._photos, {}
        for text in (told.image, told.original, *told.context):
            if text not in self._photos:
                self._photos[text] = known[text] if text in known else _read_only(from_base64_png(text))
        seen = Seen(
            image=self._photos[told.image],
            original=self._photos[told.original],
            context=tuple(self._photos[text] for text in told.context),
            task=told.task,
            instruction=told.instruction,
            history=told.history,
            feedback=told.feedback,
            recipe=told.recipe,
            turns_left=told.turns_left,
            task_id=told.task_id,
            kind=told.kind,
            tool_error=told.tool_error,
        )
        return StepResult(seen, payload["reward"], payload["done"], told.metadata)

    def _parse_state(self, payload: Mapping[str, Any]) -> RetouchState:
        state: RetouchState = RetouchState.model_validate(payload)
        return state


def _read_only(photo: Image) -> Image:
    photo.flags.writeable = False
    return photo
