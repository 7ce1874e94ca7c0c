"""Episodes on their way to another process: what a reward needs of them, every photo once."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np

from retouch_gym.errors import ImageError, RetouchError
from retouch_gym.tasks import Episode, Memo, Task
from retouch_gym.types import Image, Photo


@dataclass(frozen=True, eq=False)
class SentPhoto:
    """A photo that came with its task. Implements `retouch_gym.types.Photo`.

    Args:
        pixels: uint8 (H, W, 3), possibly read-only.
    """

    pixels: Image

    def load(self) -> Image:
        """The pixels, shared."""
        return self.pixels


@dataclass(frozen=True)
class LostPhoto:
    """A photo that could not be read where it was sent from. Implements `retouch_gym.types.Photo`.

    Args:
        reason: What was said there.
    """

    reason: str

    def load(self) -> Image:
        """Fail, as it did there.

        Raises:
            ImageError: Always.
        """
        raise ImageError(self.reason)


@dataclass(frozen=True, eq=False)
class _Packed:
    task: Task
    source: Image
    sent: Task
    memo: Memo


def pack(episodes: Sequence[Episode], *, references: bool) -> list[Episode]:
    """The same episodes as plain data that can be pickled, scored and thrown away elsewhere.

    A task's photo is the episode's source as an array, and its reference is loaded here and travels as pixels, so
    that whoever scores needs neither the files nor the dataset. Episodes of one task share one task and one source;
    pickling keeps that. Photos of the context stay as they are: they are read where they are needed.

    Args:
        episodes: The episodes.
        references: Whether references travel; False leaves them out. One that cannot be read becomes a
            `LostPhoto`, so that it fails its own item there as it would have here.

    Returns:
        As many episodes, in order.
    """
    known: dict[str, list[_Packed]] = {}
    packed = []
    for episode in episodes:
        same = known.setdefault(episode.task.id, [])
        reference = partial(_send_reference, episode) if references else _send_nothing
        found = _find(same, episode, reference)
        if found is None:
            task = replace(episode.task, photo=SentPhoto(episode.source), reference=reference())
            found = _Packed(episode.task, episode.source, task, {})
            same.append(found)
        packed.append(replace(episode, task=found.sent, source=found.source, memo=found.memo))
    return packed


def packed_bytes(episodes: Sequence[Episode]) -> int:
    """Bytes that packed episodes take on their way: the pickle and every array once."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(list(episodes), protocol=5, buffer_callback=buffers.append)
    return len(head) + sum(buffer.raw().nbytes for buffer in buffers)


def split(episodes: Sequence[Episode], most: int, *, whole_groups: bool) -> Iterator[list[int]]:
    """Cut a call into parcels.

    Args:
        episodes: The episodes of one call.
        most: Most episodes in a parcel.
        whole_groups: Whether episodes of one task have to stay together; a parcel may then be larger.

    Yields:
        The places of the episodes of each parcel; every place once.
    """
    if not whole_groups:
        yield from (list(range(start, min(start + most, len(episodes)))) for start in range(0, len(episodes), most))
        return
    groups: dict[str, list[int]] = {}
    for place, episode in enumerate(episodes):
        groups.setdefault(episode.task.id, []).append(place)
    parcel: list[int] = []
    for group in groups.values():
        if parcel and len(parcel) + len(group) > most:
            yield parcel
            parcel = []
        parcel = parcel + group
    if parcel:
        yield parcel


_PHOTOS = frozenset({"photo", "reference"})
_PLAIN = tuple(field.name for field in fields(Task) if field.name not in _PHOTOS)


def _find(known: Sequence[_Packed], episode: Episode, reference: Callable[[], Photo | None]) -> _Packed | None:
    """The packed task of an episode: the same objects, or equal in everything, pixels included."""
    for one in known:
        if one.task is episode.task and one.source is episode.source:
            return one
    for one in known:
        plain = all(getattr(one.task, name) == getattr(episode.task, name) for name in _PLAIN)
        if plain and np.array_equal(one.source, episode.source) and _is_same(one.sent.reference, reference()):
            return one
    return None


def _is_same(one: Photo | None, other: Photo | None) -> bool:
    if isinstance(one, SentPhoto) and isinstance(other, SentPhoto):
        return np.array_equal(one.pixels, other.pixels)
    return one == other


def _send_reference(episode: Episode) -> Photo | None:
    try:
        pixels = episode.reference
    except RetouchError as error:
        return LostPhoto(str(error))
    return None if pixels is None else SentPhoto(pixels)


def _send_nothing() -> None:
    """No reference travels."""
