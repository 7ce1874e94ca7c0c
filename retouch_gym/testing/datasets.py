"""Checks of a dataset."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Sequence

import numpy as np

from retouch_gym.datasets.base import Dataset
from retouch_gym.errors import DatasetError
from retouch_gym.images import is_image
from retouch_gym.tasks import Task
from retouch_gym.types import Photo

_PLAIN = ("id", "instruction", "mode", "kind", "start", "history", "answer", "recipe")
"""What of a task is compared by value."""


def check_dataset(dataset: Dataset, *, other_splits: Iterable[Dataset] = (), max_tasks: int = 20) -> None:
    """Check that a dataset keeps the contract of `Dataset`.

    Ids are unique, never empty, and lead back to their index; tasks are built from ids without pixels and
    are the same in a pickled copy; photos load as uint8 (H, W, 3), twice the same, into arrays that the caller
    owns; every task's mode is among the dataset's, and has what the mode shows; an unknown id or index is refused;
    no id and no photo of another split occurs here.

    Args:
        dataset: The dataset.
        other_splits: Its other splits.
        max_tasks: How many tasks, evenly spread, have their photos loaded.

    Raises:
        AssertionError: Saying what is broken.
    """
    count = len(dataset)
    assert count > 0, f"{dataset.name} ({dataset.split}) has no tasks."
    ids = [dataset.id_of(index) for index in range(count)]
    assert all(ids), f"{dataset.name}: an id is empty."
    twice = sorted({task_id for task_id in ids if ids.count(task_id) > 1}) if len(set(ids)) < count else []
    assert not twice, f"{dataset.name}: these ids occur twice: {twice[:5]}"
    copy = pickle.loads(pickle.dumps(dataset))
    for index in _spread(count, max_tasks):
        back = dataset.index_of(ids[index])
        assert back == index, f"{dataset.name}: id {ids[index]!r} of index {index} leads to index {back}."
        _check_task(dataset, dataset[index], ids[index])
        _check_copy(dataset, dataset[index], copy.get(ids[index]))
    _check_unknown(dataset, count)
    for other in other_splits:
        _check_apart(dataset, other, set(ids), max_tasks)


def _spread(count: int, most: int) -> Sequence[int]:
    chosen: list[int] = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
    return chosen


def _check_task(dataset: Dataset, task: Task, task_id: str) -> None:
    assert task.id == task_id, f"{dataset.name}: the task of id {task_id!r} says its id is {task.id!r}."
    assert isinstance(task.instruction, str), f"{task_id}: the instruction is a {type(task.instruction).__name__}."
    _check_mode(dataset, task)
    photos = [("photo", task.photo), *((f"context photo {number}", photo) for number, photo in enumerate(task.context))]
    if task.reference is not None:
        photos.append(("reference", task.reference))
    for name, photo in photos:
        assert isinstance(photo, Photo), f"{task_id}: the {name} is a {type(photo).__name__} without load()."
        first = photo.load()
        assert is_image(first), f"{task_id}: the {name} does not load as a uint8 (H, W, 3) array."
        expected = first.copy()
        assert first.flags.writeable, f"{task_id}: the {name} loads as a read-only array; the caller should own it."
        first[:] = 0
        assert np.array_equal(photo.load(), expected), f"{task_id}: the {name} loads differently a second time."


def _check_mode(dataset: Dataset, task: Task) -> None:
    assert task.mode in dataset.modes, f"{task.id}: the mode {task.mode!r} is not among the dataset's {dataset.modes}."
    photos = {"edit": 0, "refine": 0, "summary": 1, "match": 1, "transfer": 2}[task.mode]
    count = len(task.context)
    assert count == photos, f"{task.id}: {count} context photos; the mode {task.mode!r} shows {photos}."
    if task.mode == "summary":
        assert task.answer, f"{task.id}: a summary without the answer that is asked for."
    if task.mode == "refine":
        assert task.start is not None, f"{task.id}: a refinement that starts from nothing."


def _check_copy(dataset: Dataset, task: Task, other: Task) -> None:
    same = [getattr(task, name) for name in _PLAIN] == [getattr(other, name) for name in _PLAIN]
    assert same, f"{dataset.name}: task {task.id!r} is another one in a pickled copy."
    photos, others = (task.photo, *task.context), (other.photo, *other.context)
    alike = [_digest(photo) for photo in photos] == [_digest(photo) for photo in others]
    assert alike, f"{task.id}: the photo is another one in a pickled copy."


def _check_unknown(dataset: Dataset, count: int) -> None:
    try:
        dataset.index_of("no such task/\u2400")
    except DatasetError:
        pass
    else:
        raise AssertionError(f"{dataset.name}: an unknown id was taken; expected DatasetError.")
    for index in (count, -1):
        try:
            dataset[index]
        except IndexError:
            continue
        raise AssertionError(f"{dataset.name}: index {index} of {count} was taken; expected IndexError.")


def _check_apart(dataset: Dataset, other: Dataset, ids: set[str], max_tasks: int) -> None:
    shared = ids & {other.id_of(index) for index in range(len(other))}
    assert not shared, f"Splits {dataset.split!r} and {other.split!r} share the ids {sorted(shared)[:5]}."
    mine = {_digest(dataset[index].photo) for index in _spread(len(dataset), max_tasks)}
    theirs = {_digest(other[index].photo) for index in _spread(len(other), max_tasks)}
    assert not mine & theirs, f"Splits {dataset.split!r} and {other.split!r} share {len(mine & theirs)} photos."


def _digest(photo: Photo) -> str:
    image = photo.load()
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
