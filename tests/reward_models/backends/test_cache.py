from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import pickle
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from retouch_gym.chat import user_message
from retouch_gym.errors import ConfigurationError
from retouch_reward_models.backends import (
    Backend,
    CachedBackend,
    ChatFailure,
    ChatReply,
    ChatRequest,
    FakeBackend,
    TokenChoice,
)
from retouch_reward_models.backends.keys import request_key

Asking = Callable[..., list[ChatRequest]]
PHOTO = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


class Counting(Backend):
    """Answers with a number that grows, so that an answer from the folder can be told from a new one."""

    def __init__(self, name: str = "counting", **fields: object) -> None:
        self.name = name
        self.fields = fields
        self.asked = 0

    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply | ChatFailure]:
        self.asked += len(requests)
        return [ChatReply(f"{self.asked - n}", 5, 1, 2.5, 3, **self.fields) for n in range(len(requests))]


def test_what_was_answered_is_not_asked_again(tmp_path: Path, asking: Asking) -> None:
    tokens = (TokenChoice("1 \ufffd\ud800", {"1": -0.1, "2": float("-inf")}),)
    inner = Counting(tokens=tokens, complete=False)
    backend = CachedBackend(inner, tmp_path)
    (first,) = backend.complete(asking("x"))
    (again,) = CachedBackend(inner, tmp_path).complete(asking("x"))
    assert first == ChatReply("1", 5, 1, 2.5, 3, complete=False, tokens=tokens)
    assert again == dataclasses.replace(first, seconds=0.0, attempts=0)
    assert inner.asked == 1
    assert backend.name == inner.name


def test_new_weights_are_asked_anew(tmp_path: Path, asking: Asking) -> None:
    inner = Counting("m@1")
    backend = CachedBackend(inner, tmp_path)
    backend.complete(asking("x"))
    inner.name = "m@2"
    assert getattr(backend.complete(asking("x"))[0], "text", None) == "2"
    assert backend.name == "m@2"
    inner.name = "m@1"
    assert getattr(backend.complete(asking("x"))[0], "text", None) == "1"


def test_answers_from_the_middle_of_an_exchange_are_not_kept(tmp_path: Path, asking: Asking) -> None:
    class Exchanged(Counting):
        def complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply | ChatFailure]:
            self.name = "m@2"
            return super().complete(requests)

    assert isinstance(CachedBackend(Exchanged("m@1"), tmp_path).complete(asking("x"))[0], ChatReply)
    assert not list(tmp_path.rglob("*.json"))


def test_a_batch_is_split_and_put_together_in_order(tmp_path: Path, asking: Asking) -> None:
    inner = FakeBackend()
    backend = CachedBackend(inner, tmp_path)
    backend.complete(asking("b", "d"))
    texts = ["a", "b", "c", "d", "a", "b"]
    expected = [getattr(reply, "text", None) for reply in FakeBackend().complete(asking(*texts))]
    assert [getattr(reply, "text", None) for reply in backend.complete(asking(*texts))] == expected
    # The same request twice in a batch is asked once.
    assert len(inner.requests) == 4
    assert backend.summary() == {"hits": 4, "misses": 4}
    assert backend.complete([]) == []


def test_failures_are_never_kept(tmp_path: Path, asking: Asking) -> None:
    for _ in range(2):
        results = CachedBackend(FakeBackend(failures={"bad": "server"}), tmp_path).complete(asking("bad", "fine"))
        assert isinstance(results[0], ChatFailure)
        assert isinstance(results[1], ChatReply)
        assert len(list(tmp_path.rglob("*.json"))) == 1
    assert isinstance(CachedBackend(FakeBackend(), tmp_path).complete(asking("bad"))[0], ChatReply)


def test_sampled_answers_are_kept_only_with_a_seed(tmp_path: Path, asking: Asking) -> None:
    inner = Counting()
    backend = CachedBackend(inner, tmp_path)
    free = asking("x", "x", temperature=1.0)
    assert [getattr(r, "text", None) for r in backend.complete(free) + backend.complete(free)] == ["2", "1", "4", "3"]
    seeded = asking("x", temperature=1.0, seed=1)
    assert backend.complete(seeded)[0].attempts == 3
    assert backend.complete(seeded)[0].attempts == 0


