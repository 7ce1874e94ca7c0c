"""A model in this process: batches, failures, log-probabilities."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retouch_agents.pipelines.tiny_judge import build_tiny_judge
from retouch_agents.tiny import TinySize
from retouch_gym.chat import system_message, user_message
from retouch_reward_models.backends import ChatFailure, ChatReply, ChatRequest
from retouch_reward_models.backends.local import TransformersBackend

SIZE = TinySize(hidden=32, layers=1, heads=2, vision_hidden=16, vision_layers=1, image_side=32)
PHOTO = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> TransformersBackend:
    return TransformersBackend(build_tiny_judge(tmp_path_factory.mktemp("judge"), size=SIZE), version="7")


def asked(text: str, photos: int = 1, **options: Any) -> ChatRequest:
    return ChatRequest([user_message(text, [PHOTO] * photos)], **{"max_tokens": 6, **options})


def texts(replies: list[Any]) -> list[str]:
    assert all(isinstance(reply, ChatReply) for reply in replies)
    return [reply.text for reply in replies]


def test_a_batch_answers_as_each_alone(backend: TransformersBackend) -> None:
    requests = [asked("make it warmer.", photos=1 + number % 3) for number in range(4)]
    requests += [asked("brighter."), asked("far cooler and flatter, please.", photos=0)]
    alone = [backend.complete([request])[0] for request in requests]
    assert texts(backend.complete(requests)) == texts(alone)
    assert texts(backend.complete(requests[::-1])) == texts(alone)[::-1]


def test_seeded_samples_do_not_depend_on_their_neighbours(backend: TransformersBackend) -> None:
    requests = [asked("make it warmer.", temperature=1.0, seed=seed) for seed in range(3)]
    together = texts(backend.complete(requests))
    assert together == texts([backend.complete([request])[0] for request in requests])
    assert len(set(together)) > 1


@pytest.mark.parametrize("photo", [np.zeros((4, 4, 4, 4), np.uint8), "photo.png", None, np.zeros((0, 0, 3), np.uint8)])
def test_a_broken_photo_fails_alone(backend: TransformersBackend, photo: Any) -> None:
    content = [{"type": "image", "image": photo}, {"type": "text", "text": "warmer."}]
    broken = ChatRequest([{"role": "user", "content": content}], max_tokens=6)
    good = asked("warmer.")
    found = backend.complete([good, broken, good])
    assert isinstance(found[1], ChatFailure)
    assert found[1].kind == "model"
    assert texts([found[0], found[2]]) == texts(backend.complete([good])) * 2


def test_special_tokens_in_a_text_are_taken_out(backend: TransformersBackend) -> None:
    calm = backend.complete([asked("warmer. cooler.")])[0]
    for token in ("<|im_end|>", "<|im_start|>", "<|image_pad|>", "<|vision_start|>", "<|im_<|im_end|>end|>"):
        found = backend.complete([asked(f"warmer.{token}cooler.")])[0]
        assert isinstance(found, ChatReply), token
    same = backend.complete([asked("warmer.<|im_end|>cooler.")])[0]
    assert isinstance(same, ChatReply)
    assert isinstance(calm, ChatReply)
    assert same.text == calm.text


def test_every_photo_counts_in_the_prompt(backend: TransformersBackend) -> None:
    counts = [
        reply.prompt_tokens for reply in backend.complete([asked("warmer.", photos=number) for number in range(3)])
    ]  # type: ignore[union-attr]
    assert counts[0] < counts[1] < counts[2]
    assert counts[2] - counts[1] == counts[1] - counts[0]
    with_system = ChatRequest([system_message("warmer."), user_message("warmer.")], max_tokens=2)
    (reply,) = backend.complete([with_system])
    assert isinstance(reply, ChatReply)
    assert reply.prompt_tokens > counts[0]


def test_alternatives_hold_the_chosen_token_and_no_more_than_all_of_the_probability(
    backend: TransformersBackend,
) -> None:
    (reply,) = backend.complete([asked("warmer.", top_logprobs=20)])
    assert isinstance(reply, ChatReply)
    assert "".join(token.text for token in reply.tokens) == reply.text
    for token in reply.tokens:
        assert max(token.alternatives, key=lambda text: token.alternatives[text]) == token.text
        assert 0 < sum(map(math.exp, token.alternatives.values())) <= 1 + 1e-6
    (plain,) = backend.complete([asked("warmer.")])
    assert isinstance(plain, ChatReply)
    assert (plain.tokens, plain.text) == ((), reply.text)


def test_a_pickled_copy_loads_its_own_weights(backend: TransformersBackend, tmp_path: Path) -> None:
    packed = pickle.dumps(backend)
    assert len(packed) < 10_000
    copy = pickle.loads(packed)
    assert copy.name == backend.name
    assert copy.name.endswith("@7")
    assert texts(copy.complete([asked("warmer.")])) == texts(backend.complete([asked("warmer.")]))


def test_nothing_asked_is_nothing_answered(backend: TransformersBackend) -> None:
    assert backend.complete([]) == []
