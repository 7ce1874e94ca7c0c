from __future__ import annotations

import doctest
import errno
import json
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from retouch_gym.datasets.recording_format import (
    CallNote,
    DatasetNote,
    EnvironmentNote,
    Header,
    Line,
    PhotoNotes,
    SeedNote,
    TaskNote,
    TurnNote,
)
from retouch_gym.datasets.recordings import RecordedEpisode, read_episodes, read_header
from retouch_gym.envs.chat import ChatEnv
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.envs.vector import RetouchVectorEnv
from retouch_gym.errors import ConfigurationError, DatasetError
from retouch_gym.images import load_image
from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.tasks import Episode
from retouch_gym.testing import TinyDataset, TinyRenderer
from retouch_gym.types import ToolCall
from retouch_gym.users.scripted import ScriptedUser
from retouch_gym.wrappers import RecordEpisode, RecordVectorEpisode, record
from retouch_gym.wrappers.photo_folder import photo_name

FINISH = ToolCall("finish")


def exposure(value: int) -> ToolCall:
    return ToolCall("exposure", {"value": value})


def make(**options: Any) -> RetouchEnv:
    return RetouchEnv(**{"dataset": TinyDataset(), "renderer": TinyRenderer(), "max_turns": 3, **options})


def play(env: gymnasium.Env[Any, Any], actions: Sequence[Any], **reset: Any) -> tuple[list[float], dict[str, Any]]:
    env.reset(**reset)
    rewards = []
    for action in actions:
        _, reward, terminated, truncated, info = env.step(action)
        rewards.append(float(reward))
    assert terminated or truncated
    return rewards, info


class Failing(Reward):
    name = "failing"
    range = (0.0, 1.0)

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        return [RewardOutput(None, error="the judge is out") for _ in episodes]


def test_an_episode_is_written_and_read_back_whole(tmp_path: Path) -> None:
    env = RecordEpisode(make(), tmp_path / "runs" / "a", turn_photos=True)
    rewards, info = play(env, [exposure(500), [exposure(20), ToolCall("temperature", {"value": -10})], FINISH], seed=5)
    env.close()
    (episode,) = read_episodes(tmp_path / "runs" / "a")
    played = env.unwrapped.episode  # type: ignore[attr-defined]
    task, there = episode.task, played.task
    assert (task.id, task.mode, task.kind, task.instruction) == (there.id, there.mode, there.kind, there.instruction)
    assert (task.recipe, task.start, task.history, task.answer) == (there.recipe, None, (), there.answer)
    assert np.array_equal(task.photo.load(), played.source)
    assert np.array_equal(task.reference.load(), played.reference)  # type: ignore[union-attr, arg-type]
    assert np.array_equal(episode.final.load(), played.image)
    assert tuple(turn.turn for turn in episode.turns) == played.turns
    assert [turn.reward for turn in episode.turns] == rewards
    both = {"exposure": 20, "temperature": -10}
    assert [dict(turn.recipe.controls) for turn in episode.turns] == [{}, both, both]
    assert episode.turns[0].feedback.startswith("Refused")
    assert np.array_equal(episode.turns[0].photo.load(), played.source)  # type: ignore[union-attr]
    assert np.array_equal(episode.turns[2].photo.load(), played.image)  # type: ignore[union-attr]
    assert episode.reward == rewards[-1]
    assert episode.components == info["reward_components"]
    assert (episode.recipe, episode.finished, episode.requests) == (info["recipe"], True, (there.instruction,))
    assert (episode.terminated, episode.truncated, episode.recording, episode.number) == (True, False, ".", 0)
    assert (episode.seeds.reset, episode.seeds.episode) == (5, 0)


def test_the_recorded_seed_gives_the_episode_again(tmp_path: Path) -> None:
    env = RecordEpisode(make(user=ScriptedUser()), tmp_path)
    for seed in (3, None, None):
        play(env, [exposure(5), exposure(10), exposure(15)], seed=seed)
    third = list(read_episodes(tmp_path))[2]
    assert (third.seeds.reset, third.seeds.episode) == (3, 2)
    assert len(third.requests) > 1
    again = make(user=ScriptedUser())
    again.reset(seed=third.seeds.reset)
    for _ in range(third.seeds.episode):
        again.reset()
    for turn in third.turns:
        again.step(turn.turn.calls)
    assert again.episode.requests == third.requests
    assert again.episode.task.id == third.task.id


def test_photos_are_written_once_under_the_hash_of_their_pixels(tmp_path: Path) -> None:
    env = RecordEpisode(make(), tmp_path)
    for value in (10, 10, 20):
        play(env, [exposure(value), FINISH], options={"index": 1})
    files = sorted((tmp_path / "photos").iterdir())
    assert len(files) == 4, "a source, a reference, two results"
    assert all(photo_name(load_image(file)) == file.stem for file in files)


