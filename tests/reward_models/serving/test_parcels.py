from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable

import numpy as np
import pytest

from retouch_gym.errors import ImageError
from retouch_gym.images import Pixels
from retouch_gym.rewards import score_batch
from retouch_gym.rewards.likeness import Likeness
from retouch_gym.tasks import Episode
from retouch_gym.testing import BrokenPhoto
from retouch_reward_models.serving.parcels import pack, packed_bytes, split

Episodes = Callable[..., list[Episode]]


def test_packed_episodes_score_the_same_elsewhere(episodes: Episodes) -> None:
    given = episodes(8, 4)
    there = pickle.loads(pickle.dumps(pack(given, references=True)))
    assert score_batch(Likeness(), there) == score_batch(Likeness(), given)


def test_episodes_of_a_task_share_one_task_and_one_source(episodes: Episodes) -> None:
    there = pickle.loads(pickle.dumps(pack(episodes(8, 4), references=True), protocol=5))
    assert len({id(episode.task) for episode in there}) == 2
    assert len({id(episode.source) for episode in there}) == 2
    assert there[0].task.photo.load() is there[1].source
    assert there[0].memo is there[1].memo
    assert there[0].memo is not there[4].memo


def test_equal_tasks_of_two_datasets_become_one_and_different_ones_of_the_same_id_stay_two(episodes: Episodes) -> None:
    one, other = episodes(1)[0], episodes(1)[0]
    assert one.task is not other.task
    merged = pack([one, other], references=True)
    assert merged[0].task is merged[1].task
    changed = dataclasses.replace(other, task=dataclasses.replace(other.task, instruction="Warmer."))
    kept = pack([one, changed], references=True)
    assert [episode.task.instruction for episode in kept] == [one.task.instruction, "Warmer."]


def test_the_source_travels_once_and_a_reference_only_where_it_is_needed(episodes: Episodes) -> None:
    pixels = np.zeros((64, 80, 3), np.uint8)
    first = episodes(1)[0]
    task = dataclasses.replace(first.task, photo=Pixels(pixels), reference=Pixels(pixels + 1))
    group = [dataclasses.replace(first, task=task, source=pixels, image=pixels + n) for n in range(8)]
    without, having = (packed_bytes(pack(group, references=needed)) for needed in (False, True))
    assert 9 * pixels.nbytes < without < 9.5 * pixels.nbytes
    assert having - without == pytest.approx(pixels.nbytes, rel=0.02)
    assert packed_bytes(group) > 11 * pixels.nbytes


def test_a_reference_that_cannot_be_read_fails_there_as_here(episodes: Episodes) -> None:
    good, bad = episodes(2)
    bad = dataclasses.replace(bad, task=dataclasses.replace(bad.task, id="bad", reference=BrokenPhoto()))
    there = pack([good, bad], references=True)
    with pytest.raises(ImageError, match="broken on purpose"):
        _ = there[1].reference
    assert [output.valid for output in score_batch(Likeness(), there)] == [True, False]


def test_a_call_is_cut_into_parcels_and_groups_stay_whole(episodes: Episodes) -> None:
    given = episodes(10, 3)
    assert list(split(given, 4, whole_groups=False)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert list(split(given, 4, whole_groups=True)) == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert list(split(given, 2, whole_groups=True)) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
