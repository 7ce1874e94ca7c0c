"""Recorded episodes, and reading them. `retouch_gym.wrappers` writes them; docs/recordings.md tells the format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic

from retouch_gym.datasets.recording_format import (
    EPISODES,
    HEADER,
    PHOTOS,
    VERSION,
    Header,
    Line,
    TurnNote,
    first_problem,
)
from retouch_gym.errors import DatasetError, RecipeError
from retouch_gym.images import PhotoFile
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.tasks import Task, Turn
from retouch_gym.types import Photo, ToolCall


@dataclass(frozen=True)
class Seeds:
    """How an episode was drawn.

    Args:
        reset: The seed last given to ``reset``; None if none was.
        episode: How many episodes began since then, this one not counted.
        user: Seed of the user's words, 0 where no user took part.
    """

    reset: int | None = None
    episode: int = 0
    user: int = 0


@dataclass(frozen=True, eq=False)
class RecordedTurn:
    """A turn, and what came of it.

    Args:
        turn: The calls, or why they were refused.
        reward: What the step paid; None if it is not valid, never a number in its place.
        recipe: The edit after it.
        feedback: What the agent was told of it.
        requests: How many requests had been made after it.
        photo: The photo after it, where every turn's photo was recorded; else None.
    """

    turn: Turn
    reward: float | None
    recipe: Recipe
    feedback: str = ""
    requests: int = 1
    photo: Photo | None = None


@dataclass(frozen=True, eq=False)
class RecordedEpisode:
    """A finished episode. Holds no pixels when it is read: photos are loaded when asked for.

    Args:
        task: The task as the environment had it, hidden parts included.
        requests: What the user asked for, the first request first.
        turns: Every turn, refused ones included.
        final: The photo as it was left.
        recipe: The edit as it was left.
        components: Parts of the reward at the end; NaN where a part is not a number.
        reward_error: Why there is no reward; None if there is one, or the episode was cut off before it.
        finished: Whether the agent or a satisfied user ended the episode.
        answer: What the agent said (summary).
        terminated: As the last step returned it.
        truncated: Likewise.
        seeds: How it was drawn.
        recording: Folder of the recording, relative to the folder that was read; ``"."`` for that one.
        number: Number in its recording, from 0.
    """

    task: Task
    requests: tuple[str, ...]
    turns: tuple[RecordedTurn, ...]
    final: Photo
    recipe: Recipe
    components: Mapping[str, float] = field(default_factory=dict)
    reward_error: str | None = None
    finished: bool = False
    answer: str | None = None
    terminated: bool = True
    truncated: bool = False
    seeds: Seeds = Seeds()
    recording: str = "."
    number: int = 0

    @property
    def reward(self) -> float | None:
        """The sum of what the turns paid; None if one of them is not valid."""
        paid = [turn.reward for turn in self.turns if turn.reward is not None]
        return float(sum(paid)) if len(paid) == len(self.turns) else None


def find_recordings(root: str | Path) -> list[Path]:
    """The folders of every recording at and below `root`, in sorted order.

    Raises:
        DatasetError: If there is none.
    """
    found = sorted(path.parent for path in Path(root).rglob(HEADER))
    if not found:
        raise DatasetError(f"No {HEADER} in or below {str(root)!r}; RecordEpisode writes one into its folder.")
    return found


def read_header(folder: str | Path) -> Header:
    """What all episodes of one recording have in common.

    Raises:
        DatasetError: If it cannot be read, or is of another version.
    """
    path = Path(folder) / HEADER
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{str(path)!r} cannot be read as a recording ({error}).") from error
    if isinstance(data, dict) and data.get("version", VERSION) != VERSION:
        raise DatasetError(f"{str(path)!r} has version {data['version']!r}; this release reads {VERSION}.")
    try:
        return Header.model_validate(data)
    except pydantic.ValidationError as error:
        raise DatasetError(f"{str(path)!r}: {first_problem(error)}") from error


def read_episodes(root: str | Path) -> Iterator[RecordedEpisode]:
    """Every episode recorded in and below a folder, one after the other, for offline reinforcement learning.

    A last line without its end is one that is being written, or that a killed process left; it is passed over.

    Args:
        root: The folder of one recording or of many.

    Raises:
        DatasetError: If there is no recording, or a line is damaged; with the file and the line.
    """
    for folder in find_recordings(root):
        read_header(folder)
        yield from _read_lines(folder, folder.relative_to(root).as_posix())


def _read_lines(folder: Path, recording: str) -> Iterator[RecordedEpisode]:
    path = folder / EPISODES
    if not path.exists():
        return
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield _episode(Line.model_validate(json.loads(line)), folder, recording)
                except pydantic.ValidationError as error:
                    raise DatasetError(f"{str(path)!r}, line {number}: {first_problem(error)}") from error
                except (ValueError, RecursionError, RecipeError) as error:
                    raise DatasetError(f"{str(path)!r}, line {number} is damaged: {error}") from error
    except OSError as error:
        raise DatasetError(f"{str(path)!r} cannot be read: {error}") from error


def _episode(line: Line, folder: Path, recording: str) -> RecordedEpisode:
    def photo(name: str) -> PhotoFile:
        if not name.isalnum():
            raise ValueError(f"{name!r} is no name of a photo")
        return PhotoFile(str(folder / PHOTOS / f"{name}.png"))

    asked, photos = line.task, line.photos
    task = Task(
        id=asked.id,
        photo=photo(photos.source),
        instruction=asked.instruction,
        mode=asked.mode,
        kind=asked.kind,
        context=tuple(photo(name) for name in photos.context),
        start=None if asked.start is None else Recipe.from_dict(asked.start),
        history=tuple(asked.history),
        answer=asked.answer,
        reference=None if photos.reference is None else photo(photos.reference),
        recipe=None if asked.recipe is None else Recipe.from_dict(asked.recipe),
        reasoning=asked.reasoning,
        metadata=asked.metadata,
    )
    return RecordedEpisode(
        task=task,
        requests=tuple(line.requests),
        turns=tuple(_turn(note, None if note.photo is None else photo(note.photo)) for note in line.turns),
        final=photo(photos.final),
        recipe=Recipe.from_dict(line.recipe),
        components={name: float("nan") if value is None else value for name, value in line.components.items()},
        reward_error=line.reward_error,
        finished=line.finished,
        answer=line.answer,
        terminated=line.terminated,
        truncated=line.truncated,
        seeds=Seeds(line.seeds.reset, line.seeds.episode, line.seeds.user),
        recording=recording,
        number=line.episode,
    )


def _turn(note: TurnNote, photo: Photo | None) -> RecordedTurn:
    calls = tuple(ToolCall(call.name, call.arguments) for call in note.calls)
    turn = Turn(calls, note.error, note.text, note.parsed)
    return RecordedTurn(turn, note.reward, Recipe.from_dict(note.recipe), note.feedback, note.requests, photo)
