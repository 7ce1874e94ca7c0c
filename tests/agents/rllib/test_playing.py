"""Answers played in one batch come to what they come to one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import pytest

from retouch_agents.rllib.playing import Answers, OneByOne, Player, Together, player_of
from retouch_agents.rllib.rollouts import GroupRequest
from retouch_gym import Recipe, ToolCall
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.errors import ConfigurationError, RendererError, RewardError
from retouch_gym.renderers.base import Renderer
from retouch_gym.rewards import Likeness, Reward, RewardOutput
from retouch_gym.rewards.ranking import GroupRank
from retouch_gym.tasks import Episode
from retouch_gym.testing import TinyDataset, TinyRenderer
from retouch_gym.types import Image, Unparsable

ACTIONS = [
    ToolCall("exposure", {"value": 20}),
    ToolCall("exposure", {"value": 400}),
    [ToolCall("exposure", {"value": 20}), ToolCall("finish")],
    Unparsable("no call"),
]
GROUPS = [Answers(GroupRequest(7 + task, task, 100 + task), ACTIONS) for task in range(3)]


class Noting(Likeness):
    """Notes batches; has no score beyond an exposure of `limit`, and breaks down where an id holds `breaks`."""

    def __init__(self, *, limit: float = 256.0, breaks: str | None = None, away: bool = False) -> None:
        self.batches: list[int] = []
        self.limit, self.breaks, self.away = limit, breaks, away

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        self.batches.append(len(episodes))
        if self.away:
            raise RewardError("the judge is away")
        if self.breaks and any(self.breaks in episode.task.id for episode in episodes):
            raise ZeroDivisionError("a bug")
        return [
            RewardOutput(None, error="too bright")
            if episode.recipe.controls.get("exposure", 0) > self.limit
            else output
            for episode, output in zip(episodes, super().score(episodes), strict=True)
        ]


class Moody(TinyRenderer):
    """Cannot render one exposure."""

    def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        if any(recipe.controls.get("exposure") == 20 for recipe in recipes):
            raise RendererError("not this one")
        return super().render(photos, recipes)


def make(reward: Reward | None = None, renderer: Renderer | None = None, **options: Any) -> RetouchEnv:
    return RetouchEnv(
        dataset=TinyDataset(4),
        reward=reward or Noting(),
        renderer=renderer or TinyRenderer(),
        **{"max_turns": 1, **options},
    )


def rewards(player: Player, groups: Sequence[Answers] = GROUPS) -> dict[int, list[float]]:
    return {group: [play.reward for play in plays] for group, plays in player.play(groups).plays.items()}


class TestTogether:
    @pytest.mark.parametrize(
        "options", [{}, {"reward_mode": "delta", "discount": 0.9}, {"user": "scripted"}, {"cache_mb": 0}]
    )
    def test_rewards_and_infos_are_those_of_one_by_one(self, options: dict[str, Any]) -> None:
        one, together = OneByOne(make(**options)).play(GROUPS), Together(make(**options)).play(GROUPS)
        assert one == together
        assert len(one.plays) == 3
        assert len({play.reward for play in one.plays[7]}) > 1

    def test_one_call_of_the_reward(self) -> None:
        reward = Noting()
        Together(make(reward)).play(GROUPS)
        assert reward.batches == [12]

    def test_memory_bounds_a_batch_and_groups_stay_whole(self) -> None:
        reward = Noting()
        env = make(reward)
        env.reset(seed=0)
        size = env.episode.source.nbytes
        expected = rewards(Together(env))
        reward.batches.clear()
        assert rewards(Together(env, max_bytes=8 * size)) == expected
        assert rewards(Together(env, max_bytes=1)) == expected
        assert reward.batches == [8, 4, 4, 4, 4]

    def test_what_is_shown_is_what_reset_shows(self) -> None:
        env = make()
        player = Together(env)
        for group in GROUPS:
            shown, expected = player.observe(group.request), OneByOne(make()).observe(group.request)
            assert env.observation_space.contains(shown)
            assert shown.keys() == expected.keys()
            assert all(np.array_equal(shown[key], expected[key]) for key in shown if key != "context")

    @pytest.mark.parametrize("on_reward_error", ["raise", "truncate"])
    def test_a_failed_judge_masks_its_answer_alone(self, on_reward_error: str) -> None:
        plain = rewards(Together(make()))
        played = Together(make(Noting(limit=10), on_reward_error=on_reward_error)).play(GROUPS)
        assert played.failures == {}
        for group, plays in played.plays.items():
            assert [play.valid for play in plays] == [False, True, False, True]
            assert plays[1].reward == plain[group][1]
            assert "too bright" in plays[0].info["reward_error"]

    def test_a_judge_that_is_away_masks_all(self) -> None:
        played = Together(make(Noting(away=True))).play(GROUPS)
        assert not any(play.valid for plays in played.plays.values() for play in plays)
        assert not played.failures

    def test_a_failed_render_masks_its_answer_alone(self) -> None:
        played = Together(make(renderer=Moody())).play(GROUPS)
        assert [play.valid for play in played.plays[7]] == [False, True, False, True]

    def test_a_reward_that_breaks_down_loses_its_group_alone(self) -> None:
        broken = TinyDataset(4)[1].id
        played = Together(make(Noting(breaks=broken))).play(GROUPS)
        assert set(played.failures) == {8}
        assert "ZeroDivisionError: a bug" in played.failures[8]
        plain = rewards(Together(make()))
        assert {group: [play.reward for play in plays] for group, plays in played.plays.items()} == {
            7: plain[7],
            9: plain[9],
        }

    def test_a_task_that_is_not_there_loses_its_group_alone(self) -> None:
        played = Together(make()).play([GROUPS[0], Answers(GroupRequest(1, 99, 0), ACTIONS)])
        assert set(played.plays) == {7}
        assert "reset option 'index' is 99" in played.failures[1]

    def test_a_reward_that_ranks_sees_groups_whole(self) -> None:
        reward = Noting(limit=300)
        player = player_of(make(GroupRank(reward)))
        twice = [GROUPS[0], Answers(GroupRequest(20, 0, 1), ACTIONS[1:])]
        found = player.play([*twice, GROUPS[1]])
        assert reward.batches == [8, 3]  # two groups of one task do not meet
        assert [play.reward for play in found.plays[7]] == rewards(player, [GROUPS[0]])[7]
        scores = rewards(Together(make()), [GROUPS[0]])[7]
        assert sorted(scores) == sorted(scores, key=lambda s: found.plays[7][scores.index(s)].reward)

    def test_a_reward_that_ranks_is_refused_one_by_one(self) -> None:
        with pytest.raises(ConfigurationError, match="Leave out Doubling"):
            player_of(Doubling(make(GroupRank("likeness"))))

    def test_an_episode_that_goes_on_is_refused(self) -> None:
        played = Together(make(max_turns=2)).play(GROUPS[:1])
        assert "GRPO here is single-shot" in played.failures[7]


class Doubling(gymnasium.Wrapper[Any, Any, Any, Any]):
    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, *rest = super().step(action)
        return observation, 2 * reward, *rest


class Named(gymnasium.Wrapper[Any, Any, Any, Any]):
    label = "nothing else"


class Own(RetouchEnv):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return super().reset(seed=0, options=options)


class TestChoice:
    @pytest.mark.parametrize(
        ("wrap", "kind"),
        [
            (lambda env: env, Together),
            (Named, Together),
            (lambda env: gymnasium.wrappers.OrderEnforcing(gymnasium.wrappers.PassiveEnvChecker(env)), Together),
            (Doubling, OneByOne),
            (lambda env: gymnasium.wrappers.TransformReward(env, abs), OneByOne),
            (lambda env: gymnasium.wrappers.TimeLimit(env, 3), OneByOne),
            (lambda env: Own(), OneByOne),
        ],
    )
    def test_whoever_changes_a_step_is_honoured(self, wrap: Callable[[Any], Any], kind: type) -> None:
        assert type(player_of(wrap(make()))) is kind

    def test_what_gymnasium_makes_is_played_together(self) -> None:
        assert isinstance(player_of(gymnasium.make("Retouch/Chat-v0", max_turns=1)), Together)

    def test_a_wrapper_has_its_way(self) -> None:
        plain, doubled = rewards(player_of(make())), rewards(player_of(Doubling(make())))
        assert doubled == {group: [2 * reward for reward in found] for group, found in plain.items()}
