from __future__ import annotations

import hashlib
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retouch_gym import Recipe, Task
from retouch_gym.datasets import get_dataset
from retouch_gym.datasets.grammar import ADJECTIVES, FAULTS, STRENGTHS, words
from retouch_gym.datasets.samples import ASSETS, EVERYDAY_PHOTOS, TEST_PHOTOS, TRAIN_PHOTOS, SamplesDataset, undo
from retouch_gym.errors import ConfigurationError, DatasetError
from retouch_gym.images import save_image
from retouch_gym.renderers import get_renderer
from retouch_gym.rewards.distance import pixel_distance
from retouch_gym.testing import check_dataset
from retouch_gym.tools import IEA


def digest(split: str, count: int = 12) -> str:
    dataset = get_dataset("samples", split=split, size=count)
    found = hashlib.sha256()
    for task in dataset:
        found.update(f"{task.id}|{task.instruction}|{task.reasoning}|{task.recipe}".encode())
        assert task.reference is not None
        found.update(task.photo.load().tobytes() + task.reference.load().tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_checker_accepts_it(split: str) -> None:
    other = "test" if split == "train" else "train"
    check_dataset(SamplesDataset(split, size=30), other_splits=[SamplesDataset(other, size=30)])


def test_another_process_makes_the_same_tasks() -> None:
    code = "from tests.datasets.test_samples import digest; print(digest('train'), digest('test'))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [digest("train"), digest("test")]


@given(index=st.integers(0, 10**7 - 1), split=st.sampled_from(["train", "test"]), seed=st.integers(0, 99))
def test_ids_lead_back_to_their_index(index: int, split: str, seed: int) -> None:
    dataset = SamplesDataset(split, size=10**7, seed=seed)
    assert dataset.index_of(dataset.id_of(index)) == index


@pytest.mark.parametrize("task_id", ["", "samples/train-0-1", "samples/test-0-000001", "samples/train-1-000001"])
def test_foreign_ids_are_refused(task_id: str) -> None:
    with pytest.raises(DatasetError, match="ids run from"):
        SamplesDataset("train", size=10).index_of(task_id)


def test_an_index_out_of_range_ends_iteration() -> None:
    dataset = SamplesDataset(size=3)
    assert len(list(dataset)) == 3
    for index in (-1, 3):
        with pytest.raises(IndexError):
            dataset[index]


def test_no_photo_is_in_both_splits_and_every_photo_is_shipped() -> None:
    assert not set(TRAIN_PHOTOS) & set(TEST_PHOTOS)
    shipped = {path.stem for path in ASSETS.glob("*.png")}
    assert shipped == {*TRAIN_PHOTOS, *TEST_PHOTOS, *EVERYDAY_PHOTOS}
    terms = (ASSETS / "LICENSES.md").read_text()
    assert all(f"`{name}.png`" in terms for name in shipped)


def test_every_word_is_in_the_vocabulary_and_the_vocabulary_is_small() -> None:
    known = set(words())
    for task in SamplesDataset(size=400):
        assert set(re.findall(r"[^ .,]+", f"{task.instruction} {task.reasoning}")) <= known
    assert len(known) < 150


def test_instructions_name_each_effect_with_its_strength() -> None:
    """The words alone give back the sliders, their signs and their ranges."""
    adverbs = {adverb: strength for strength in STRENGTHS for adverb in strength.adverbs}
    phrases: dict[str, tuple[str, int]] = {}
    for slider, (positive, negative) in ADJECTIVES.items():
        phrases[positive] = (slider, 1)
        if negative:
            phrases[negative] = (slider, -1)
    for task in SamplesDataset(size=300, kinds=["instruct"]):
        assert task.recipe is not None
        items = re.split(r", | and ", task.reasoning.removeprefix("it should be ").removesuffix("."))
        assert len(items) == len(task.recipe.controls)
        for item in items:
            adjective = max((phrase for phrase in phrases if item.endswith(phrase)), key=len)
            slider, sign = phrases[adjective]
            strength = adverbs[item.removesuffix(adjective).strip()]
            assert strength.low <= sign * task.recipe[slider] <= strength.high
            assert item in task.instruction


def test_restore_says_what_is_wrong_only_in_the_reasoning() -> None:
    faults = {fault for pair in FAULTS.values() for fault in pair}
    for task in SamplesDataset(size=100, kinds=["restore"]):
        assert any(fault in task.reasoning for fault in faults)
        assert not any(fault in task.instruction for fault in faults)


@pytest.mark.parametrize("split", ["train", "test"])
def test_recipes_lead_to_the_reference_and_words_nearly_so(split: str) -> None:
    renderer = get_renderer("native")
    untouched: dict[str, list[float]] = {"instruct": [], "restore": []}
    edited: dict[str, list[float]] = {"instruct": [], "restore": []}
    read = []
    for task in SamplesDataset(split, size=120):
        assert task.recipe is not None
        assert task.reference is not None
        task.recipe.check(IEA)
        photo, reference = task.photo.load(), task.reference.load()
        untouched[task.kind].append(pixel_distance(photo, reference))
        edited[task.kind].append(pixel_distance(renderer.render([photo], [task.recipe])[0], reference))
        if task.kind == "instruct":
            reader = Recipe("iea", task.metadata["reader_recipe"])  # type: ignore[arg-type]
            read.append(pixel_distance(renderer.render([photo], [reader])[0], reference))
    assert max(edited["instruct"]) == 0
    assert np.mean(read) < 0.2 * np.mean(untouched["instruct"])
    assert np.mean(edited["restore"]) < 0.55 * np.mean(untouched["restore"])
    assert min(untouched["restore"]) > 0.02


@given(st.integers(-50, 90).filter(lambda value: value % 5 == 0 and value != 0))
def test_saturation_damage_is_in_range_and_undoes_the_remedy(value: int) -> None:
    damage = undo(Recipe("iea", {"saturation": value})).check(IEA)
    assert (1 + damage["saturation"] / 100) * (1 + value / 100) == pytest.approx(1, abs=0.02)


def test_own_photos_replace_the_training_photos(tmp_path: Path) -> None:
    colour = np.zeros((40, 60, 3), np.uint8)
    colour[::2] = (200, 90, 40)
    save_image(colour, tmp_path / "mine.PNG")
    train = SamplesDataset("train", size=40, photos=tmp_path)
    assert [Path(file.path).name for file in train.files] == ["mine.PNG"]
    test = SamplesDataset("test", size=4, photos=[tmp_path])
    assert {Path(file.path).stem for file in test.files} == set(EVERYDAY_PHOTOS)
    assert all(task.photo.load().shape == (64, 64, 3) for task in train)


def test_own_photos_to_test_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("seen", "kept"):
        save_image(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8), tmp_path / f"{name}.png")
    seen, kept = tmp_path / "seen.png", tmp_path / "kept.png"
    for split, expected in (("train", seen), ("test", kept)):
        dataset = SamplesDataset(split, size=4, photos=[seen], test_photos=[kept], scenes=0.0)
        assert [Path(file.path) for file in dataset.files] == [expected]
        assert all(task.photo.load().shape == (64, 64, 3) for task in dataset)
    with pytest.raises(DatasetError, match=r"seen\.png' is in photos and in test_photos"):
        SamplesDataset(photos=seen, test_photos=tmp_path)


