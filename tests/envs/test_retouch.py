"""One environment, turn by turn."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence

import gymnasium
import numpy as np
import pytest

import retouch_gym
from retouch_gym import Recipe, ToolCall, Unparsable
from retouch_gym.datasets import Dataset
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.errors import ConfigurationError, DatasetError, ImageError, RendererError, RewardError
from retouch_gym.images import Pixels
from retouch_gym.renderers import Renderer
from retouch_gym.rewards import Reward, RewardOutput
from retouch_gym.tasks import Episode, Task
from retouch_gym.testing import BrokenPhoto, NoisePhoto, TinyDataset, TinyRenderer
from retouch_gym.types import Image

MakeEnv = Callable[..., RetouchEnv]


class OneTask(Dataset):
    """A dataset of one given task."""

    name = "one"
    split = "test"

    def __init__(self, task: Task) -> None:
        self.task = task

    def __len__(self) -> int:
        return 1

    def id_of(self, index: int) -> str:
        return self.task.id

    def index_of(self, task_id: str) -> int:
        if task_id != self.task.id:
            raise DatasetError(task_id)
        return 0

    def __getitem__(self, index: int) -> Task:
        return self.task


class SecondTimeFails(TinyRenderer):
    """Renders once, then breaks."""

    def __init__(self) -> None:
        self.calls = 0

    def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        self.calls += 1
        if self.calls > 1:
            raise RendererError("engine gone")
        return super().render(photos, recipes)


class FixedOutput(Reward):
    """Returns one given output."""

    name = "fixed"
    range = (-1.0, 1.0)

    def __init__(self, output: RewardOutput) -> None:
        self.output = output

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        return [self.output for _ in episodes]


def test_an_episode_from_reset_to_finish(make_env: MakeEnv) -> None:
    env = make_env(max_turns=4)
    obs, info = env.reset(options={"index": 2})
    task = env.dataset[2]
    source = task.photo.load()
    assert np.array_equal(obs["image"], source)
    assert np.array_equal(obs["original"], source)
    assert (obs["instruction"], obs["feedback"], obs["recipe"], obs["turns_left"]) == (task.instruction, "", "{}", 4)
    assert info == {"task_id": task.id, "kind": task.kind, "tool_error": None}

    obs, reward, terminated, truncated, info = env.step(ToolCall("exposure", {"value": 10}))
    assert (reward, terminated, truncated, info["tool_error"]) == (0.0, False, False, None)
    assert obs["feedback"] == "Applied exposure = 10."
    assert json.loads(obs["recipe"]) == {"exposure": 10}
    expected = env.renderer.render([source], [Recipe("iea", {"exposure": 10})])[0]
    assert np.array_equal(obs["image"], expected)
    assert np.array_equal(obs["original"], source)

    assert task.recipe is not None
    plan = [ToolCall(name, {"value": int(value)}) for name, value in task.recipe.controls.items()]
    obs, reward, terminated, truncated, info = env.step([*plan, ToolCall("finish")])
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info["finished"] is True
    assert info["reward_valid"] is True
    assert info["recipe"] == task.recipe
    assert info["reward_components"]["distance"] == 0.0
    assert obs["turns_left"] == 2
    assert obs["feedback"].endswith("Finished.")


def test_the_photo_is_rendered_from_the_source_so_a_later_value_replaces_the_earlier(make_env: MakeEnv) -> None:
    env = make_env()
    start, _ = env.reset(seed=3)
    for value in (90, -40, 15):
        step = env.step(ToolCall("exposure", {"value": value}))
    again = make_env()
    again.reset(seed=3)
    direct = again.step(ToolCall("exposure", {"value": 15}))
    assert np.array_equal(step[0]["image"], direct[0]["image"])
    undone = env.step(ToolCall("exposure", {"value": 0}))
    assert np.array_equal(undone[0]["image"], start["image"])
    assert undone[0]["recipe"] == "{}"


def test_the_last_turn_terminates_and_pays_without_finish(make_env: MakeEnv) -> None:
    env = make_env(max_turns=2)
    env.reset(seed=0)
    assert env.step(ToolCall("exposure", {"value": 5}))[2:4] == (False, False)
    obs, reward, terminated, truncated, info = env.step(Unparsable("no JSON"))
    assert (terminated, truncated) == (True, False)
    assert info["finished"] is False
    assert info["reward_valid"] is True
    assert reward > 0
    assert obs["turns_left"] == 0


def test_single_shot_pays_in_the_only_turn(make_env: MakeEnv) -> None:
    env = make_env(max_turns=1, reward="edit")
    env.reset(seed=0)
    _, reward, terminated, _, info = env.step(
        [ToolCall("exposure", {"value": 20}), ToolCall("temperature", {"value": -30})]
    )
    assert terminated
    assert reward > 0.5
    assert set(info["reward_components"]) >= {"likeness", "usefulness"}


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (ToolCall("exposuer", {"value": 1}), ["exposuer", "exposure"]),
        (ToolCall("exposure", {"value": 101}), ["exposure", "value", "101", "100"]),
        (ToolCall("exposure", {"value": float("nan")}), ["exposure", "value", "nan"]),
        (ToolCall("exposure", {"val": 1}), ["exposure", "val", "value"]),
        (ToolCall("fade", {"value": -1}), ["fade", "-1", "0"]),
        ([ToolCall("contrast", {"value": 10}), ToolCall("tint", {"value": 1000})], ["tint", "1000"]),
        ([ToolCall("contrast", {"value": 10})] * 65, ["65", "64"]),
        (Unparsable("expected a JSON object"), ["expected a JSON object"]),
        (Unparsable(""), ["no tool call"]),
        ("exposure", ["ToolCall", "str"]),
        (None, ["ToolCall", "NoneType"]),
        ({"name": "exposure"}, ["ToolCall", "dict"]),
        ([ToolCall("finish"), 3], ["ToolCall", "int"]),
    ],
)
def test_a_bad_action_is_feedback_costs_a_turn_and_changes_nothing(
    make_env: MakeEnv, action: object, words: list[str]
) -> None:
    env = make_env(max_turns=3)
    env.reset(seed=1)
    before = env.step(ToolCall("exposure", {"value": 30}))[0]
    obs, reward, terminated, truncated, info = env.step(action)  # type: ignore[arg-type]
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert all(word in info["tool_error"] for word in words), info["tool_error"]
    assert info["tool_error"] in obs["feedback"]
    assert obs["turns_left"] == before["turns_left"] - 1
    assert obs["recipe"] == before["recipe"]
    assert np.array_equal(obs["image"], before["image"])
    assert env.episode.turns[-1].error == info["tool_error"]
    assert obs in env.observation_space


def test_an_empty_plan_is_valid_and_does_nothing(make_env: MakeEnv) -> None:
    env = make_env()
    env.reset(seed=1)
    obs, _, terminated, _, info = env.step([])
    assert (terminated, info["tool_error"], obs["recipe"]) == (False, None, "{}")
    assert "finish" in obs["feedback"]


def test_feedback_is_bounded_whatever_the_agent_writes(make_env: MakeEnv) -> None:
    env = make_env(max_turns=9)
    env.reset(seed=1)
    for action in (Unparsable("x" * 10**6), Unparsable("\ud800"), [ToolCall("y" * 10**5)] * 64):
        obs, *_, info = env.step(action)
        assert obs in env.observation_space
        assert info["tool_error"]


def test_observed_photos_cannot_be_painted_over(make_env: MakeEnv) -> None:
    env = make_env(max_turns=1)
    obs, _ = env.reset(seed=1)
    for key in ("image", "original"):
        with pytest.raises(ValueError, match="read-only"):
            obs[key][:] = 0


def test_reference_and_recipe_stay_hidden_from_the_agent(make_env: MakeEnv) -> None:
    env = make_env()
    obs, info = env.reset(options={"index": 1})
    obs2, *_, info2 = env.step(ToolCall("exposure", {"value": 1}))
    task = env.dataset[1]
    assert task.reference is not None
    assert task.recipe is not None
    reference = task.reference.load()
    for observed in (obs, obs2):
        keys = {"image", "original", "context", "task", "instruction", "history", "feedback", "recipe", "turns_left"}
        assert set(observed) == keys
        assert observed["context"] == ()
        assert not any(np.array_equal(observed[key], reference) for key in ("image", "original"))
    assert not {"recipe", "reference"} & (set(info) | set(info2))


def test_the_reference_is_not_loaded_before_the_reward(make_env: MakeEnv) -> None:
    task = Task("t", NoisePhoto(0), "brighter", reference=BrokenPhoto())
    env = make_env(dataset=OneTask(task), max_turns=2)
    env.reset(seed=0)
    env.step(ToolCall("exposure", {"value": 1}))
    with pytest.raises(RewardError, match=r"'t'.*broken on purpose"):
        env.step(ToolCall("finish"))


class TestFailures:
    def test_a_failed_reward_raises_and_ends_the_episode(self, make_env: MakeEnv) -> None:
        env = make_env(reward=FixedOutput(RewardOutput(None, error="judge away")))
        env.reset(seed=0)
        with pytest.raises(RewardError, match="judge away"):
            env.step(ToolCall("finish"))
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(ToolCall("finish"))
        env.reset()

    @pytest.mark.parametrize(
        "output", [RewardOutput(None, error="judge away"), RewardOutput(float("nan")), RewardOutput(float("inf"))]
    )
    def test_or_truncates_with_a_masked_zero_when_asked_to(self, make_env: MakeEnv, output: RewardOutput) -> None:
        env = make_env(reward=FixedOutput(output), on_reward_error="truncate")
        env.reset(seed=0)
        _, reward, terminated, truncated, info = env.step(ToolCall("finish"))
        assert (reward, terminated, truncated) == (0.0, False, True)
        assert info["reward_valid"] is False
        assert info["reward_error"]

    def test_a_failed_renderer_raises_or_truncates(self, make_env: MakeEnv) -> None:
        env = make_env(renderer=SecondTimeFails())
        env.reset(seed=0)
        with pytest.raises(RendererError, match="engine gone"):
            env.step(ToolCall("exposure", {"value": 1}))
        env = make_env(renderer=SecondTimeFails(), on_reward_error="truncate")
        env.reset(seed=0)
        obs, reward, terminated, truncated, info = env.step(ToolCall("exposure", {"value": 1}))
        assert (reward, terminated, truncated, info["reward_valid"]) == (0.0, False, True, False)
        assert obs in env.observation_space

    def test_a_broken_photo_raises_at_reset(self, make_env: MakeEnv) -> None:
        task = Task("t", BrokenPhoto(), "brighter", reference=NoisePhoto(0))
        with pytest.raises(ImageError, match="broken on purpose"):
            make_env(dataset=OneTask(task)).reset(seed=0)

    def test_a_missing_reference_is_told_at_reset(self, make_env: MakeEnv) -> None:
        task = Task("lonely", NoisePhoto(0), "brighter")
        with pytest.raises(ConfigurationError, match=r"likeness.*'lonely' has none"):
            make_env(dataset=OneTask(task)).reset(seed=0)
        env = make_env(dataset=OneTask(task), on_reward_error="truncate")
        env.reset(seed=0)
        assert env.step(ToolCall("finish"))[4]["reward_valid"] is False
        make_env(dataset=OneTask(task), reward=FixedOutput(RewardOutput(0.5))).reset(seed=0)

    def test_step_and_render_before_reset_and_step_after_the_end(self, make_env: MakeEnv) -> None:
        env = make_env(render_mode="ansi")
        with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
            env.step(ToolCall("finish"))
        with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
            env.render()
        env.reset(seed=0)
        env.step(ToolCall("finish"))
        with pytest.raises(gymnasium.error.ResetNeeded, match="over"):
            env.step(ToolCall("finish"))


class TestReset:
    def test_a_task_is_chosen_by_id_or_index(self, make_env: MakeEnv) -> None:
        env = make_env()
        for index in (0, np.int64(3)):
            by_index = env.reset(options={"index": index})
            by_id = env.reset(options={"task_id": env.dataset.id_of(int(index))})
            assert by_index[1] == by_id[1]
            assert np.array_equal(by_index[0]["image"], by_id[0]["image"])

    def test_every_task_is_drawn(self, make_env: MakeEnv) -> None:
        env = make_env()
        env.reset(seed=0)
        assert {env.reset()[1]["task_id"] for _ in range(60)} == {env.dataset.id_of(index) for index in range(4)}

    @pytest.mark.parametrize(
        ("options", "error", "match"),
        [
            ({"taskid": "x"}, ConfigurationError, "Did you mean 'task_id'"),
            ({"task_id": "tiny/train/0", "index": 0}, ConfigurationError, "not both"),
            ({"index": 4}, DatasetError, r"0\.\.3"),
            ({"index": -1}, DatasetError, r"0\.\.3"),
            ({"index": "0"}, DatasetError, r"0\.\.3"),
            ({"task_id": "nope"}, DatasetError, "nope"),
            ({"task_id": ["a"]}, DatasetError, "string"),
        ],
    )
    def test_bad_options_say_what_is_known(
        self, make_env: MakeEnv, options: dict[str, object], error: type[Exception], match: str
    ) -> None:
        env = make_env()
        env.reset(seed=0)
        before = env.episode.task.id
        with pytest.raises(error, match=match):
            env.reset(options=options)
        assert env.episode.task.id == before


class TestConstruction:
    @pytest.mark.parametrize(
        ("kwargs", "match"),
        [
            ({"toolset": "aie"}, "Did you mean 'iea'"),
            ({"reward": "likenes"}, "Did you mean 'likeness'"),
            ({"reward": "edit", "reward_kwargs": {"beta": 1}}, "beta"),
            ({"reward": "edit", "reward_kwargs": {"alpha": 2}}, r"alpha is 2"),
            ({"renderer": "nativ"}, "Did you mean 'native'"),
            ({"toolset": "iea-compat"}, "'tiny' cannot render toolset 'iea-compat'"),
            ({"max_turns": 0}, "max_turns is 0"),
            ({"on_reward_error": "truncat"}, "Did you mean 'truncate'"),
            ({"render_mode": "rgb_aray"}, "Did you mean 'rgb_array'"),
        ],
    )
    def test_unknown_arguments_are_named_with_a_suggestion(
        self, make_env: MakeEnv, kwargs: dict[str, object], match: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=match):
            make_env(**kwargs)

    def test_an_empty_dataset_is_refused(self, make_env: MakeEnv) -> None:
        with pytest.raises(DatasetError, match="no tasks"):
            make_env(dataset=TinyDataset(0))

    def test_everything_can_be_given_as_json(self) -> None:
        config = json.loads(
            json.dumps(
                {
                    "dataset": "retouch_gym.testing.doubles:TinyDataset",
                    "dataset_kwargs": {"count": 2},
                    "renderer": "retouch_gym.testing.doubles:TinyRenderer",
                    "reward": "edit",
                    "reward_kwargs": {"alpha": 0.5},
                }
            )
        )
        env = gymnasium.make("Retouch/Retouch-v0", **config)
        env.reset(seed=0)
        assert len(env.unwrapped.dataset) == 2  # type: ignore[attr-defined]
        assert env.step(ToolCall("finish"))[1] == -1.0


class TestRender:
    def test_rgb_array_shows_before_after_and_reference(self, make_env: MakeEnv) -> None:
        env = make_env(render_mode="rgb_array")
        env.reset(options={"index": 0})
        env.step(ToolCall("exposure", {"value": 30}))
        picture = env.render()
        episode = env.episode
        height, width = episode.source.shape[:2]
        assert picture.dtype == np.uint8
        assert picture.shape == (height + 22, 3 * width + 8, 3)
        photos = [picture[22:, left : left + width] for left in (0, width + 4, 2 * (width + 4))]
        for shown, expected in zip(photos, (episode.source, episode.image, episode.reference), strict=True):
            assert expected is not None
            assert np.array_equal(shown, expected)

    def test_a_reference_of_another_size_or_none_at_all(self, make_env: MakeEnv) -> None:
        photo = NoisePhoto(0, 20, 30)
        bigger = Task("t", photo, "brighter", reference=Pixels(np.zeros((40, 60, 3), np.uint8)))
        env = make_env(dataset=OneTask(bigger), render_mode="rgb_array")
        env.reset()
        assert env.render().shape == (42, 98, 3)
        env = make_env(
            dataset=OneTask(Task("t", photo, "x")), reward=FixedOutput(RewardOutput(0.0)), render_mode="rgb_array"
        )
        env.reset()
        assert env.render().shape == (42, 64, 3)

    def test_ansi_tells_task_recipe_and_feedback(self, make_env: MakeEnv) -> None:
        env = make_env(render_mode="ansi")
        env.reset(options={"index": 0})
        env.step(ToolCall("exposure", {"value": 30}))
        text = env.render()
        assert all(word in text for word in ("tiny/train/0", "Cooler", '"exposure": 30', "Applied exposure = 30."))

    def test_no_mode_warns_and_returns_none(self, make_env: MakeEnv) -> None:
        env = make_env()
        env.reset()
        with pytest.warns(UserWarning, match="without a render mode"):
            assert env.render() is None


def test_the_episode_is_what_a_reward_sees(make_env: MakeEnv) -> None:
    env = make_env()
    env.reset(options={"index": 1})
    env.step(ToolCall("exposure", {"value": 30}))
    env.step(Unparsable("what?"))
    env.step(ToolCall("finish"))
    episode = env.episode
    assert isinstance(episode.renderer, Renderer)
    assert episode.finished
    assert episode.recipe == Recipe("iea", {"exposure": 30})
    assert [(len(turn.calls), turn.error) for turn in episode.turns] == [(1, None), (0, "what?"), (1, None)]
    assert np.array_equal(episode.image, episode.renderer.render([episode.source], [episode.recipe])[0])


def test_an_environment_survives_pickling_mid_episode(make_env: MakeEnv) -> None:
    env = make_env()
    env.reset(seed=5)
    env.step(ToolCall("exposure", {"value": 30}))
    copy = pickle.loads(pickle.dumps(env))
    one, other = (each.step(ToolCall("finish")) for each in (env, copy))
    assert one[1:4] == other[1:4]
    assert np.array_equal(one[0]["image"], other[0]["image"])
    assert env.reset()[1] == copy.reset()[1]


def test_the_public_names_are_the_documented_ones() -> None:
    assert {"ToolCall", "Recipe", "Toolset", "Episode", "Task"} <= set(retouch_gym.__all__)
