"""When the reward is asked, what a turn is paid, and what reaches ``info``."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from retouch_gym import ToolCall
from retouch_gym.datasets.recordings import read_episodes
from retouch_gym.envs.base import step_together
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.envs.vector import RetouchVectorEnv
from retouch_gym.errors import ConfigurationError, RewardError
from retouch_gym.rewards import Likeness, Reward, RewardOutput, score_one
from retouch_gym.rewards.ranking import GroupRank
from retouch_gym.tasks import Episode
from retouch_gym.testing import TinyDataset, TinyRenderer
from retouch_gym.wrappers import RecordEpisode

MakeEnv = Callable[..., RetouchEnv]
VALUES = (30, -10, 10, 5)


def exposure(value: int) -> ToolCall:
    return ToolCall("exposure", {"value": value})


class Talkative(Reward):
    """Says something else of each episode; `None` of an exposure of 13; fails at the start if it is `late`."""

    name = "talkative"
    range = (0.0, 1.0)

    def __init__(self, late: bool = False) -> None:
        self.late = late

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        return [self._one(episode) for episode in episodes]

    def _one(self, episode: Episode) -> RewardOutput:
        found = episode.recipe.controls.get("exposure")
        if found == 13 or (self.late and not episode.turns):
            return RewardOutput(None, error="no idea", details={"attempts": 3, "why": None})
        return RewardOutput(0.5, details={"attempts": found, "why": [{"criterion": "light"}]})


class Counting(Likeness):
    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        self.batches.append([episode.task.id for episode in episodes])
        return super().score(episodes)


class TestDelta:
    @pytest.mark.parametrize("discount", [1.0, 0.9, 0.5, 0.0])
    @pytest.mark.parametrize("reward", ["likeness", "edit", "geometric-mean"])
    def test_the_discounted_return_telescopes(self, make_env: MakeEnv, reward: str, discount: float) -> None:
        env = make_env(reward=reward, reward_mode="delta", discount=discount, max_turns=len(VALUES))
        env.reset(seed=6)
        first = score_one(env.reward, env.episode).value
        rewards = [env.step(exposure(value))[1] for value in VALUES]
        last = score_one(env.reward, env.episode).value
        assert first is not None
        assert last is not None
        assert sum(discount**t * reward for t, reward in enumerate(rewards)) == pytest.approx(
            discount ** len(VALUES) * last - first
        )

    def test_it_orders_policies_as_the_final_reward_does(self, make_env: MakeEnv) -> None:
        discount, returns = 0.8, {}
        for mode in ("final", "delta"):
            env = make_env(reward_mode=mode, max_turns=2, **({"discount": discount} if mode == "delta" else {}))
            returns[mode] = []
            for plan in itertools.product((-20, 0, 20, 40), repeat=2):
                env.reset(seed=1)
                returns[mode].append(sum(discount**t * env.step(exposure(v))[1] for t, v in enumerate(plan)))
        start = {round(d - discount * f, 9) for d, f in zip(returns["delta"], returns["final"], strict=True)}
        assert len(start) == 1

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"reward_mode": "deltas"}, "Did you mean 'delta'"),
            ({"discount": 0.9}, "discount = 0.9 needs reward_mode='delta'"),
            ({"reward_mode": "delta", "discount": 1.5}, "discount is 1.5; expected a number 0..1"),
            ({"reward_mode": "delta", "discount": True}, "expected a number 0..1"),
            ({"reward_mode": "delta", "discount": float("nan")}, "expected a number 0..1"),
            ({"reward_at": "turn"}, "Unknown argument 'reward_at'"),
        ],
    )
    def test_options_without_meaning_are_refused(
        self, make_env: MakeEnv, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=message):
            make_env(**options)

    def test_a_start_without_a_value_is_no_zero(self, make_env: MakeEnv) -> None:
        env = make_env(reward=Talkative(late=True), reward_mode="delta", on_reward_error="truncate")
        env.reset(seed=0)
        copy = make_env(reward=Talkative(late=True), reward_mode="delta", on_reward_error="truncate")
        copy.set_state(env.get_state())
        for one in (env, copy):
            _, reward, terminated, truncated, info = one.step(exposure(5))
            assert (reward, terminated, truncated, info["reward_valid"]) == (0.0, False, True, False)
            assert "the turn before could not be scored" in info["reward_error"]
        with pytest.raises(RewardError, match="no idea"):
            make_env(reward=Talkative(late=True), reward_mode="delta").reset(seed=0)


class TestDetails:
    def test_they_reach_info_at_the_end_alone(self, make_env: MakeEnv) -> None:
        env = make_env(reward=Talkative(), max_turns=2)
        assert "reward_details" not in env.reset(seed=0)[1]
        assert "reward_details" not in env.step(exposure(5))[4]
        info = env.step(exposure(6))[4]
        assert info["reward_details"] == {"attempts": 6, "why": [{"criterion": "light"}]}
        assert pickle.loads(pickle.dumps(info["reward_details"])) == info["reward_details"]

    def test_of_a_failed_judge_too(self, make_env: MakeEnv) -> None:
        env = make_env(reward=Talkative(), max_turns=1, on_reward_error="truncate")
        env.reset(seed=0)
        info = env.step(exposure(13))[4]
        assert info["reward_valid"] is False
        assert info["reward_details"] == {"attempts": 3, "why": None}

    def test_recorders_do_not_mind(self, make_env: MakeEnv, tmp_path: Path) -> None:
        env = RecordEpisode(make_env(reward=Talkative(), max_turns=1), tmp_path)
        env.reset(seed=0)
        env.step(exposure(6))
        env.close()
        (recorded,) = read_episodes(tmp_path)
        assert recorded.reward == 0.5

    @pytest.mark.parametrize("mode", ["vector_entry_point", "sync"])
    def test_vectors_keep_them_apart_whatever_their_types(self, mode: str) -> None:
        env = gymnasium.make_vec(
            "Retouch/Retouch-v0",
            num_envs=3,
            vectorization_mode=mode,
            dataset=TinyDataset(),
            renderer=TinyRenderer(),
            reward=Talkative(),
            max_turns=1,
            on_reward_error="truncate",
        )
        env.reset(seed=0)
        infos = env.step((exposure(6), exposure(13), ToolCall("finish")))[4]
        assert [details["attempts"] for details in infos["reward_details"]] == [6, 3, None]
        env.close()


class TestTogether:
    def test_it_is_what_each_would_do_alone(self, make_env: MakeEnv) -> None:
        env = make_env(max_turns=2, user="scripted", reward_mode="delta")
        alone = make_env(max_turns=2, user="scripted", reward_mode="delta")
        members = env.spawn_group(3, seed=4, options={"index": 1})
        for turn in range(2):
            outcomes = step_together(members, [exposure(value + turn) for value in (10, 200, 30)])
            for member, value, outcome in zip(members, (10, 200, 30), outcomes, strict=True):
                alone.reset(seed=4, options={"index": 1})
                for earlier in range(turn + 1):
                    step = alone.step(exposure(value + earlier))
                assert (outcome.reward, outcome.terminated, outcome.truncated, outcome.info) == step[1:]
                assert np.array_equal(member.observation["image"], step[0]["image"])

    def test_photos_are_shared_and_episodes_are_not(self, make_env: MakeEnv) -> None:
        first, second = make_env().spawn_group(2, seed=0)
        assert first.episode.source is second.episode.source
        assert first.episode.image is second.episode.image
        first.step(exposure(20))
        assert not second.episode.turns
        assert second.episode.recipe.is_empty
        assert first.np_random.random() == second.np_random.random()

    def test_strangers_are_refused(self, make_env: MakeEnv) -> None:
        one, other = make_env(), make_env()
        for env in (one, other):
            env.reset(seed=0)
        with pytest.raises(ConfigurationError, match="share one engine"):
            step_together([one, other], [exposure(1), exposure(2)])
        with pytest.raises(ConfigurationError, match="2 actions"):
            step_together([one], [exposure(1), exposure(2)])
        assert step_together([], []) == []


class TestGroups:
    def make_vec(self, **options: Any) -> RetouchVectorEnv:
        return RetouchVectorEnv(
            **{
                "num_envs": 4,
                "dataset": TinyDataset(),
                "renderer": TinyRenderer(),
                "reward": "rank",
                "max_turns": 1,
                "group_size": 2,
                **options,
            }
        )

    def test_a_single_environment_names_the_next_step(self, make_env: MakeEnv) -> None:
        with pytest.raises(ConfigurationError, match=r"group_size=8\), or GRPO's runner"):
            make_env(reward="rank", max_turns=1).reset(seed=0)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"group_size": 1}, "give a group_size of at least 2"),
            ({"max_turns": 2}, "with max_turns = 2 they are not"),
            ({"reward_mode": "delta"}, "with reward_mode = 'delta' they are not"),
            ({"reward": "weighted", "reward_kwargs": {"parts": {"rank": 1, "format": 1}}, "max_turns": 3}, "max_turns"),
        ],
    )
    def test_vectors_that_do_not_see_groups_whole_are_refused(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            self.make_vec(**options)

    def test_groups_are_ranked_and_those_of_the_same_task_do_not_meet(self) -> None:
        counting = Counting()
        envs = self.make_vec(num_envs=6, reward=GroupRank(counting), threads=2)
        envs.reset(seed=0, options={"index": [0, 0, 1, 1, 0, 0]})
        rewards = envs.step([exposure(value) for value in (0, 20, 30, 10, 15, 5)])[1]
        assert rewards.tolist() == [0.0, 1.0, 1.0, 0.0, 1.0, 0.0]
        assert [len(batch) for batch in counting.batches] == [4, 2]
        envs.close()

    def test_a_mask_may_not_cut_a_group(self) -> None:
        envs = self.make_vec(autoreset_mode="Disabled")
        envs.reset(seed=0)
        envs.step([exposure(value) for value in (0, 20, 30, 10)])
        with pytest.raises(ConfigurationError, match="cuts a group of 2"):
            envs.reset(options={"reset_mask": np.array([True, True, False, True])})
        envs.reset(options={"reset_mask": np.array([False, False, True, True])})
        envs.close()

    def test_who_fails_is_masked_and_the_rest_is_ranked(self) -> None:
        envs = self.make_vec(reward=GroupRank(Talkative()), group_size=4, on_reward_error="truncate")
        envs.reset(seed=0)
        _, rewards, _, truncations, infos = envs.step([exposure(value) for value in (1, 13, 2, 3)])
        assert rewards.tolist() == [0.5, 0.0, 0.5, 0.5]
        assert truncations.tolist() == [False, True, False, False]
        assert infos["reward_valid"].tolist() == [True, False, True, True]
        envs.close()