def test_tasks_are_small_and_pickle() -> None:
    task: Task = SamplesDataset(size=2)[1]
    data = pickle.dumps(task)
    assert len(data) < 2000
    assert np.array_equal(pickle.loads(data).photo.load(), task.photo.load())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "validation"}, "split"),
        ({"kinds": ["instruct", "summary"]}, "kinds"),
        ({"kinds": []}, "kinds"),
        ({"sliders": "exposure"}, "sliders"),
        ({"sliders": ["grain"]}, "sliders"),
        ({"size": 0}, "size = 0"),
        ({"resolution": 2.5}, "resolution = 2.5"),
        ({"seed": -1}, "seed = -1"),
        ({"scenes": 1.5}, "scenes = 1.5"),
        ({"photos": []}, "photos is empty"),
        ({"photos": "no/such/folder"}, "No photo below 'no/such/folder'"),
        ({"test_photos": []}, "test_photos is empty"),
    ],
)
def test_options_without_meaning_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        SamplesDataset(**options)


def test_names_of_datasets() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'samples'"):
        get_dataset("sample")
    with pytest.raises(ConfigurationError, match="does not take these options"):
        get_dataset("samples", colour="blue")
    with pytest.raises(ConfigurationError, match="need a dataset name"):
        get_dataset(SamplesDataset(size=1), split="test")
