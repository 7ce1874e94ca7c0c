"""Tasks with their photos in memory: a bounded cache, filled ahead of need."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from retouch_gym.datasets.base import Dataset
from retouch_gym.errors import RetouchError
from retouch_gym.images import Remembered
from retouch_gym.tasks import Memo, Task
from retouch_gym.types import Image


@dataclass(frozen=True, eq=False)
class Source:
    """A task whose photos, once loaded, stay in memory as long as this does.

    Args:
        task: The task; its photos are `Remembered`.
        photo: The photo before any edit, uint8 (H, W, 3), read-only.
        memo: See `retouch_gym.tasks.Episode.memo`.
    """

    task: Task
    photo: Image
    memo: Memo = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of its photos once all are loaded, if they are of one size."""
        return self.photo.nbytes * (1 + (self.task.reference is not None) + len(self.task.context))


class SourceCache:
    """The tasks of a dataset that were used last. Datasets may be larger than memory.

    Args:
        dataset: The tasks.
        max_bytes: Most bytes of photos kept; the task asked for last is kept whatever its size.
        prefetch: Whether `expect` loads in a background thread.
    """

    def __init__(self, dataset: Dataset, max_bytes: int, *, prefetch: bool = False) -> None:
        self.dataset = dataset
        self.max_bytes = max_bytes
        self.prefetch = prefetch
        self._kept: OrderedDict[int, Source] = OrderedDict()
        self._bytes = 0
        self._coming: dict[int, Future[Source]] = {}
        self._worker: ThreadPoolExecutor | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Neither threads nor pixels travel: a copy elsewhere loads what it needs.
        return {**self.__dict__, "_kept": OrderedDict(), "_bytes": 0, "_coming": {}, "_worker": None}

    @property
    def nbytes(self) -> int:
        """Bytes of the photos that are kept."""
        return self._bytes

    def get(self, index: int) -> Source:
        """The task at `index`, with its photo loaded.

        Raises:
            ImageError: If the photo cannot be read.
        """
        found = self._kept.get(index)
        if found is not None:
            self._kept.move_to_end(index)
            return found
        coming = self._coming.pop(index, None)
        source = coming.result() if coming is not None else self._load(index)
        self._keep(index, source)
        return source

    def expect(self, indices: Iterable[int]) -> None:
        """Say which tasks will be asked for next, so that they can be loaded meanwhile."""
        if not self.prefetch:
            return
        wanted = {index for index in indices if index not in self._kept}
        for index in [index for index in self._coming if index not in wanted]:
            self._coming.pop(index).cancel()
        for index in wanted - set(self._coming):
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, thread_name_prefix="retouch-prefetch")
            self._coming[index] = self._worker.submit(self._load_all, index)

    def close(self) -> None:
        """Stop the background thread and forget every photo."""
        self._coming.clear()
        self._kept.clear()
        self._bytes = 0
        # While Python shuts down, what a thread pool needs may be gone, and its threads end by themselves.
        if self._worker is not None and not sys.is_finalizing():
            self._worker.shutdown(wait=True, cancel_futures=True)
            self._worker = None

    def _load(self, index: int) -> Source:
        task = self.dataset[index]
        photo = Remembered(task.photo)
        held = replace(
            task,
            photo=photo,
            reference=None if task.reference is None else Remembered(task.reference),
            context=tuple(Remembered(shown) for shown in task.context),
        )
        return Source(held, photo.load())

    def _load_all(self, index: int) -> Source:
        source = self._load(index)
        # A reference that cannot be read is told where it is needed.
        with suppress(RetouchError):
            for photo in (source.task.reference, *source.task.context):
                if photo is not None:
                    photo.load()
        return source

    def _keep(self, index: int, source: Source) -> None:
        self._kept[index] = source
        self._bytes += source.nbytes
        while self._bytes > self.max_bytes and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes
