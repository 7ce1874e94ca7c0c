"""The cache of source photos."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from retouch_gym.datasets import Dataset
from retouch_gym.envs.sources import SourceCache
from retouch_gym.errors import ImageError
from retouch_gym.images import Remembered
from retouch_gym.tasks import Task
from retouch_gym.testing import BrokenPhoto, NoisePhoto, TinyDataset


class Counting(TinyDataset):
    """Counts the tasks that were built."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.built: list[int] = []

    def __getitem__(self, index: int) -> Task:
        self.built.append(index)
        return super().__getitem__(index)


def test_what_was_used_last_is_kept_within_the_bound() -> None:
    dataset = Counting(6)
    sizes = [2 * dataset[index].photo.load().nbytes for index in range(6)]
    dataset.built.clear()
    cache = SourceCache(dataset, max_bytes=sum(sizes[:3]))
    for index in (0, 1, 2, 0, 3, 0):
        assert np.array_equal(cache.get(index).photo, TinyDataset(6)[index].photo.load())
        assert cache.nbytes <= cache.max_bytes
    assert dataset.built == [0, 1, 2, 3]
    cache.get(1)
    assert dataset.built == [0, 1, 2, 3, 1]


def test_a_photo_larger_than_the_bound_is_still_served() -> None:
    cache = SourceCache(Counting(3), max_bytes=1)
    for index in (0, 1, 1, 2):
        assert cache.get(index).task.id.endswith(str(index))
    assert cache.nbytes == 2 * cache.get(2).photo.nbytes


def test_a_reference_is_loaded_once_and_photos_are_read_only() -> None:
    source = SourceCache(Counting(1), 1 << 20).get(0)
    assert source.task.reference is not None
    assert source.task.reference.load() is source.task.reference.load()
    with pytest.raises(ValueError, match="read-only"):
        source.photo[:] = 0


def test_what_is_expected_is_loaded_meanwhile_and_once() -> None:
    dataset = Counting(5)
    cache = SourceCache(dataset, 1 << 20, prefetch=True)
    cache.expect([3, 1, 3])
    for index in (1, 3):
        assert np.array_equal(cache.get(index).photo, TinyDataset(5)[index].photo.load())
    assert sorted(dataset.built) == [1, 3]
    cache.close()
    assert cache.nbytes == 0
    cache.get(3)


def test_a_broken_photo_is_told_when_it_is_asked_for() -> None:
    class Broken(TinyDataset):
        def __getitem__(self, index: int) -> Task:
            return Task(str(index), BrokenPhoto() if index else NoisePhoto(1), "x", reference=BrokenPhoto())

    cache = SourceCache(Broken(2), 1 << 20, prefetch=True)
    cache.expect([0, 1])
    assert cache.get(0).task.id == "0"
    for _ in range(2):
        with pytest.raises(ImageError, match="on purpose"):
            cache.get(1)
    cache.close()


def test_a_copy_elsewhere_travels_without_pixels() -> None:
    dataset: Dataset = TinyDataset(2)
    cache = SourceCache(dataset, 1 << 20, prefetch=True)
    cache.expect([1])
    photo = cache.get(0).photo
    assert len(pickle.dumps(cache)) < 2_000
    assert np.array_equal(pickle.loads(pickle.dumps(cache)).get(0).photo, photo)
    assert len(pickle.dumps(Remembered(NoisePhoto(0)))) < 500
    cache.close()