def variants() -> dict[str, ChatRequest]:
    def ask(text: str = "x", photo: np.ndarray = PHOTO, **fields: object) -> ChatRequest:
        return ChatRequest([{"role": "user", "content": [{"type": "image", "image": photo}, text]}], **fields)

    changed = PHOTO.copy()
    changed[-1, -1, -1] ^= 1
    return {
        "plain": ask(),
        "text": ask("x "),
        "one pixel": ask(photo=changed),
        "shape": ask(photo=PHOTO.reshape(4, 2, 3)),
        "dtype": ask(photo=PHOTO.view(np.int8)),
        "max_tokens": ask(max_tokens=7),
        "temperature": ask(temperature=0.5),
        "seed": ask(seed=0),
        "top_logprobs": ask(top_logprobs=1),
        "role": ChatRequest([{**ask().messages[0], "role": "system"}]),
        "order": ChatRequest([{"role": "user", "content": ["x", {"type": "image", "image": PHOTO}]}]),
        "turns": ChatRequest([{"role": "user", "content": [{"type": "image", "image": PHOTO}]}, {"content": ["x"]}]),
        "number": ChatRequest([{"role": "user", "content": 1}]),
        "digits": ChatRequest([{"role": "user", "content": "1"}]),
        "truth": ChatRequest([{"role": "user", "content": True}]),
        "split": ChatRequest([{"role": "user", "content": ["a", "b"]}]),
        "joined": ChatRequest([{"role": "user", "content": ["ab"]}]),
        "nested": ChatRequest([{"role": "user", "content": [["a", "b"]]}]),
        "nested otherwise": ChatRequest([{"role": "user", "content": [["a"], "b"]}]),
    }


def test_every_part_of_a_request_and_the_name_count() -> None:
    assert len({request_key(request) for request in variants().values()}) == len(variants())
    assert request_key(variants()["plain"], "a") != request_key(variants()["plain"], "b")


def test_equal_content_has_an_equal_key() -> None:
    same = ChatRequest([{"content": ({"image": PHOTO[:, ::-1][:, ::-1], "type": "image"}, "x"), "role": "user"}])
    assert request_key(same) == request_key(variants()["plain"])


def _key_elsewhere(answers) -> None:
    answers.put({name: request_key(request, "m") for name, request in variants().items()})


def test_keys_are_the_same_in_other_processes() -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    child = context.Process(target=_key_elsewhere, args=(answers,))
    child.start()
    assert answers.get(timeout=60) == {name: request_key(request, "m") for name, request in variants().items()}
    child.join(10)


def test_what_cannot_be_hashed_is_asked_every_time(tmp_path: Path) -> None:
    request = ChatRequest([{"role": "user", "content": [{"type": "text", "text": "x", "odd": object()}]}])
    inner = Counting()
    backend = CachedBackend(inner, tmp_path)
    backend.complete([request, request])
    backend.complete([request])
    assert (inner.asked, backend.summary()) == (3, {"hits": 0, "misses": 3})


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-20],
        lambda text: "\0" * len(text),
        lambda text: text.replace('"text": "1"', '"text": "9"'),
        lambda text: text.replace('"prompt_tokens": 5', '"prompt_tokens": 6'),
        lambda text: json.dumps({**json.loads(text), "key": "0" * 64}),
        lambda text: "[]",
        lambda text: "[" * 100_000,
    ],
)
def test_a_damaged_file_is_a_miss_and_is_replaced(tmp_path: Path, asking: Asking, damage) -> None:
    inner = Counting()
    backend = CachedBackend(inner, tmp_path)
    backend.complete(asking("x"))
    (file,) = tmp_path.rglob("*.json")
    file.write_text(damage(file.read_text()))
    assert [getattr(reply, "text", None) for reply in backend.complete(asking("x"))] == ["2"]
    assert [getattr(reply, "text", None) for reply in backend.complete(asking("x"))] == ["2"]
    assert inner.asked == 2


def test_a_file_that_is_no_text_is_a_miss(tmp_path: Path, asking: Asking) -> None:
    backend = CachedBackend(Counting(), tmp_path)
    backend.complete(asking("x"))
    (file,) = tmp_path.rglob("*.json")
    file.write_bytes(b"\xff\xfe\x80")
    assert [getattr(reply, "text", None) for reply in backend.complete(asking("x"))] == ["2"]


