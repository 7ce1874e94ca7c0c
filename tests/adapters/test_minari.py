from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from retouch_gym.adapters.minari import Exported, export
from retouch_gym.datasets.recordings import RecordedEpisode, read_episodes
from retouch_gym.envs.chat import ChatEnv
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.envs.sliders import SlidersEnv
from retouch_gym.errors import ConfigurationError, DatasetError
from retouch_gym.images import load_image, save_image
from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.tasks import Episode
from retouch_gym.testing import TinyDataset, TinyRenderer
from retouch_gym.types import ToolCall
from retouch_gym.users.scripted import ScriptedUser
from retouch_gym.wrappers import RecordEpisode

minari = pytest.importorskip("minari")
pytest.importorskip("h5py")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")

TINY: dict[str, Any] = {"dataset": TinyDataset(), "renderer": TinyRenderer()}
FINISH = ToolCall("finish")


def exposure(value: int) -> ToolCall:
    return ToolCall("exposure", {"value": value})


@pytest.fixture(autouse=True)
def _datasets_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def record(env: gymnasium.Env[Any, Any], folder: Path, plays: Sequence[Sequence[Any]]) -> None:
    recorder = RecordEpisode(env, folder)
    for number, actions in enumerate(plays):
        recorder.reset(seed=number, options={"index": number % 4})
        for action in actions:
            recorder.step(action)
    recorder.close()


def check_against_the_environment(
    folder: Path, dataset_id: str, options: dict[str, Any], *, same_end: bool = True
) -> list[RecordedEpisode]:
    """Play what Minari stored in the real numeric environment, and compare every array."""
    dataset = minari.load_dataset(dataset_id)
    recorded = list(read_episodes(folder))
    assert dataset.total_episodes == len(recorded)
    for stored, episode in zip(dataset.iterate_episodes(), recorded, strict=True):
        env = SlidersEnv(**TINY, **options)
        observations = [env.reset(options={"task_id": episode.task.id})[0]]
        assert stored.actions.shape == (len(episode.turns), *env.action_space.shape)
        for action, reward in zip(stored.actions, stored.rewards, strict=True):
            assert action in env.action_space
            observation, paid, terminated, _, _ = env.step(action)
            observations.append(observation)
            if same_end:
                assert paid == reward
        for name in observations[0]:
            expected = np.stack([observation[name] for observation in observations])
            assert stored.observations[name].dtype == expected.dtype
            assert np.array_equal(stored.observations[name], expected), name
        assert stored.rewards.tolist() == [turn.reward for turn in episode.turns]
        assert stored.terminations.tolist() == [False] * (len(episode.turns) - 1) + [True]
        assert not stored.truncations.any()
        assert terminated or not same_end
    return recorded


def test_calls_become_vectors(tmp_path: Path) -> None:
    plays = [
        [[exposure(20), ToolCall("temperature", {"value": -35})], exposure(7)],
        [exposure(900), ToolCall("undo")],
        [exposure(33), ToolCall("undo")],
    ]
    record(RetouchEnv(**TINY, max_turns=2), tmp_path / "rec", plays)
    exported = export(tmp_path / "rec", "retouch/box-v0", size=20, renderer=TinyRenderer())
    assert (exported.episodes, exported.skipped) == (3, {})
    check_against_the_environment(tmp_path / "rec", "retouch/box-v0", {"max_turns": 2, "size": 20})
    stored = minari.load_dataset("retouch/box-v0")[0]
    assert stored.observations["image"].dtype == np.uint8
    assert np.array_equal(stored.observations["controls"][1:], stored.actions)


def test_an_edit_that_was_finished_early_ends_where_it_did(tmp_path: Path) -> None:
    record(RetouchEnv(**TINY, max_turns=3), tmp_path / "rec", [[exposure(20), FINISH]])
    export(tmp_path / "rec", "finished-v0", renderer=TinyRenderer())
    # A vector cannot finish, so the environment itself would go on; what was seen and paid is the same.
    check_against_the_environment(tmp_path / "rec", "finished-v0", {"max_turns": 3}, same_end=False)


@pytest.mark.parametrize("actions", ["discrete", "multi-discrete"])
def test_calls_become_choices(tmp_path: Path, actions: str) -> None:
    plays = [[exposure(25), FINISH], [exposure(999), ToolCall("fade", {"value": 100}), ToolCall("undo"), FINISH]]
    record(RetouchEnv(**TINY, max_turns=4), tmp_path / "rec", plays)
    export(tmp_path / "rec", "choices-v0", renderer=TinyRenderer(), actions=actions)
    options = {"max_turns": 4, "actions": actions}
    check_against_the_environment(tmp_path / "rec", "choices-v0", options)


def test_what_choices_cannot_express_is_skipped_and_said(tmp_path: Path) -> None:
    plays = [[exposure(25), FINISH], [exposure(26), FINISH], [[exposure(25), FINISH]], [FINISH]]
    record(RetouchEnv(**TINY, max_turns=2), tmp_path / "rec", plays)
    exported = export(tmp_path / "rec", "some-v0", renderer=TinyRenderer(), actions="discrete")
    assert exported.episodes == minari.load_dataset("some-v0").total_episodes == 2
    assert list(exported.skipped) == ["000001", "000002"]
    assert "exposure to 26, which none of 9 levels does" in exported.skipped["000001"]
    assert "2 calls" in exported.skipped["000002"]
    with pytest.raises(DatasetError, match=r"'000001' cannot be exported: turn 1 sets"):
        export(tmp_path / "rec", "strict-v0", renderer=TinyRenderer(), actions="discrete", strict=True)