def test_a_reward_that_failed_is_null_and_never_a_number(tmp_path: Path) -> None:
    env = RecordEpisode(make(reward=Failing(), on_reward_error="truncate"), tmp_path)
    play(env, [exposure(10), FINISH])
    line = json.loads((tmp_path / "episodes.jsonl").read_text())
    assert (line["reward"], line["reward_valid"], line["truncated"]) == (None, False, True)
    assert [turn["reward"] for turn in line["turns"]] == [0.0, None]
    (episode,) = read_episodes(tmp_path)
    assert episode.reward is None
    assert "the judge is out" in str(episode.reward_error)


def test_an_episode_cut_off_before_its_reward_has_none(tmp_path: Path) -> None:
    env = RecordEpisode(gymnasium.wrappers.TimeLimit(make(), 2), tmp_path)
    play(env, [exposure(10), exposure(20)])
    (episode,) = read_episodes(tmp_path)
    assert (episode.reward, episode.truncated, episode.reward_error) == (None, True, None)


def test_paid_turns_add_up(tmp_path: Path) -> None:
    env = RecordEpisode(make(reward_mode="delta"), tmp_path)
    rewards, _ = play(env, [exposure(10), exposure(20), FINISH])
    (episode,) = read_episodes(tmp_path)
    assert [turn.reward for turn in episode.turns] == rewards
    assert episode.reward == sum(rewards)


def test_keep_chooses(tmp_path: Path) -> None:
    seen: list[RecordedEpisode] = []

    def keep(episode: RecordedEpisode) -> bool:
        seen.append(episode)
        return episode.recipe["exposure"] > 10

    env = RecordEpisode(make(), tmp_path, keep=keep)
    for value in (5, 15):
        play(env, [exposure(value), FINISH])
    assert (len(seen), env.recorded) == (2, 1)
    assert [episode.recipe["exposure"] for episode in read_episodes(tmp_path)] == [15]


def test_a_killed_process_loses_the_unfinished_line_alone_and_recording_goes_on(tmp_path: Path) -> None:
    env = RecordEpisode(make(), tmp_path)
    for _ in range(2):
        play(env, [FINISH])
    env.close()
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    assert [episode.number for episode in read_episodes(tmp_path)] == [0], "an unfinished line is passed over"
    again = RecordEpisode(make(), tmp_path)
    play(again, [FINISH])
    assert [episode.number for episode in read_episodes(tmp_path)] == [0, 1]
    assert path.read_bytes().count(b"\n") == 2


