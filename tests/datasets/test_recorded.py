from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retouch_gym.datasets import get_dataset
from retouch_gym.datasets.recorded import RecordedDataset
from retouch_gym.datasets.recordings import read_episodes
from retouch_gym.envs.chat import ChatEnv
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.errors import DatasetError, ImageError
from retouch_gym.testing import TinyDataset, TinyRenderer, check_dataset
from retouch_gym.types import ToolCall
from retouch_gym.wrappers import RecordEpisode


def record(folder: Path, count: int = 12, **options: Any) -> Path:
    dataset = TinyDataset(count)
    env = RetouchEnv(**{"dataset": dataset, "renderer": TinyRenderer(), "max_turns": 2, **options})
    recorder = RecordEpisode(env, folder)
    for index in range(count):
        recorder.reset(options={"index": index})
        recorder.step([ToolCall("exposure", {"value": 5 * index}), ToolCall("finish")])
    recorder.close()
    return folder


def test_what_was_done_becomes_the_solution(tmp_path: Path) -> None:
    dataset = get_dataset(f"recorded:{record(tmp_path)}")
    assert (len(dataset), dataset.modes, dataset.name) == (12, ("edit",), "recorded")
    task = dataset.get("000003")
    original = TinyDataset(12)[3]
    assert np.array_equal(task.photo.load(), original.photo.load())
    assert np.array_equal(task.reference.load(), original.reference.load())  # type: ignore[union-attr]
    assert (task.instruction, dict(task.recipe.controls)) == (original.instruction, {"exposure": 15})  # type: ignore[union-attr]
    (episode,) = (episode for episode in read_episodes(tmp_path) if episode.number == 3)
    assert task.metadata["task_id"] == original.id
    assert task.metadata["reward"] == episode.reward
    assert task.metadata["components"] == episode.components


def test_the_checker_passes_and_splits_share_no_photo(tmp_path: Path) -> None:
    record(tmp_path / "worker-1")
    record(tmp_path / "worker-2")
    train, test = RecordedDataset(tmp_path, "train"), RecordedDataset(tmp_path, "test")
    assert len(train) + len(test) == len(RecordedDataset(tmp_path)) == 24
    check_dataset(train, other_splits=[test])
    check_dataset(test, other_splits=[train])
    assert RecordedDataset(tmp_path).id_of(12) == "worker-2/000000"


@pytest.mark.parametrize("mode", ["edit", "refine", "match", "transfer"])
def test_every_mode_of_editing_loads_back_and_can_be_played_again(tmp_path: Path, mode: str) -> None:
    record(tmp_path, 3, task=mode)
    dataset = RecordedDataset(tmp_path)
    check_dataset(dataset)
    env = RetouchEnv(dataset=dataset, renderer=TinyRenderer())
    observation, _ = env.reset(options={"index": 0})
    assert observation["task"] == mode
    assert len(observation["context"]) == {"match": 1, "transfer": 2}.get(mode, 0)


def test_summaries_are_what_the_agent_said(tmp_path: Path) -> None:
    env = RecordEpisode(
        RetouchEnv(dataset=TinyDataset(), renderer=TinyRenderer(), task="summary", reward="summary", max_turns=1),
        tmp_path,
    )
    for call in (ToolCall("summarize", {"text": "colder"}), ToolCall("finish")):
        env.reset()
        env.step(call)
    dataset = RecordedDataset(tmp_path)
    check_dataset(dataset)
    assert [(task.answer, task.recipe) for task in dataset] == [("colder", None)]


def test_reasoning_is_read_from_the_text_in_its_own_format(tmp_path: Path) -> None:
    env = RecordEpisode(
        ChatEnv(dataset=TinyDataset(), renderer=TinyRenderer(), answer_format="iea", max_turns=3), tmp_path
    )
    env.reset(seed=0)
    env.step("<think>nothing right here</think>")
    env.step('<think>too dark</think><answer>{"exposure": 20}</answer>')
    env.step('<think>good now</think><answer>{"finish": true}</answer>')
    assert RecordedDataset(tmp_path)[0].reasoning == "too dark\ngood now"
    assert RecordedDataset(tmp_path, answer_format="json")[0].reasoning == ""
    header = json.loads((tmp_path / "recording.json").read_text())
    (tmp_path / "recording.json").write_text(json.dumps(header | {"answer_format": "of my own"}))
    assert RecordedDataset(tmp_path)[0].reasoning == ""


def test_the_least_reward(tmp_path: Path) -> None:
    record(tmp_path / "valid")
    rewards = [episode.reward or 0.0 for episode in read_episodes(tmp_path)]
    middle = sorted(rewards)[6]
    best = RecordedDataset(tmp_path, min_reward=middle)
    assert len(best) == sum(reward >= middle for reward in rewards)
    assert all(float(task.metadata["reward"]) >= middle for task in best)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=r"None of the 12 episodes .* min_reward = 2"):
        RecordedDataset(tmp_path, min_reward=2)
    with pytest.raises(DatasetError, match="finite"):
        RecordedDataset(tmp_path, min_reward=float("nan"))


def test_an_episode_without_a_valid_reward_is_below_every_least_reward(tmp_path: Path) -> None:
    record(tmp_path, 2)
    path = tmp_path / "episodes.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["turns"][-1]["reward"] = None
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert RecordedDataset(tmp_path)[0].metadata["reward"] is None
    assert [task.id for task in RecordedDataset(tmp_path, min_reward=-10)] == ["000001"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: b"{" + line[2:], "line 2 is damaged"),
        (lambda line: b"[]\n", "line 2: entry"),
        (lambda line: b"\xff\n", "line 2 is damaged"),
        (lambda line: line.replace(b'"episode": 1,', b"", 1), "line 2: episode: Field required"),
        (lambda line: line.replace(b'"finished": true', b'"finished": "yes"', 1), "line 2: finished"),
        (lambda line: line.replace(b'"exposure": 5}', b'"exposure": null}'), "line 2 is damaged: Recipe control"),
        (lambda line: line.replace(b'"source": "', b'"source": "../'), "line 2 is damaged: .* no name of a photo"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, change: Any, message: str) -> None:
    record(tmp_path, 3)
    path = tmp_path / "episodes.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = change(lines[1])
    path.write_bytes(b"".join(lines))
    with pytest.raises(DatasetError, match=rf"episodes\.jsonl', {message}"):
        RecordedDataset(tmp_path)


def test_missing_and_foreign_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"No recording\.json"):
        RecordedDataset(tmp_path)
    with pytest.raises(DatasetError, match="split = 'dev'"):
        RecordedDataset(tmp_path, split="dev")  # type: ignore[arg-type]
    (tmp_path / "recording.json").write_text("{")
    with pytest.raises(DatasetError, match=r"recording\.json' cannot be read"):
        RecordedDataset(tmp_path)
    (tmp_path / "recording.json").write_text('{"version": 1, "format": "another"}')
    with pytest.raises(DatasetError, match="format"):
        RecordedDataset(tmp_path)


def test_photos_are_read_when_they_are_needed(tmp_path: Path) -> None:
    record(tmp_path, 2)
    for file in (tmp_path / "photos").iterdir():
        file.unlink()
    dataset = RecordedDataset(tmp_path)
    with pytest.raises(ImageError, match="photos"):
        dataset[0].photo.load()
