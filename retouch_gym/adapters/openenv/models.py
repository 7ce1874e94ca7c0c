"""What travels between server and client. Everything is checked at both ends, and unknown fields are refused."""

from __future__ import annotations

from typing import Any

import pydantic
from openenv.core.env_server.types import Action as OpenEnvAction
from openenv.core.env_server.types import Observation as OpenEnvObservation
from openenv.core.env_server.types import State as OpenEnvState
from pydantic_core import PydanticCustomError

from retouch_gym.types import Action, ToolCall, Unparsable


class Call(pydantic.BaseModel):
    """One call of a tool.

    Attributes:
        name: Name of the tool.
        arguments: Its arguments. The environment, not this model, checks them against the tool's schema.
    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    arguments: dict[str, pydantic.JsonValue] = pydantic.Field(default_factory=dict)


class RetouchAction(OpenEnvAction):
    """One turn of the agent: one call, a plan of several, or an answer that held no call. Exactly one is given.

    Attributes:
        name: Name of the tool of a single call.
        arguments: Arguments of a single call.
        plan: Several calls, applied together or not at all.
        unparsable: Why no call could be read from the agent's answer; it becomes feedback and costs a turn.
    """

    name: str | None = None
    arguments: dict[str, pydantic.JsonValue] = pydantic.Field(default_factory=dict)
    plan: list[Call] | None = None
    unparsable: str | None = None

    @pydantic.model_validator(mode="after")
    def _one_of_three(self) -> RetouchAction:
        given = [name for name in ("name", "plan", "unparsable") if getattr(self, name) is not None]
        if len(given) != 1:
            # OpenEnv writes errors as JSON, which a ValueError in them would break.
            raise PydanticCustomError(
                "one_action", "give exactly one of name, plan and unparsable; got {given}", {"given": given or "none"}
            )
        if self.arguments and self.name is None:
            raise PydanticCustomError("arguments_without_name", "arguments go with name; a plan's calls have their own")
        return self

    @classmethod
    def of(cls, action: Action) -> RetouchAction:
        """The message for an action of `retouch_gym`.

        Raises:
            pydantic.ValidationError: If it cannot be written as JSON.
        """
        if isinstance(action, Unparsable):
            return cls(unparsable=action.reason)
        if isinstance(action, ToolCall):
            return cls(name=action.name, arguments=_json(action))
        return cls(plan=[Call(name=call.name, arguments=_json(call)) for call in action])

    def to_action(self) -> Action:
        """The action of `retouch_gym` that this stands for."""
        if self.unparsable is not None:
            return Unparsable(self.unparsable)
        if self.plan is not None:
            return [ToolCall(call.name, call.arguments) for call in self.plan]
        return ToolCall(self.name or "", self.arguments)


class RetouchObservation(OpenEnvObservation):
    """What the agent sees, as it travels: photos are PNGs in base64. See `RetouchEnv` for the meanings.

    ``reward`` is None after a reset and where it could not be scored. ``metadata`` holds, at the end,
    ``finished``, ``truncated``, ``reward_valid``, ``reward_components`` and, if the reward failed,
    ``reward_error``.

    Attributes:
        image: The photo as it is now.
        original: The photo before any edit.
        context: Further photos of the task, for instance the goal.
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

    image: str
    original: str
    context: list[str]
    task: str
    instruction: str
    history: str
    feedback: str
    recipe: str
    turns_left: int
    task_id: str
    kind: str
    tool_error: str | None = None


class RetouchState(OpenEnvState):
    """Where the session is.

    Attributes:
        task_id: The task's id; None before the first reset.
        recipe: The controls that are set, a JSON object.
        turns_left: Turns until the episode ends by itself.
    """

    task_id: str | None = None
    recipe: str = "{}"
    turns_left: int = 0


def _json(call: ToolCall) -> dict[str, Any]:
    return dict(call.arguments)