def test_killed_in_the_midst_every_finished_episode_is_there(tmp_path: Path) -> None:
    program = """
import os, sys
from retouch_gym import ToolCall
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.testing import TinyDataset, TinyRenderer
from retouch_gym.wrappers import RecordEpisode
env = RecordEpisode(RetouchEnv(dataset=TinyDataset(), renderer=TinyRenderer(), max_turns=2), sys.argv[1])
for _ in range(3):
    env.reset(seed=1)
    env.step(ToolCall("finish"))
env.reset()
env.step(ToolCall("exposure", {"value": 5}))
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=100)
    assert done.returncode != 0
    assert len(list(read_episodes(tmp_path))) == 3


class _FullDisk:
    """A file that takes half of what it is given."""

    def __init__(self, file: Any) -> None:
        self.file, self.name = file, file.name

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, data: Any) -> int:
        self.file.write(bytes(data)[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_no_half_episode(tmp_path: Path) -> None:
    env = RecordEpisode(make(), tmp_path)
    play(env, [FINISH], options={"index": 0})
    before = sorted(tmp_path.rglob("*")), (tmp_path / "episodes.jsonl").read_bytes()
    writer = env._recorder.writer
    writer._file = _FullDisk(writer._file)  # type: ignore[assignment]
    env.reset(options={"index": 1})
    with pytest.raises(DatasetError, match=r"Cannot write '.*episodes\.jsonl': .*No space left"):
        env.step(FINISH)
    assert (sorted(tmp_path.rglob("*")), (tmp_path / "episodes.jsonl").read_bytes()) == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    env = RecordEpisode(make(), tmp_path / "file" / "below")
    env.reset()
    with pytest.raises(DatasetError, match="below"):
        env.step(FINISH)


def test_a_photo_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    env = RecordEpisode(make(), tmp_path)
    play(env, [FINISH])
    photos = tmp_path / "photos"
    for file in photos.iterdir():
        file.unlink()
    photos.rmdir()
    env.reset()
    with pytest.raises(DatasetError, match="photos"):
        env.step(FINISH)
    assert len((tmp_path / "episodes.jsonl").read_text().splitlines()) == 1


def test_another_environment_is_refused(tmp_path: Path) -> None:
    play(RecordEpisode(make(), tmp_path), [FINISH])
    with pytest.raises(ConfigurationError, match="holds a recording with max_turns = 3, this environment has 4"):
        RecordEpisode(make(max_turns=4), tmp_path)
    (tmp_path / "recording.json").write_text('{"version": 2}')
    with pytest.raises(DatasetError, match="has version 2"):
        RecordEpisode(make(), tmp_path)


def test_two_at_once_are_refused_and_workers_are_apart(tmp_path: Path) -> None:
    first, second = RecordEpisode(make(), tmp_path / "one"), RecordEpisode(make(), tmp_path / "one")
    play(first, [FINISH])
    second.reset()
    with pytest.raises(ConfigurationError, match="worker=True"):
        second.step(FINISH)
    for seed in (1, 2):
        play(RecordEpisode(make(), tmp_path / "many", worker=True), [FINISH], seed=seed)
    episodes = list(read_episodes(tmp_path / "many"))
    pid = os.getpid()
    assert [episode.recording for episode in episodes] == [f"worker-{pid}", f"worker-{pid}-1"]


def _recorder(folder: str) -> Callable[[], RecordEpisode]:
    return lambda: RecordEpisode(make(), folder, worker=True)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_asynchronous_environments_record_side_by_side(tmp_path: Path, context: str) -> None:
    if context not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {context} here")
    envs = gymnasium.vector.AsyncVectorEnv(
        [_recorder(str(tmp_path)) for _ in range(2)], context=context, shared_memory=False
    )
    envs.reset(seed=1)
    envs.step((FINISH, FINISH))
    envs.close()
    episodes = list(read_episodes(tmp_path))
    assert sorted(episode.seeds.reset or 0 for episode in episodes) == [1, 2]
    assert len({episode.recording for episode in episodes}) == 2


def test_a_pickled_wrapper_goes_on_recording(tmp_path: Path) -> None:
    env = RecordEpisode(make(), tmp_path)
    play(env, [FINISH])
    copy = pickle.loads(pickle.dumps(env))
    env.close()
    play(copy, [FINISH])
    assert [episode.number for episode in read_episodes(tmp_path)] == [0, 1]


def test_an_episode_whose_start_was_not_seen_is_not_recorded(tmp_path: Path) -> None:
    env = RecordEpisode(make(), tmp_path)
    env.reset(options={"index": 0})
    start = env.unwrapped.get_state()  # type: ignore[attr-defined]
    env.step(exposure(10))
    env.step(exposure(20))
    env.unwrapped.set_state(start)  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match="was not recorded"):
        env.step(FINISH)
    assert env.recorded == 0


def test_every_view_and_mode_is_recorded(tmp_path: Path) -> None:
    options = {"dataset": TinyDataset(), "renderer": TinyRenderer(), "max_turns": 1}
    chat = RecordEpisode(ChatEnv(task="summary", reward="summary", answer_format="json", **options), tmp_path / "chat")
    play(chat, ['{"reasoning": "cold", "calls": [{"name": "summarize", "arguments": {"text": "make it cooler"}}]}'])
    (episode,) = read_episodes(tmp_path / "chat")
    assert (episode.task.mode, episode.answer, len(episode.task.context)) == ("summary", "make it cooler", 1)
    assert read_header(tmp_path / "chat").answer_format == "json"
    refine = RecordEpisode(make(task="refine", reward="refine"), tmp_path / "refine")
    play(refine, [FINISH])
    (episode,) = read_episodes(tmp_path / "refine")
    assert episode.task.start is not None
    assert episode.recipe == episode.task.start
    assert len(episode.task.history) == 1
    sliders = gymnasium.make("Retouch/Sliders-v0", max_turns=1)
    play(RecordEpisode(sliders, tmp_path / "sliders"), [np.full(16, 0.25, np.float32)], seed=0)
    (episode,) = read_episodes(tmp_path / "sliders")
    assert episode.recipe["exposure"] == 25
    header = read_header(tmp_path / "sliders")
    assert (header.environment.id, header.environment.kwargs) == ("Retouch/Sliders-v0", {"max_turns": 1})


def test_arguments_that_json_cannot_hold_are_named(tmp_path: Path) -> None:
    env = gymnasium.make("Retouch/Retouch-v0", dataset=TinyDataset(), renderer=TinyRenderer(), reward="likeness")
    play(RecordEpisode(env, tmp_path), [FINISH])
    note = read_header(tmp_path).environment
    assert (note.kwargs, note.left_out) == ({"reward": "likeness"}, ["dataset", "renderer"])


def test_only_our_environments_can_be_recorded(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="CartPoleEnv"):
        RecordEpisode(gymnasium.make("CartPole-v1"), tmp_path)
    with pytest.raises(ConfigurationError, match="SyncVectorEnv"):
        RecordVectorEpisode(gymnasium.vector.SyncVectorEnv([make]), tmp_path)
    with pytest.raises(ConfigurationError, match="SAME_STEP"):
        RecordVectorEpisode(RetouchVectorEnv(1, autoreset_mode="SameStep"), tmp_path)


@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
def test_a_vector_environment_records_what_single_ones_would(tmp_path: Path, mode: str) -> None:
    options = {"dataset": TinyDataset(), "renderer": TinyRenderer(), "max_turns": 2}
    envs = RecordVectorEpisode(
        RetouchVectorEnv(2, autoreset_mode=mode, **options), tmp_path / "vector", turn_photos=True
    )
    envs.reset(seed=4)
    envs.step((exposure(10), FINISH))
    if mode == "Disabled":
        envs.reset(options={"reset_mask": np.array([False, True])})
    envs.step((exposure(20), exposure(30)))
    envs.close()
    single = RecordEpisode(make(max_turns=2), tmp_path / "single", turn_photos=True)
    play(single, [FINISH], seed=5)
    play(single, [exposure(10), exposure(20)], seed=4)
    assert (tmp_path / "vector" / "episodes.jsonl").read_text() == (tmp_path / "single" / "episodes.jsonl").read_text()


def test_a_vector_environment_notes_components_and_later_episodes(tmp_path: Path) -> None:
    options = {"dataset": TinyDataset(), "renderer": TinyRenderer(), "max_turns": 1, "reward": "edit"}
    envs = RecordVectorEpisode(RetouchVectorEnv(2, group_size=2, **options), tmp_path)
    envs.reset(seed=4)
    rewards = [envs.step((exposure(10), exposure(20)))[1] for _ in range(3)]
    episodes = list(read_episodes(tmp_path))
    assert [(e.seeds.reset, e.seeds.episode) for e in episodes] == [(4, 0), (4, 0), (4, 1), (4, 1)]
    assert [e.reward for e in episodes] == [*rewards[0], *rewards[2]]
    assert all(set(e.components) for e in episodes)


def test_closing_and_going_on_stays_in_the_same_subfolder(tmp_path: Path) -> None:
    env = RecordEpisode(make(), tmp_path, worker=True)
    play(env, [FINISH])
    env._recorder.writer.close()
    play(env, [FINISH])
    assert [(episode.recording, episode.number) for episode in read_episodes(tmp_path)] == [
        (f"worker-{os.getpid()}", 0),
        (f"worker-{os.getpid()}", 1),
    ]


def test_the_manual_runs_and_names_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manual = (Path(__file__).parents[2] / "docs" / "recordings.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", manual, re.DOTALL)
    names: dict[str, Any] = {}
    exec(program, names)
    assert len(names["tasks"]) == 8
    models = [Header, Line, TaskNote, TurnNote, PhotoNotes, SeedNote, DatasetNote, EnvironmentNote, CallNote]
    keys = {key for model in models for key in model.model_fields}
    assert sorted(key for key in keys if f"`{key}`" not in manual) == []


def test_the_example_of_the_wrapper_runs() -> None:
    results = doctest.testmod(record)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize(
    "action",
    [
        ToolCall("exposure", [1, 2]),  # type: ignore[arg-type]
        ToolCall("exposure", None),  # type: ignore[arg-type]
        ToolCall(None, {}),  # type: ignore[arg-type]
        ToolCall("exposure", {"value": float("nan")}),
        ToolCall("exposure", {3: object()}),  # type: ignore[dict-item]
        ToolCall("\ud800\n\u2028", {"value": "\ud800\n\u2028"}),
        ToolCall("exposure", {"value": 10**5000}),
        object(),
        [exposure(1)] * 70,
    ],
)
def test_whatever_an_agent_does_can_be_written_and_read(tmp_path: Path, action: Any) -> None:
    env = RecordEpisode(make(), tmp_path)
    play(env, [action, action, FINISH])
    (episode,) = read_episodes(tmp_path)
    assert tuple(turn.turn for turn in episode.turns) == env.unwrapped.episode.turns  # type: ignore[attr-defined]
    assert episode.turns[0].turn.error is not None


def test_the_wrapper_can_be_made_again_from_its_spec(tmp_path: Path) -> None:
    env = RecordEpisode(gymnasium.make("Retouch/Retouch-v0", max_turns=1), tmp_path, turn_photos=True)
    assert env.spec is not None
    again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    play(again, [exposure(1)], seed=0)
    (episode,) = read_episodes(tmp_path)
    assert episode.turns[0].photo is not None
