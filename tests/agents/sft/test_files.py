from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retouch_agents.sft import FileDemonstrations, SFTConfig, SFTTrainer
from retouch_gym.errors import DatasetError
from retouch_gym.images import save_image

PHOTO = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
SHOWN = {"type": "image", "image": "photos/a.png"}
ASKED = {"role": "user", "content": [SHOWN, {"type": "text", "text": "cooler please"}]}
SAID = {"role": "assistant", "content": "the photo is too warm"}
ONE = {"messages": [{"role": "system", "content": "the photo"}, ASKED], "answer": "the photo is too warm"}
TURNS = {"messages": [ASKED, SAID, {"role": "user", "content": "too dark"}, SAID]}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    folder = tmp_path / "data"
    (folder / "photos").mkdir(parents=True)
    save_image(PHOTO, folder / "photos" / "a.png")

    def lines(*rows: Any, name: str = "rows.jsonl") -> Path:
        path = folder / name
        path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
        return path

    return lines


def test_an_answer_and_a_conversation(write: Write) -> None:
    data = FileDemonstrations(write(ONE, "", TURNS))
    assert len(data) == 2
    messages, answer = data[0]
    assert answer == "the photo is too warm"
    assert [message["role"] for message in messages] == ["system", "user"]
    assert np.array_equal(messages[1]["content"][0]["image"], PHOTO)
    assert messages[1]["content"][1] == {"type": "text", "text": "cooler please"}
    turns = data[1]
    assert isinstance(turns, list)
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant"]
    assert turns[1]["content"] == [{"type": "text", "text": "the photo is too warm"}]


def test_the_files_of_a_folder_in_the_order_of_their_names(write: Write) -> None:
    write({**ONE, "answer": "b"}, name="b.jsonl")
    folder = write({**ONE, "answer": "a1"}, {**ONE, "answer": "a2"}, name="a.jsonl").parent
    data = FileDemonstrations(folder)
    assert [data[index][1] for index in range(len(data))] == ["a1", "a2", "b"]
    with pytest.raises(IndexError):
        data[3]


@pytest.mark.parametrize("as_text", [True, False])
def test_parquet_holds_the_same(write: Write, as_text: bool) -> None:
    lines = FileDemonstrations(write(*[{**ONE, "answer": f"{index}"} for index in range(5)], TURNS))
    rows: list[dict[str, Any]] = [{**ONE, "answer": f"{index}"} for index in range(5)] + [{**TURNS, "answer": None}]
    blocks = [{**row, "messages": [{**turn, "content": in_blocks(turn)} for turn in row["messages"]]} for row in rows]
    table = [{**row, "messages": json.dumps(row["messages"])} for row in rows] if as_text else blocks
    path = lines.path.with_name("rows.parquet")
    pq.write_table(pa.Table.from_pylist(table), path, row_group_size=2)
    data = pickle.loads(pickle.dumps(FileDemonstrations(path)))
    assert len(data) == len(lines) == 6
    for index in (5, 0, 3, 1):
        assert json.dumps(data[index], default=np.ndarray.tolist) == json.dumps(lines[index], default=np.ndarray.tolist)


def in_blocks(turn: dict[str, Any]) -> list[dict[str, Any]]:
    content = turn["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def asks(*blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}], "answer": "x"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r"line 2: expected a JSON object"),
        ("[1]", r"line 2, the whole: Input should be .*dict"),
        ({"answer": "x"}, r"line 2, messages: Field required"),
        ({**ONE, "reward": 1}, r"line 2, reward: Extra inputs are not permitted"),
        ({**ONE, "answer": ""}, r"line 2, answer: String should have at least 1 character"),
        (
            {"messages": [{"role": "robot", "content": "x"}]},
            r"line 2, messages.0.role: Input should be 'system', 'user'",
        ),
        (asks({"type": "video"}), r"line 2, messages.0.content.0: .*'text', 'image'"),
        (asks({"type": "image"}), r"line 2, messages.0.content.0.image.image: Field required"),
        ({"messages": [ASKED]}, r"line 2, answer: expected a text, or the assistant's turn last; the last is user's"),
        ({**TURNS, "answer": "x"}, r"line 2, messages: expected the user's turn before the answer"),
        ({"messages": [SAID]}, r"line 2, messages.0.role: expected a user's turn before each of the assistant"),
        ({"messages": [ASKED, SAID, SAID]}, r"line 2, messages.2.role: expected a user's turn"),
        (
            {"messages": [ASKED, SAID, {"role": "system", "content": "x"}]},
            r"messages.2.role: a system turn comes first",
        ),
        ({"messages": [ASKED, {"role": "assistant", "content": [SHOWN]}]}, r"messages.1.content: a photo is shown by"),
        (asks({"type": "image", "image": "photos/b.png"}), r"content.0.image: there is no file 'photos/b.png'"),
        (asks({"type": "image", "image": "photos"}), r"content.0.image: there is no file 'photos'"),
        (asks({"type": "image", "image": "../secret.png"}), r"'../secret.png' is not below the folder of the file"),
        (asks({"type": "image", "image": "photos/link.png"}), r"'photos/link.png' is not below the folder"),
        (asks({"type": "image", "image": "photos/\0"}), r"is no path|there is no file"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(write: Write, row: Any, message: str) -> None:
    path = write(ONE, row)
    secret = path.parents[1] / "secret.png"
    save_image(PHOTO, secret)
    (path.parent / "photos" / "link.png").symlink_to(secret)
    with pytest.raises(DatasetError, match=message) as caught:
        FileDemonstrations(path)
    assert str(path) in str(caught.value)


def test_an_absolute_path_is_refused(write: Write) -> None:
    path = write(ONE)
    save_image(PHOTO, path.parents[1] / "secret.png")
    write(asks({"type": "image", "image": str(path.parents[1] / "secret.png")}))
    with pytest.raises(DatasetError, match="expected a relative path"):
        FileDemonstrations(path)


def test_files_that_are_none(write: Write) -> None:
    folder = write().parent
    (folder / "broken.parquet").write_bytes(b"PAR1")
    pq.write_table(pa.table({"answer": ["x"]}), folder / "other.parquet")
    (folder / "notes.txt").write_text("x")
    for path, message in (
        (folder / "none.jsonl", "no file or folder"),
        (folder / "photos", "has no .jsonl or .parquet file"),
        (folder / "notes.txt", "neither a .jsonl nor a .parquet"),
        (folder / "broken.parquet", "cannot be read as Parquet"),
        (folder / "other.parquet", "expected a column 'messages'"),
    ):
        with pytest.raises(DatasetError, match=message):
            FileDemonstrations(path)


def test_a_model_learns_from_a_file(write: Write, base: Path, tmp_path: Path) -> None:
    config = SFTConfig(steps=15, batch_size=2, workers=0, log_every=1, warmup=2)
    rows: Sequence[dict[str, float]] = list(
        SFTTrainer(base, tmp_path / "out", FileDemonstrations(write(ONE, TURNS)), config).train()
    )
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]
