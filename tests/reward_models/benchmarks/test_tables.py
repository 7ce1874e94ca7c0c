"""Tables with photos: JSON, parquet and saved datasets give the same photos; nothing outside is read."""

from __future__ import annotations

import importlib
import io
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from retouch_gym.errors import DatasetError, ImageError
from retouch_reward_models.benchmarks import load_editscore_bench
from retouch_reward_models.benchmarks.tables import open_table

PHOTOS = ("one", "many")


def png(grey: int) -> bytes:
    packed = io.BytesIO()
    PIL.Image.new("RGB", (5, 3), (grey, 0, 255 - grey)).save(packed, format="PNG")
    return packed.getvalue()


def greys(table, rows: int) -> list[list[int]]:
    return [
        [
            int(table.photo(row, "one").load()[0, 0, 0]),
            *(int(table.photo(row, "many", n).load()[0, 0, 0]) for n in (0, 1)),
        ]
        for row in range(rows)
    ]


def write_parquet(path: Path, rows: int, group_rows: int) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    data = {
        "word": [f"row {n}" for n in range(rows)],
        "one": [{"bytes": png(n), "path": None} for n in range(rows)],
        "many": [[{"bytes": png(50 + n), "path": "x"}, {"bytes": png(100 + n), "path": None}] for n in range(rows)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(data), path, row_group_size=group_rows)


def test_parquet_as_the_hub_lays_it_out(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "train-00000-of-00002.parquet", 5, 2)
    write_parquet(tmp_path / "data" / "train-00001-of-00002.parquet", 2, 2)
    write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", 1, 1)
    table = open_table(tmp_path, PHOTOS, "train")
    assert [row["word"] for row in table.rows] == [f"row {n}" for n in (0, 1, 2, 3, 4, 0, 1)]
    expected = [[n, 50 + n, 100 + n] for n in (0, 1, 2, 3, 4, 0, 1)]
    assert greys(table, 7) == expected
    assert greys(pickle.loads(pickle.dumps(table)), 7) == expected
    assert len(open_table(tmp_path, PHOTOS).rows) == 8
    assert table.cell(0, "absent") is None


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    real = importlib.import_module

    def without(name: str, package: str | None = None):
        if name.startswith("pyarrow"):
            raise ImportError("No module named 'pyarrow'")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(DatasetError, match="pip install pyarrow"):
        open_table(tmp_path, PHOTOS)


def test_a_saved_dataset(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"word": datasets.Value("string"), "one": datasets.Image(), "many": datasets.List(datasets.Image())}
    )
    pictures = [PIL.Image.open(io.BytesIO(png(grey))) for grey in (7, 8, 9)]
    data = datasets.Dataset.from_dict({"word": ["w"], "one": [pictures[0]], "many": [pictures[1:]]}, features=features)
    data.save_to_disk(tmp_path / "plain")
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "dict")
    for table in (open_table(tmp_path / "plain", PHOTOS), open_table(tmp_path / "dict", PHOTOS, "test")):
        assert table.rows == [{"word": "w"}]
        assert greys(table, 1) == greys(pickle.loads(pickle.dumps(table)), 1) == [[7, 8, 9]]
    with pytest.raises(DatasetError, match="name one of them"):
        open_table(tmp_path / "dict", PHOTOS)


def test_json_names_photos_in_its_own_folder_only(bench: SimpleNamespace, tmp_path: Path) -> None:
    name = bench.grey(tmp_path / "inside" / "photos", 30)
    bench.grey(tmp_path, 40)
    cells = [f"photos/{name}", "../40-6x4.png", str(tmp_path / "40-6x4.png"), "photos/none.png", "", None, 3, ["x"]]
    table = open_table(bench.write(tmp_path / "inside", [{"one": cell} for cell in cells]), PHOTOS)
    assert (table.photo(0, "one").load() == 30).all()
    reasons = ["outside", "outside", "No photo", "No photo", "No photo", "No photo", "No photo"]
    for number, reason in enumerate(reasons, 1):
        with pytest.raises(ImageError, match=reason):
            table.photo(number, "one").load()


def test_bytes_that_are_no_photo_are_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    rows = pyarrow.table({"one": [{"bytes": b"GIF89a?"}], "many": [[{"bytes": png(3)}]]})
    importlib.import_module("pyarrow.parquet").write_table(rows, tmp_path / "rows.parquet")
    table = open_table(tmp_path / "rows.parquet", PHOTOS)
    with pytest.raises(ImageError, match="7 bytes"):
        table.photo(0, "one").load()
    with pytest.raises(ImageError, match=r"many'\[1\]"):
        table.photo(0, "many", 1).load()
    assert table.photo(0, "many", 0).load().shape == (3, 5, 3)


@pytest.mark.parametrize("text", ["{", '{"rows": []}', "[1, 2]"])
def test_what_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(DatasetError, match=r"rows\.json"):
        open_table(tmp_path, PHOTOS)
    with pytest.raises(DatasetError, match="No table"):
        open_table(tmp_path / "absent", PHOTOS)
    (tmp_path / "rows.jsonl").write_text("{}")
    with pytest.raises(DatasetError, match="No table"):
        open_table(tmp_path, PHOTOS)


def test_an_empty_benchmark_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("[]")
    with pytest.raises(DatasetError, match="no pairs"):
        load_editscore_bench(tmp_path)


def test_a_benchmark_of_parquet_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    data = {
        "key": [["a", "b"]],
        "instruction": ["Brighter."],
        "input_image": [{"bytes": png(10), "path": None}],
        "output_images": [[{"bytes": png(20), "path": None}, {"bytes": png(30), "path": None}]],
        "task_type": ["color"],
        "dimension": ["overall"],
    }
    importlib.import_module("pyarrow.parquet").write_table(pyarrow.table(data), tmp_path / "train.parquet")
    pair = load_editscore_bench(tmp_path).pairs[0]
    assert [int(photo.load()[0, 0, 0]) for photo in (pair.before, pair.first, pair.second)] == [10, 20, 30]
    assert np.array_equal(pair.first.load(), pair.first.load())
