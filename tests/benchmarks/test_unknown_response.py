"""The task of `benchmarks/multi_turn.py`: what looking between two turns is worth, by scripts, without a model."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from retouch_gym.chat import photos_of
from retouch_gym.datasets.base import ListedDataset
from retouch_gym.envs.chat import ChatEnv
from retouch_gym.recipes import Recipe
from retouch_gym.tasks import Task
from retouch_gym.testing import check_dataset, check_renderer

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("_unknown_response")


@pytest.fixture
def playing(task: ModuleType) -> ModuleType:
    return importlib.import_module("_multi_turn_play")


def test_renderer_and_dataset_keep_their_contracts(task: ModuleType) -> None:
    check_renderer(task.UnknownResponse())
    train, validation, test = (task.UnknownResponseDataset(split, size=12) for split in task.SPLITS)
    check_dataset(train, other_splits=[validation, test])
    check_dataset(validation, other_splits=[test])


def test_no_photo_is_in_two_splits(task: ModuleType) -> None:
    names = [name for split in task.SPLITS for name in task.PHOTOS[split]]
    assert len(set(names)) == len(names)
    assert all(task.PHOTOS[split] for split in task.SPLITS)


class Responses(ListedDataset):
    """One task with every response in turn."""

    name, split = "responses", "test"

    def __init__(self, task: ModuleType) -> None:
        super().__init__([f"{response:g}" for response in task.RESPONSES])
        self.first = task.UnknownResponseDataset("validation", size=1)[0]
        draws = [task.response_of(seed) for seed in range(200)]
        self.seeds = [draws.index(response) for response in task.RESPONSES]

    def __getitem__(self, index: int) -> Task:
        return replace(self.first, id=self.id_of(index), start=Recipe("iea", seed=self.seeds[index]))


def test_only_the_photo_between_the_turns_tells_the_response(task: ModuleType) -> None:
    options = task.env_options("validation", 2, 1, seed=0)
    del options["dataset_kwargs"]
    env = ChatEnv(**{**options, "dataset": Responses(task)})
    words, photos = set(), []
    for index in range(len(task.RESPONSES)):
        env.reset(options={"index": index})
        messages, *_ = env.step(task.write(task.TRY, task.PROBE))
        words.add(str([block.get("text") for message in messages for block in message["content"]]))
        photos.append(photos_of(messages))
    assert len(words) == 1
    assert len({before.tobytes() for before, _ in photos}) == 1
    assert len({after.tobytes() for _, after in photos}) == len(task.RESPONSES)


def test_two_turns_are_worth_far_more_than_the_best_single_answer(task: ModuleType, playing: ModuleType) -> None:
    single, double = (task.env_options("validation", turns, 48, seed=0) for turns in (1, 2))
    best = max(playing.play(playing.always(fraction), single).rewards.mean() for fraction in (0.25, 0.5, 0.75, 1.0))
    looked = playing.play(playing.measuring, double)
    assert best < 0.5
    assert looked.rewards.mean() > 0.9
    assert playing.play(playing.measuring, double, playing.swapped).rewards.mean() < best


def test_demonstrations_reach_the_goal(task: ModuleType) -> None:
    options = task.env_options("validation", 2, 8, seed=0)
    demonstrations = task.Demonstrated(options, fraction=0.5)
    env = ChatEnv(**options)
    for index in (1, 2, 3):
        env.reset(options={"index": index})
        env.step(task.write(task.TRY, task.probe_of(env.episode.task)))
        messages, answer = demonstrations[index]
        assert len(photos_of(messages)) == 2
        _, reward, terminated, _, info = env.step(answer)
        assert terminated
        assert info["tool_error"] is None
        assert reward > 0.99
