"""Real server processes that run a real, tiny model: ``transformers serve``, and our own for what that one lacks."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from retouch_agents.tiny import TinySize, build_tiny, register_tiny_processor
from retouch_gym.chat import to_pil, user_message
from retouch_gym.tools.iea import IEA
from retouch_reward_models.backends import Backoff, CachedBackend, ChatFailure, ChatReply, ChatRequest, OpenAICompatible

# Four processes that import transformers, one after another.
pytestmark = pytest.mark.timeout(180)

HERE = Path(__file__).parent
WORDS = ("make", "it", "warmer", "a", "little", "brighter", "please", "now")
PROMPTS = ("make it warmer", "brighter please", "a little", "now")
PHOTO_TOKENS = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    size = TinySize(hidden=32, layers=2, heads=2, vision_hidden=16, vision_layers=1)
    folder = build_tiny(tmp_path_factory.mktemp("tiny"), IEA, WORDS, size=size)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # So small a random model says the same to everything; larger weights make it listen.
            if weight.ndim > 1 and "embed" not in name:
                weight.mul_(3)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # Special tokens are left out of some texts and not of others; only the end of the turn is wanted.
    model.generation_config.suppress_tokens = sorted(set(tokenizer.all_special_ids) - {tokenizer.eos_token_id})
    model.save_pretrained(folder)
    return folder


@contextlib.contextmanager
def serving(script: str, folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    place = ["--port", str(port)] if script == "launch_serve.py" else [str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (folder / f"{script}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(HERE / script), str(folder), *place, *options], stdout=log, stderr=log, env=environment
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, folder / f"{script}.log")
        yield f"http://127.0.0.1:{port}/v1", process
    finally:
        process.kill()
        process.wait(10)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.1)
    pytest.fail(f"no server came up:\n{log.read_text(errors='replace')[-3000:]}")


@pytest.fixture(scope="module")
def serve(folder: Path) -> Iterator[OpenAICompatible]:
    with serving("launch_serve.py", folder) as (url, _):
        backend = OpenAICompatible(url, str(folder), version="tiny", timeout_s=30)
        yield backend
        backend.close()


@pytest.fixture(scope="module")
def own(folder: Path) -> Iterator[OpenAICompatible]:
    with serving("launch_own.py", folder) as (url, _):
        backend = OpenAICompatible(url, "tiny", timeout_s=30)
        yield backend
        backend.close()


@pytest.fixture(scope="module")
def here(folder: Path) -> Callable[[ChatRequest], dict[str, Any]]:
    """Answers with the same model in this process, greedily."""
    register_tiny_processor()
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()

    def answer(request: ChatRequest) -> dict[str, Any]:
        inputs = processor.apply_chat_template(
            to_pil(request.messages), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        with torch.inference_mode():
            ids = model.generate(**inputs, max_new_tokens=request.max_tokens, do_sample=False)
            asked = inputs["input_ids"].shape[1]
            logits = model(**{**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)} | _types(ids, inputs))
        rows = logits.logits[0, asked - 1 : -1].log_softmax(-1)
        text = processor.decode(ids[0, asked:], skip_special_tokens=True)
        return {"text": text, "prompt_tokens": asked, "rows": rows, "ids": ids[0, asked:], "processor": processor}

    return answer


def _types(ids: torch.Tensor, inputs: Any) -> dict[str, torch.Tensor]:
    types = inputs.get("mm_token_type_ids")
    if types is None:
        return {}
    return {"mm_token_type_ids": torch.nn.functional.pad(types, (0, ids.shape[1] - types.shape[1]))}


def requests(*, photos: int = 1, **options: Any) -> list[ChatRequest]:
    rng = np.random.default_rng(5)
    options = {"max_tokens": 12, **options}
    shown = [[rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(photos)] for _ in PROMPTS]
    return [ChatRequest([user_message(text, p)], **options) for text, p in zip(PROMPTS, shown, strict=True)]


@pytest.mark.parametrize("server", ["serve", "own"])
def test_answers_are_the_models_own(server: str, here, request: pytest.FixtureRequest) -> None:
    backend: OpenAICompatible = request.getfixturevalue(server)
    batch = requests(photos=2) + requests(photos=1)
    replies = backend.complete(batch)
    for asked, reply in zip(batch, replies, strict=True):
        expected = here(asked)
        assert isinstance(reply, ChatReply), reply
        # `transformers serve` strips what it answers.
        assert (reply.text.strip(), reply.prompt_tokens) == (expected["text"].strip(), expected["prompt_tokens"])
        assert reply.attempts == 1
        assert reply.complete == (len(expected["ids"]) < asked.max_tokens)
    # Photos and words make a difference, so both were read.
    assert len({reply.text for reply in replies if isinstance(reply, ChatReply)}) == len(batch)


@pytest.mark.parametrize("server", ["serve", "own"])
def test_photos_are_not_dropped(server: str, request: pytest.FixtureRequest) -> None:
    backend: OpenAICompatible = request.getfixturevalue(server)
    counts = [
        [reply.prompt_tokens for reply in backend.complete(requests(photos=photos, max_tokens=1))]
        for photos in (0, 1, 2)
    ]
    # A photo also has a beginning and an end.
    assert np.diff(np.array(counts, int), axis=0).tolist() == [[PHOTO_TOKENS + 2] * len(PROMPTS)] * 2


def test_a_server_that_drops_photos_can_be_told_by_its_counts(folder: Path) -> None:
    with serving("launch_serve.py", folder, "--unregistered") as (url, _):
        backend = OpenAICompatible(url, str(folder), timeout_s=30)
        without, with_photo = (backend.complete(requests(photos=n, max_tokens=1)[:1])[0] for n in (0, 1))
        backend.close()
    assert isinstance(without, ChatReply)
    assert isinstance(with_photo, ChatReply)
    assert with_photo.prompt_tokens == without.prompt_tokens


def test_sampling_with_a_seed_repeats(own: OpenAICompatible) -> None:
    first, again, other = (
        [getattr(reply, "text", None) for reply in own.complete(requests(temperature=1.0, seed=seed))]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_probabilities_are_the_models_own(own: OpenAICompatible, here) -> None:
    for asked, reply in zip(requests(), own.complete(requests(top_logprobs=5)), strict=True):
        assert isinstance(reply, ChatReply)
        assert reply.tokens
        assert "".join(token.text for token in reply.tokens) == reply.text
        expected = here(asked)
        for token, row in zip(reply.tokens, expected["rows"], strict=False):
            assert token.text in token.alternatives
            best = expected["processor"].decode([row.argmax().item()])
            assert token.alternatives[best] == pytest.approx(row.max().item(), abs=1e-4)


def test_a_server_without_probabilities_answers_all_the_same(serve: OpenAICompatible) -> None:
    for reply in serve.complete(requests(top_logprobs=5)):
        assert isinstance(reply, ChatReply)
        assert reply.tokens == ()


def test_a_cache_in_front_of_it(serve: OpenAICompatible, tmp_path: Path) -> None:
    backend = CachedBackend(serve, tmp_path)
    first, calls = backend.complete(requests()), serve.record.summary()["requests"]
    again = backend.complete(requests())
    assert [replace(reply, attempts=0, seconds=0.0) for reply in first] == again
    assert serve.record.summary()["requests"] == calls


def test_a_server_killed_in_the_middle_loses_no_item(folder: Path, here) -> None:
    with serving("launch_own.py", folder) as (url, process):
        backend = OpenAICompatible(url, "tiny", concurrency=2, timeout_s=30, attempts=2, backoff=Backoff(0.01, 0.02))
        batch = requests(max_tokens=32) * 25
        killer = threading.Thread(target=_kill_after, args=(process, backend, 10))
        killer.start()
        start = time.monotonic()
        results = backend.complete(batch)
        assert time.monotonic() - start < 60
        killer.join(10)
    replies = [result for result in results if isinstance(result, ChatReply)]
    failures = [result for result in results if isinstance(result, ChatFailure)]
    assert len(replies) + len(failures) == len(batch)
    assert len(replies) >= 10
    assert {failure.kind for failure in failures} <= {"connection", "circuit_open"}
    assert failures
    expected = [here(asked)["text"] for asked in batch[: len(PROMPTS)]]
    for number, result in enumerate(results):
        if isinstance(result, ChatReply):
            assert result.text == expected[number % len(PROMPTS)]
    backend.close()


def _kill_after(process: subprocess.Popen[bytes], backend: OpenAICompatible, replies: int) -> None:
    deadline = time.monotonic() + 60
    while backend.record.summary()["replies"] < replies and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