def test_sliders_that_are_not_shown_cannot_be_moved(tmp_path: Path) -> None:
    record(RetouchEnv(**TINY, max_turns=1), tmp_path / "rec", [[exposure(25)]])
    with pytest.raises(DatasetError, match=r"No episode .* \(000000\): turn 1 leads to .*exposure.* 25"):
        export(tmp_path / "rec", "hidden-v0", renderer=TinyRenderer(), sliders=["temperature"])


def test_a_conversation_keeps_its_requests(tmp_path: Path) -> None:
    env = RetouchEnv(**TINY, max_turns=3, user=ScriptedUser())
    record(env, tmp_path / "rec", [[exposure(4), exposure(8), exposure(12)]])
    export(tmp_path / "rec", "talk-v0", renderer=TinyRenderer())
    words = minari.load_dataset("talk-v0")[0].observations["instruction"]
    (episode,) = read_episodes(tmp_path / "rec")
    assert len(episode.requests) > 1
    assert not np.array_equal(words[0], words[1])


def test_every_view_is_exported_in_the_same_numbers(tmp_path: Path) -> None:
    answer = '<think>so</think><answer>{"exposure": 25}</answer>'
    vector = np.zeros(16, np.float32)
    view = SlidersEnv(**TINY).engine.view
    vector[[control.name for control in view.controls].index("exposure")] = 0.25  # type: ignore[attr-defined]
    plays: list[tuple[gymnasium.Env[Any, Any], Any]] = [
        (RetouchEnv(**TINY, max_turns=1), exposure(25)),
        (ChatEnv(**TINY, max_turns=1), answer),
        (SlidersEnv(**TINY, max_turns=1), vector),
    ]
    stored = []
    for number, (env, action) in enumerate(plays):
        record(env, tmp_path / f"rec{number}", [[action]])
        stored.append(export(tmp_path / f"rec{number}", f"view{number}-v0", renderer=TinyRenderer()).dataset[0])
    for other in stored[1:]:
        assert np.array_equal(other.actions, stored[0].actions)
        assert np.array_equal(other.observations["image"], stored[0].observations["image"])
        assert np.array_equal(other.rewards, stored[0].rewards)


def test_the_environment_can_be_recovered(tmp_path: Path) -> None:
    env = gymnasium.make("Retouch/Retouch-v0", dataset_kwargs={"size": 5}, max_turns=1, reward="edit")
    record(env, tmp_path / "rec", [[exposure(25)]])
    export(tmp_path / "rec", "recovered-v0", size=12, flat=True, metadata={"author": "me"})
    dataset = minari.load_dataset("recovered-v0")
    again = dataset.recover_environment()
    stored = dataset[0]
    (metadata,) = dataset.storage.get_episode_metadata([0])
    observation, _ = again.reset(options=metadata["options"])
    assert np.array_equal(observation, stored.observations[0])
    observation, reward, terminated, _, _ = again.step(stored.actions[0])
    assert np.array_equal(observation, stored.observations[1])
    assert (reward, terminated) == (stored.rewards[0], True)
    assert dataset.storage.metadata["author"] == {"me"}


class Sometimes(Reward):
    name = "sometimes"
    range = (0.0, 1.0)

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        return [
            RewardOutput(0.5) if episode.recipe.is_empty else RewardOutput(None, error="no idea")
            for episode in episodes
        ]


def test_a_reward_that_is_not_valid_never_becomes_a_number(tmp_path: Path) -> None:
    env = RetouchEnv(**TINY, max_turns=1, reward=Sometimes(), on_reward_error="truncate")
    record(env, tmp_path / "rec", [[FINISH], [exposure(5)]])
    exported: Exported = export(tmp_path / "rec", "valid-v0", renderer=TinyRenderer())
    assert exported.episodes == 1
    assert "not valid" in exported.skipped["000001"]


def test_a_photo_that_renders_differently_is_noticed(tmp_path: Path) -> None:
    record(RetouchEnv(**TINY, max_turns=1), tmp_path / "rec", [[exposure(5)]])
    (episode,) = read_episodes(tmp_path / "rec")
    path = episode.final.path  # type: ignore[attr-defined]
    save_image(load_image(path) // 2, path)
    with pytest.raises(DatasetError, match="another one with renderer 'tiny'"):
        export(tmp_path / "rec", "other-v0", renderer=TinyRenderer())


def test_several_recordings_and_chunks_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retouch_gym.adapters.minari.CHUNK", 2)
    for name in ("a", "b"):
        record(RetouchEnv(**TINY, max_turns=1), tmp_path / "rec" / name, [[exposure(value)] for value in (1, 2, 3)])
    assert export(tmp_path / "rec", "many-v0", renderer=TinyRenderer()).episodes == 6
    rewards = [float(episode.rewards[0]) for episode in minari.load_dataset("many-v0").iterate_episodes()]
    assert rewards == [episode.reward for episode in read_episodes(tmp_path / "rec")]
    record(RetouchEnv(**TINY, max_turns=1, task="match"), tmp_path / "rec" / "c", [[exposure(1)]])
    with pytest.raises(DatasetError, match="'a' and 'c' differ"):
        export(tmp_path / "rec", "mixed-v0", renderer=TinyRenderer())


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    record(RetouchEnv(**TINY, max_turns=1), tmp_path / "rec", [[exposure(5)]])
    with pytest.raises(ConfigurationError, match="Unknown renderer 'tiny'"):
        export(tmp_path / "rec", "a-v0")
    with pytest.raises(ConfigurationError, match="numeric view does not take"):
        export(tmp_path / "rec", "a-v0", renderer=TinyRenderer(), colour="red")
    env = RetouchEnv(**TINY, task="summary", reward="summary", max_turns=1)
    record(env, tmp_path / "words", [[ToolCall("summarize", {"text": "cooler"})]])
    with pytest.raises(DatasetError, match="words"):
        export(tmp_path / "words", "a-v0", renderer=TinyRenderer())
