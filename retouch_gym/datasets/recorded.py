"""Recorded episodes as tasks, for supervised training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from retouch_gym.chat.formats import ANSWER_FORMATS, AnswerFormat, get_answer_format
from retouch_gym.datasets.base import ListedDataset
from retouch_gym.datasets.folder import Split, check_split, in_split
from retouch_gym.datasets.recordings import RecordedEpisode, find_recordings, read_episodes, read_header
from retouch_gym.errors import DatasetError
from retouch_gym.images import PhotoFile
from retouch_gym.tasks import MODES, Mode, Task
from retouch_gym.types import JSON


class RecordedDataset(ListedDataset):
    """What was played, as tasks whose solution is what the agent did: ``"recorded:FOLDER"``.

    A task has the recorded photo, first request, mode, start and reference; its `recipe` is the edit as the agent
    left it, its `answer` what the agent said (summary), its `reasoning` what it wrote before its calls. The metadata
    has ``task_id``, ``reward`` (None where it is not valid), ``components``, ``turns``, ``finished``, ``requests`` and
    the recorded task's own ``metadata``. Summaries in which the agent said nothing are left out.

    For the turns themselves see `retouch_gym.datasets.recordings.read_episodes`.

    Args:
        root: Folder of one recording or of many.
        split: ``"all"``, ``"train"`` (80%) or ``"test"`` (20%), by photo.
        min_reward: Only episodes with a valid reward of at least this; None for all.
        answer_format: How the recorded texts are read for their reasoning; None reads them as they were recorded.

    Raises:
        DatasetError: If there is no recording, a line is damaged, or nothing is left.
    """

    name = "recorded"

    def __init__(
        self,
        root: str | Path,
        split: Split = "all",
        min_reward: float | None = None,
        answer_format: str | AnswerFormat | None = None,
    ) -> None:
        check_split(split)
        if min_reward is not None and not math.isfinite(min_reward):
            raise DatasetError(f"min_reward = {min_reward!r} should be a finite number, or None for all.")
        self.root = Path(root)
        self.split = split
        self._formats = _formats(self.root, answer_format)
        every = list(read_episodes(self.root))
        self._episodes = [
            episode
            for episode in every
            if in_split(_photo_key(episode), split)
            and (min_reward is None or (episode.reward is not None and episode.reward >= min_reward))
            and (episode.task.mode != "summary" or episode.answer)
        ]
        if not self._episodes:
            raise DatasetError(
                f"None of the {len(every)} episodes below {str(root)!r} is left with split = {split!r} and "
                f"min_reward = {min_reward!r}."
            )
        super().__init__([_id_of(episode) for episode in self._episodes])

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that occur."""
        found = {episode.task.mode for episode in self._episodes}
        return tuple(mode for mode in MODES if mode in found)

    def __getitem__(self, index: int) -> Task:
        if not 0 <= index < len(self):
            raise IndexError(f"Task {index} of {len(self)}.")
        episode = self._episodes[index]
        task = episode.task
        return Task(
            id=self.id_of(index),
            photo=task.photo,
            instruction=task.instruction,
            mode=task.mode,
            kind=task.kind,
            context=task.context,
            start=task.start,
            history=task.history,
            answer=episode.answer or "" if task.mode == "summary" else task.answer,
            reference=task.reference,
            recipe=None if task.mode == "summary" else episode.recipe,
            reasoning=self._reasoning(episode),
            metadata=_metadata(episode),
        )

    def _reasoning(self, episode: RecordedEpisode) -> str:
        """What the agent wrote before the calls that were taken, a line for each turn."""
        answer_format = self._formats.get(episode.recording)
        if answer_format is None:
            return ""
        taken = [turn.turn.text for turn in episode.turns if turn.turn.error is None and turn.turn.text]
        return "\n".join(filter(None, map(answer_format.reasoning, taken)))


def _formats(root: Path, given: str | AnswerFormat | None) -> Mapping[str, AnswerFormat]:
    """The answer format of each recording whose texts can be read."""
    found: dict[str, AnswerFormat] = {}
    for folder in find_recordings(root):
        recorded = read_header(folder).answer_format
        choice = given if given is not None else recorded if recorded in ANSWER_FORMATS else None
        if choice is not None:
            found[folder.relative_to(root).as_posix()] = get_answer_format(choice)
    return found


def _id_of(episode: RecordedEpisode) -> str:
    number = f"{episode.number:06d}"
    return number if episode.recording == "." else f"{episode.recording}/{number}"


def _photo_key(episode: RecordedEpisode) -> str:
    """What decides the split: the name of the photo, which is the hash of its pixels."""
    photo = episode.task.photo
    return Path(photo.path).stem if isinstance(photo, PhotoFile) else episode.task.id


def _metadata(episode: RecordedEpisode) -> dict[str, JSON]:
    return {
        "task_id": episode.task.id,
        "reward": episode.reward,
        "components": {name: value if math.isfinite(value) else None for name, value in episode.components.items()},
        "turns": len(episode.turns),
        "finished": episode.finished,
        "requests": list(episode.requests),
        "metadata": dict(episode.task.metadata),
    }
