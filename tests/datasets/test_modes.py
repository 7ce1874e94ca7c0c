"""Views of a dataset in every mode: ids, words, and that pixels and sliders agree."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retouch_gym import Recipe, Task
from retouch_gym.datasets import Dataset, get_dataset
from retouch_gym.datasets.grammar import ADJECTIVES, MODE_REQUESTS, STEP, words
from retouch_gym.datasets.modes import ModeDataset
from retouch_gym.datasets.reader import follow
from retouch_gym.datasets.samples import SamplesDataset
from retouch_gym.datasets.spoiling import spoil
from retouch_gym.errors import ConfigurationError, DatasetError
from retouch_gym.images import save_image
from retouch_gym.renderers import get_renderer
from retouch_gym.rewards import pixel_distance
from retouch_gym.tasks import MODES, Mode
from retouch_gym.testing import TinyDataset, check_dataset
from retouch_gym.tools import IEA

SAMPLES = SamplesDataset("test", size=24)


class Changed(TinyDataset):
    """A `TinyDataset` whose tasks lack something, or share something."""

    def __init__(self, count: int = 4, **changes: Any) -> None:
        super().__init__(count)
        self.changes = changes

    def __getitem__(self, index: int) -> Task:
        return dataclasses.replace(super().__getitem__(index), **self.changes)


def tasks(mode: Mode, dataset: Dataset = SAMPLES) -> list[Task]:
    return list(ModeDataset(dataset, (mode,)))


def describe(count: int = 10) -> str:
    dataset = ModeDataset(SamplesDataset("train", size=count))
    return "\n".join(f"{t.id}|{t.instruction}|{t.start}|{[p.load().sum() for p in t.context]}" for t in dataset)


@pytest.mark.parametrize("modes", [MODES, ("refine",), ("summary", "edit")])
def test_the_checker_accepts_every_mode(modes: tuple[Mode, ...]) -> None:
    splits = [ModeDataset(SamplesDataset(split, size=10), modes) for split in ("train", "test")]
    check_dataset(splits[0], other_splits=splits[1:], max_tasks=50)
    check_dataset(ModeDataset(TinyDataset(), modes))
    assert splits[0].modes == modes
    assert len(splits[0]) == 10 * len(modes)


def test_another_process_makes_the_same_tasks() -> None:
    code = "from tests.datasets.test_modes import describe; print(describe())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == describe()


@given(index=st.integers(0, 10**7 - 1), modes=st.permutations(MODES), count=st.integers(1, len(MODES)))
def test_ids_lead_back_to_their_index(index: int, modes: list[Mode], count: int) -> None:
    dataset = ModeDataset(SamplesDataset(size=10**7), modes[:count])
    assert dataset.index_of(dataset.id_of(index)) == index


def test_an_edit_is_the_other_datasets_own_task() -> None:
    dataset = ModeDataset(SAMPLES, ("edit", "match"))
    assert dataset.id_of(2) == SAMPLES.id_of(1) == dataset[2].id
    assert dataset.id_of(3) == f"{SAMPLES.id_of(1)}@match"
    assert dataset[2].instruction == SAMPLES[1].instruction
    assert dataset[2].metadata == SAMPLES[1].metadata
    assert (dataset.name, dataset.split) == (SAMPLES.name, SAMPLES.split)
    with pytest.raises(DatasetError, match="ids run from"):
        dataset.index_of("samples/test-0-000001@refine")
    with pytest.raises(DatasetError, match="an edit, and the modes are refine"):
        ModeDataset(SAMPLES, ("refine",)).index_of(SAMPLES.id_of(0))


def test_a_task_depends_on_its_id_and_the_seed_alone() -> None:
    alone, among = tasks("refine"), [task for task in ModeDataset(SAMPLES) if task.mode == "refine"]
    assert [(task.instruction, task.start) for task in alone] == [(task.instruction, task.start) for task in among]
    other = ModeDataset(SAMPLES, ("refine",), seed=1)
    assert [task.start for task in other] != [task.start for task in alone]


class TestRefine:
    def test_the_words_lead_from_the_spoilt_start_to_the_recipe(self) -> None:
        for task in tasks("refine", SamplesDataset("train", size=80)):
            assert task.start is not None
            assert task.recipe is not None
            changed = {name for name in ADJECTIVES if task.start[name] != task.recipe[name]}
            assert 1 <= len(changed) <= 2
            read = follow(task.start, task.instruction, IEA.controls)
            assert dict(read.controls) == task.metadata["reader_recipe"]
            for name in IEA.controls:
                assert abs(read[name] - task.recipe[name]) <= (2 * STEP if name in changed else 0)

    def test_sliders_and_pixels_agree(self) -> None:
        renderer = get_renderer("native")
        for task in tasks("refine"):
            assert task.recipe is not None
            assert task.reference is not None
            task.recipe.check(IEA)
            assert task.start is not None
            task.start.check(IEA)
            photo = task.photo.load()
            assert pixel_distance(renderer.render([photo], [task.recipe])[0], task.reference.load()) == 0
            assert pixel_distance(renderer.render([photo], [task.start])[0], task.reference.load()) > 0

    def test_the_old_request_is_history(self) -> None:
        for base, task in zip(SAMPLES, tasks("refine"), strict=True):
            assert task.history == (base.instruction,)
            assert task.kind == base.kind
            assert task.metadata["base"] == base.id

    @given(
        values=st.dictionaries(st.sampled_from(list(IEA.controls)), st.integers(1, 100), max_size=6),
        signs=st.integers(0, 2**6 - 1),
        seed=st.integers(0, 2**32),
    )
    @settings(max_examples=200)
    def test_any_recipe_can_be_spoilt_and_described(self, values: dict[str, int], signs: int, seed: int) -> None:
        """Off the grid of 5, outside the grammar, and on one side only."""
        low = {name: control.low for name, control in IEA.controls.items()}
        signed = {
            name: -value if low[name] < 0 and signs >> place & 1 else value
            for place, (name, value) in enumerate(values.items())
        }
        recipe = Recipe("iea", signed, seed=7)
        start = spoil(np.random.default_rng(seed), recipe, IEA.controls).check(IEA)
        changed = {name for name in IEA.controls if start[name] != recipe[name]}
        assert 1 <= len(changed) <= 2
        assert changed <= set(ADJECTIVES)
        assert all(15 <= abs(start[name] - recipe[name]) <= 90 for name in changed)
        assert start["fade"] <= recipe["fade"]
        assert start.seed == 7

    def test_every_fault_is_drawn(self) -> None:
        recipe = Recipe("iea", {"exposure": 40, "fade": 50})
        seen = set()
        for seed in range(300):
            start = spoil(np.random.default_rng(seed), recipe, IEA.controls)
            for name in ADJECTIVES:
                old, new = start[name], recipe[name]
                if old != new:
                    seen.add("extra" if not new else "dropped" if not old else "strength" if old * new > 0 else "sign")
        assert seen == {"extra", "dropped", "strength", "sign"}


def test_summary_shows_both_photos_and_hides_the_request() -> None:
    for base, task in zip(SAMPLES, tasks("summary"), strict=True):
        assert task.answer == base.instruction
        assert task.answer not in task.instruction
        assert base.reference is not None
        (after,) = task.context
        assert np.array_equal(after.load(), base.reference.load())
        assert np.array_equal(task.photo.load(), base.photo.load())


def test_match_shows_the_goal() -> None:
    for base, task in zip(SAMPLES, tasks("match"), strict=True):
        assert base.reference is not None
        assert task.reference is not None
        (goal,) = task.context
        assert np.array_equal(goal.load(), task.reference.load())
        assert task.instruction in MODE_REQUESTS["match"]
        assert (task.recipe, task.reasoning) == (base.recipe, base.reasoning)


def test_transfer_shows_the_recipe_on_another_photo() -> None:
    renderer = get_renderer("native")
    made = tasks("transfer", SamplesDataset("train", size=30))
    for task in made:
        before, after = (photo.load() for photo in task.context)
        assert task.recipe is not None
        assert task.reference is not None
        photo = task.photo.load()
        assert not np.array_equal(before, photo)
        rendered = renderer.render([before, photo], [task.recipe, task.recipe])
        assert np.array_equal(rendered[0], after)
        assert np.array_equal(rendered[1], task.reference.load())
        assert set(re.findall("[a-z]+", task.reasoning)) <= set(words())


def test_the_example_is_another_photo_even_where_tasks_share_photos(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = ["a.png", "b.png"]
    for name in names:
        save_image(rng.integers(0, 256, (8, 9, 3), dtype=np.uint8), tmp_path / name)
    (tmp_path / "requests.json").write_text('{"a.png": ["1", "2", "3"], "b.png": ["4"]}')

    class WithRecipe(Changed):
        def __init__(self) -> None:
            super().__init__()
            self.folder = get_dataset(f"folder:{tmp_path}")

        def __getitem__(self, index: int) -> Task:
            return dataclasses.replace(super().__getitem__(index), photo=self.folder[index].photo)

    for task in tasks("transfer", WithRecipe()):
        assert task.context[0] != task.photo


def test_new_sentences_stay_out_of_the_vocabulary_unless_asked_for() -> None:
    known = set(words())
    assert words() == tuple(sorted(known))
    wider = set(words(*MODES))
    assert known < wider
    for mode in ("summary", "match", "transfer"):
        assert set(words(mode)) <= wider
    for task in ModeDataset(SamplesDataset(size=20)):
        text = " ".join([task.instruction, task.reasoning, task.answer, *task.history])
        assert set(re.findall(r"[^ .,]+", text)) <= wider
        if task.mode in ("edit", "refine"):
            assert set(re.findall(r"[^ .,]+", text)) <= known


def test_references_are_rendered_as_the_tasks_own() -> None:
    assert tasks("refine", TinyDataset())[0].reference.renderer.endswith("TinyRenderer")  # type: ignore[union-attr]
    chosen = ModeDataset(TinyDataset(), ("transfer",), renderer="native")[0]
    assert chosen.context[1].renderer == "native"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("mode", "changes", "message"),
    [
        ("refine", {"recipe": None}, "'tiny/train/0' cannot be a refine task: it has no recipe"),
        ("transfer", {"recipe": None}, "cannot be a transfer task: it has no recipe"),
        ("match", {"reference": None}, "cannot be a match task: it has no reference"),
        ("summary", {"reference": None, "instruction": ""}, "it has no reference and no instruction"),
        ("summary", {"instruction": ""}, "leave 'summary' out of the modes"),
        ("transfer", {"photo": TinyDataset()[0].photo}, "has no other photo"),
        ("refine", {"recipe": Recipe("summary")}, "none of the sliders that there are words for"),
    ],
)
def test_what_a_mode_needs_is_named(mode: Mode, changes: dict[str, Any], message: str) -> None:
    dataset = ModeDataset(Changed(**changes), (mode,))
    assert len(dataset) == 4
    with pytest.raises(DatasetError, match=message):
        dataset[0]


def test_one_photo_is_no_example_for_itself() -> None:
    with pytest.raises(DatasetError, match="has no other photo"):
        ModeDataset(TinyDataset(1), ("transfer",))[0]


def test_names_and_options() -> None:
    dataset = get_dataset("modes", base="samples", modes=["match"], base_kwargs={"split": "test", "size": 3})
    assert [task.mode for task in dataset] == ["match"] * 3
    assert get_dataset("samples").modes == ("edit",)
    for modes in ([], ["edit", "edit"], ["paint"], "edit"):
        with pytest.raises(DatasetError, match="each at most once"):
            ModeDataset("samples", modes)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match="seed = -1"):
        ModeDataset("samples", seed=-1)
    with pytest.raises(DatasetError, match="has tasks of match already"):
        ModeDataset(dataset)
    with pytest.raises(ConfigurationError, match="need a dataset name"):
        ModeDataset(SAMPLES, base_kwargs={"size": 3})
