from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retouch_gym.datasets import get_dataset
from retouch_gym.datasets.folder import FolderDataset
from retouch_gym.datasets.pairs import PairsDataset
from retouch_gym.errors import DatasetError, ImageError
from retouch_gym.images import save_image
from retouch_gym.testing import check_dataset
from retouch_gym.types import Image


def photo(number: int) -> Image:
    return np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def photos(root: Path, count: int = 12) -> Path:
    for number in range(count):
        folder = root / f"day{number % 3}"
        folder.mkdir(exist_ok=True)
        save_image(photo(number), folder / f"{number:02d}.png")
    return root


def listing(root: Path, count: int = 10) -> list[dict[str, Any]]:
    pairs = []
    for number in range(count):
        for role in ("before", "after"):
            save_image(photo(number) // (1 if role == "before" else 2), root / f"{number}_{role}.png")
        requests = [{"expert": "C", "text": "darker"}, {"expert": "A", "text": "make it darker, please"}]
        pairs.append(
            {"id": f"p{number}", "input": f"{number}_before.png", "target": f"{number}_after.png", "requests": requests}
        )
    (root / "pairs.json").write_text(json.dumps(pairs))
    return pairs


def test_a_folder_of_photos(tmp_path: Path) -> None:
    photos(tmp_path)
    dataset = get_dataset(f"folder:{tmp_path}")
    assert len(dataset) == 12
    assert dataset.id_of(0) == "day0/00.png#0"
    task = dataset.get("day1/04.png#0")
    assert np.array_equal(task.photo.load(), photo(4))
    assert task.reference is None
    check_dataset(FolderDataset(tmp_path, "train"), other_splits=[FolderDataset(tmp_path, "test")])


def test_splits_do_not_depend_on_what_else_is_there(tmp_path: Path) -> None:
    photos(tmp_path)
    before = {task.id for task in FolderDataset(tmp_path, "test")}
    photos(tmp_path, 40)
    after = {task.id for task in FolderDataset(tmp_path, "test")}
    assert before <= after
    assert len(after) + len(FolderDataset(tmp_path, "train")) == 40


def test_requests_beside_the_photos(tmp_path: Path) -> None:
    photos(tmp_path, 2)
    (tmp_path / "requests.json").write_text(json.dumps({"day0/00.png": ["warmer", "cooler"]}))
    dataset = FolderDataset(tmp_path, instruction="go")
    assert [task.instruction for task in dataset] == ["warmer", "cooler", "go"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "should be an object"),
        ('{"day9/x.png": "a"}', "not below the folder"),
        ('{"day0/00.png": 3}', "a request or a list"),
        ('{"day0/00.png": []}', "a request or a list"),
    ],
)
def test_broken_requests_are_named(tmp_path: Path, content: str, message: str) -> None:
    photos(tmp_path, 2)
    (tmp_path / "requests.json").write_text(content)
    with pytest.raises(DatasetError, match=message):
        FolderDataset(tmp_path)


def test_a_truncated_photo_fails_when_it_is_loaded_and_not_before(tmp_path: Path) -> None:
    photos(tmp_path, 1)
    path = tmp_path / "day0" / "00.png"
    path.write_bytes(path.read_bytes()[:100])
    task = FolderDataset(tmp_path)[0]
    with pytest.raises(ImageError, match=r"00\.png"):
        task.photo.load()


@pytest.mark.parametrize("kind", [FolderDataset, PairsDataset])
def test_empty_missing_and_unknown(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=str(tmp_path)):
        kind(tmp_path)
    with pytest.raises(DatasetError, match="gone"):
        kind(tmp_path / "gone")
    with pytest.raises(DatasetError, match="split = 'dev'"):
        kind(tmp_path, split="dev")


def test_pairs_have_a_reference_and_can_be_filtered_by_expert(tmp_path: Path) -> None:
    listing(tmp_path)
    dataset = get_dataset(f"pairs:{tmp_path}", expert="C")
    assert len(dataset) == 10
    task = dataset.get("p3#0")
    assert task.reference is not None
    assert np.array_equal(task.reference.load(), photo(3) // 2)
    assert len(PairsDataset(tmp_path)) == 20
    check_dataset(PairsDataset(tmp_path, "train"), other_splits=[PairsDataset(tmp_path, "test")])
    with pytest.raises(DatasetError, match="experts there: A, C"):
        PairsDataset(tmp_path, expert="Z")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": "gone.png"}, r"entry 1 \('p1'\) names 'gone.png'"),
        ({"requests": []}, "entry 1: requests"),
        ({"requests": [{"text": ""}]}, r"entry 1: requests\.0\.text"),
        ({"id": "p0"}, "two pairs with the id 'p0'"),
        ({"target": None}, "entry 1: target"),
    ],
)
def test_a_broken_pair_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    pairs = listing(tmp_path, 2)
    pairs[1] |= change
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    with pytest.raises(DatasetError, match=message):
        PairsDataset(tmp_path)


def test_the_real_expert_pairs(shared_data: Path) -> None:
    dataset = get_dataset(f"pairs:{shared_data / 'fivek_pairs'}")
    assert len(dataset) == 60
    task = dataset[0]
    assert task.reference is not None
    assert task.photo.load().shape == task.reference.load().shape
    assert task.instruction == "make colors warmer"
