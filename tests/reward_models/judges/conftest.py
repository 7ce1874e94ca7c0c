"""A backend whose answers come from a function of the request, and that keeps what it was asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from retouch_gym.chat import photos_of
from retouch_reward_models.backends.base import Backend, ChatFailure, ChatReply, ChatRequest
from retouch_reward_models.cases import Case

Answer = Callable[[ChatRequest], "str | ChatReply | ChatFailure"]


class ScriptedBackend(Backend):
    """Answers each request by a function; `calls` holds the requests of every call of `complete`."""

    name = "scripted"

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.calls: list[list[ChatRequest]] = []

    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply | ChatFailure]:
        self.calls.append(list(requests))
        return [
            found if isinstance(found, ChatReply | ChatFailure) else ChatReply(found, seconds=0.5)
            for found in map(self.answer, requests)
        ]


def colder(request: ChatRequest) -> float:
    """How much bluer and brighter the second photo is than the first, 0..1: what the synthetic tasks ask for."""
    before, after = (photo.astype(float) for photo in photos_of(request.messages)[:2])
    shift = (after - before).mean(axis=(0, 1))
    return float(np.clip((shift[2] - shift[0] + shift.mean()) / 200, 0, 1))


def rate_json(request: ChatRequest) -> str:
    """A sensible answer to either question of `EditJudge`."""
    if len(photos_of(request.messages)) == 1:
        return json.dumps({"rationale": "clean", "naturalness": 9, "artefacts": 8})
    return json.dumps({"rationale": "done", "edit_success": 10 * colder(request), "restraint": 9})


def rate_list(request: ChatRequest) -> str:
    """A sensible answer to either question of `EditScore`."""
    if len(photos_of(request.messages)) == 1:
        return json.dumps({"reasoning": "clean", "score": [20, 22.5]})
    return json.dumps({"reasoning": "done", "score": [25 * colder(request), 24]})


def make_case(seed: int = 0, candidates: int = 1, instruction: str = "Cooler, please.") -> Case:
    rng = np.random.default_rng(seed)
    photos = rng.integers(0, 256, (1 + candidates, 6, 8, 3), dtype=np.uint8)
    return Case(instruction, photos[0], tuple(photos[1:]), f"task-{seed}")


@pytest.fixture
def doubles() -> SimpleNamespace:
    """`ScriptedBackend`, ready answers, and `make_case`."""
    return SimpleNamespace(
        ScriptedBackend=ScriptedBackend, rate_json=rate_json, rate_list=rate_list, colder=colder, make_case=make_case
    )
