"""The lines of a recording on disk. docs/recordings.md explains every key."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

from retouch_gym.tasks import Mode

VERSION: Literal[1] = 1
"""Version of the format."""

HEADER, EPISODES, PHOTOS = "recording.json", "episodes.jsonl", "photos"
"""What a recording's folder holds."""


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


class DatasetNote(_Model):
    """Where the tasks came from."""

    name: str
    split: str
    size: int
    modes: list[Mode]


class EnvironmentNote(_Model):
    """The environment, as far as JSON holds it.

    Attributes:
        id: Gymnasium's id; None if it was not made by `gymnasium.make`.
        kwargs: Its arguments.
        left_out: Names of the arguments that JSON cannot hold, such as a ready dataset.
    """

    id: str | None
    kwargs: dict[str, Any]
    left_out: list[str]


class Header(_Model):
    """``recording.json``: what all episodes of one folder have in common."""

    format: Literal["retouch-gym recording"] = "retouch-gym recording"
    version: Literal[1] = VERSION
    environment: EnvironmentNote
    dataset: DatasetNote
    toolset: str
    renderer: str
    reward: str
    reward_mode: Literal["final", "delta"]
    discount: float
    max_turns: int
    answer_format: str | None


class TaskNote(_Model):
    """What was asked, apart from photos. See `retouch_gym.tasks.Task`."""

    id: str
    mode: Mode
    kind: str
    instruction: str
    history: list[str]
    start: dict[str, Any] | None
    answer: str
    recipe: dict[str, Any] | None
    reasoning: str
    metadata: dict[str, Any]


class CallNote(_Model):
    """A tool call."""

    name: str
    arguments: dict[str, Any]


class TurnNote(_Model):
    """A turn, and what came of it."""

    calls: list[CallNote]
    error: str | None
    text: str | None
    parsed: bool
    reward: float | None
    recipe: dict[str, Any]
    feedback: str
    requests: int
    photo: str | None


class PhotoNotes(_Model):
    """Names of files in ``photos/``, without their ending."""

    source: str
    final: str
    reference: str | None
    context: list[str]


class SeedNote(_Model):
    """How the episode was drawn."""

    reset: int | None
    episode: int
    user: int


class Line(_Model):
    """One line of ``episodes.jsonl``."""

    episode: int
    task: TaskNote
    photos: PhotoNotes
    requests: list[str] = pydantic.Field(min_length=1)
    turns: list[TurnNote]
    reward: float | None
    reward_valid: bool
    reward_error: str | None
    components: dict[str, float | None]
    recipe: dict[str, Any]
    finished: bool
    answer: str | None
    terminated: bool
    truncated: bool
    seeds: SeedNote


def first_problem(error: pydantic.ValidationError) -> str:
    """The first thing that is wrong, and where."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where or 'entry'}: {first['msg']}."