def test_a_full_disk_warns_once_and_answers_all_the_same(
    tmp_path: Path, asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    inner = Counting()
    backend = CachedBackend(inner, tmp_path)
    monkeypatch.setattr("tempfile.mkstemp", full)
    with pytest.warns(RuntimeWarning, match="No space left on device"):
        assert all(isinstance(reply, ChatReply) for reply in backend.complete(asking("x", "y")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(backend.complete(asking("x"))[0], ChatReply)
    monkeypatch.undo()
    backend.complete(asking("x"))
    assert backend.complete(asking("x"))[0].attempts == 0
    assert inner.asked == 4


def test_an_answer_that_is_no_plain_data_is_given_but_not_kept(tmp_path: Path, asking: Asking) -> None:
    odd = (TokenChoice("1", {"1": np.float32(-1)}),)
    with pytest.warns(RuntimeWarning, match="cannot be kept"):
        (reply,) = CachedBackend(Counting(tokens=odd), tmp_path).complete(asking("x"))
    assert isinstance(reply, ChatReply)
    assert not list(tmp_path.rglob("*.json"))


def test_half_a_write_leaves_nothing(tmp_path: Path, asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", cut)
    with pytest.warns(RuntimeWarning):
        CachedBackend(Counting(), tmp_path).complete(asking("x"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_is_a_file_warns(tmp_path: Path, asking: Asking) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(RuntimeWarning, match="cannot be kept"):
        assert isinstance(CachedBackend(Counting(), tmp_path / "file").complete(asking("x"))[0], ChatReply)


def test_the_oldest_go_when_it_is_full(tmp_path: Path, asking: Asking) -> None:
    CachedBackend(Counting(), tmp_path).complete(asking("0"))
    (first,) = tmp_path.rglob("*.json")
    size = first.stat().st_size
    inner = FakeBackend("1")
    backend = CachedBackend(inner, tmp_path, max_bytes=size * 10)
    names = [f"{number}" for number in range(40)]
    for age, name in enumerate(names):
        backend.complete(asking(name))
        for path in tmp_path.rglob("*.json"):
            # Files written in the same tick of the clock are told apart.
            if time.time() - path.stat().st_mtime < 1000:
                os.utime(path, (age + 1, age + 1))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.json")) <= size * 11
    assert not first.exists()
    inner.requests.clear()
    backend.complete(asking(*names[-8:]))
    assert inner.requests == []


def test_pickling_keeps_where_it_lies(tmp_path: Path, asking: Asking) -> None:
    backend = CachedBackend(Counting(), tmp_path, max_bytes=12345)
    backend.complete(asking("x"))
    copy = pickle.loads(pickle.dumps(backend))
    assert (copy.name, copy.max_bytes, copy.summary()) == ("counting", 12345, {"hits": 0, "misses": 0})
    assert copy.complete(asking("x"))[0].attempts == 0


def _work(folder: Path, start: int, answers) -> None:
    requests = [ChatRequest([user_message(f"{(start + n) % 30}", [PHOTO])]) for n in range(30)]
    backend = CachedBackend(FakeBackend(), folder)
    for _ in range(3):
        for request in requests:
            found = backend.complete([request])
            assert isinstance(found[0], ChatReply)
            assert found[0].text == FakeBackend().complete([request])[0].text
    answers.put(backend.summary())


def test_processes_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    children = [context.Process(target=_work, args=(tmp_path, start, answers)) for start in (0, 10, 20)]
    for child in children:
        child.start()
    summaries = [answers.get(timeout=60) for _ in children]
    for child in children:
        child.join(10)
        assert child.exitcode == 0
    # Each process found most of it there; at worst all of them asked for everything once.
    assert all(summary["hits"] >= 60 for summary in summaries)
    assert len(list(tmp_path.rglob("*.json"))) == 30
    assert not list(tmp_path.rglob("*.tmp"))
    late = CachedBackend(FakeBackend(), tmp_path)
    late.complete([ChatRequest([user_message(f"{n}", [PHOTO])]) for n in range(30)])
    assert late.summary() == {"hits": 30, "misses": 0}


def test_no_room_at_all_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="max_bytes"):
        CachedBackend(Counting(), tmp_path, max_bytes=0)
