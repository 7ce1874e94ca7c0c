"""Answers played in one batch come to what they come to one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pytest

from retouch_agents.rllib.playing import Episodes, Key, OneByOne, Player, Step, Together, player_of
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
Group = tuple[GroupRequest, list[Any]]
GROUPS: list[Group] = [(GroupRequest(7 + task, task, 100 + task), ACTIONS) for task in range(3)]


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


@dataclass
class Played:
    plays: dict[int, list[Step]]
    failures: dict[int, str]
    task_ids: dict[int, str]


def play(player: Player, groups: Sequence[Group] = GROUPS) -> Played:
    """One turn in every episode."""
    episodes = player.begin([request for request, _ in groups], max(len(actions) for _, actions in groups))
    given = {(request.group, member): action for request, actions in groups for member, action in enumerate(actions)}
    steps = episodes.step(given)
    plays: dict[int, list[Step]] = {}
    for key in sorted(steps):
        plays.setdefault(key[0], []).append(steps[key])
    return Played(plays, episodes.failures, episodes.task_ids)


def rewards(player: Player, groups: Sequence[Group] = GROUPS) -> dict[int, list[float]]:
    return {group: [step.reward for step in steps] for group, steps in play(player, groups).plays.items()}


class TestTogether:
    @pytest.mark.parametrize(
        "options", [{}, {"reward_mode": "delta", "discount": 0.9}, {"user": "scripted"}, {"cache_mb": 0}]
    )
    def test_rewards_and_infos_are_those_of_one_by_one(self, options: dict[str, Any]) -> None:
        one, together = play(OneByOne(make(**options))), play(Together(make(**options)))
        assert one == together
        assert len(one.plays) == 3
        assert len({play.reward for play in one.plays[7]}) > 1

    def test_one_call_of_the_reward(self) -> None:
        reward = Noting()
        play(Together(make(reward)))
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
        for request, _ in GROUPS:
            key = (request.group, 1)
            shown = player.begin([request], 2).observe(key)
            expected = OneByOne(make()).begin([request], 2).observe(key)
            assert env.observation_space.contains(shown)
            assert shown.keys() == expected.keys()
            assert all(np.array_equal(shown[key], expected[key]) for key in shown if key != "context")

    @pytest.mark.parametrize("on_reward_error", ["raise", "truncate"])
    def test_a_failed_judge_masks_its_answer_alone(self, on_reward_error: str) -> None:
        plain = rewards(Together(make()))
        played = play(Together(make(Noting(limit=10), on_reward_error=on_reward_error)))
        assert played.failures == {}
        for group, plays in played.plays.items():
            assert [play.valid for play in plays] == [False, True, False, True]
            assert plays[1].reward == plain[group][1]
            assert "too bright" in plays[0].info["reward_error"]

    def test_a_judge_that_is_away_masks_all(self) -> None:
        played = play(Together(make(Noting(away=True))))
        assert not any(play.valid for plays in played.plays.values() for play in plays)
        assert not played.failures

    def test_a_failed_render_masks_its_answer_alone(self) -> None:
        played = play(Together(make(renderer=Moody())))
        assert [play.valid for play in played.plays[7]] == [False, True, False, True]

    def test_a_reward_that_breaks_down_loses_its_group_alone(self) -> None:
        broken = TinyDataset(4)[1].id
        played = play(Together(make(Noting(breaks=broken))))
        assert set(played.failures) == {8}
        assert "ZeroDivisionError: a bug" in played.failures[8]
        plain = rewards(Together(make()))
        assert {group: [play.reward for play in plays] for group, plays in played.plays.items()} == {
            7: plain[7],
            9: plain[9],
        }

    def test_a_task_that_is_not_there_loses_its_group_alone(self) -> None:
        played = play(Together(make()), [GROUPS[0], (GroupRequest(1, 99, 0), ACTIONS)])
        assert set(played.plays) == {7}
        assert "reset option 'index' is 99" in played.failures[1]

    def test_a_reward_that_ranks_sees_groups_whole(self) -> None:
        reward = Noting(limit=300)
        player = player_of(make(GroupRank(reward)))
        twice = [GROUPS[0], (GroupRequest(20, 0, 1), ACTIONS[1:])]
        found = play(player, [*twice, GROUPS[1]])
        assert reward.batches == [8, 3]  # two groups of one task do not meet
        assert [play.reward for play in found.plays[7]] == rewards(player, [GROUPS[0]])[7]
        scores = rewards(Together(make()), [GROUPS[0]])[7]
        assert sorted(scores) == sorted(scores, key=lambda s: found.plays[7][scores.index(s)].reward)

    def test_a_reward_that_ranks_is_refused_one_by_one(self) -> None:
        with pytest.raises(ConfigurationError, match="Leave out Doubling"):
            player_of(Doubling(make(GroupRank("likeness"))))


def story(player: Player, turns: int = 3) -> tuple[dict[Key, list[Step]], list[Any], Episodes]:
    """Three turns in two episodes of two tasks: their steps, what was shown, and the episodes."""
    episodes = player.begin([request for request, _ in GROUPS[:2]], 2)
    steps: dict[Key, list[Step]] = {}
    shown: list[Any] = [episodes.observe(key) for key in episodes.running()]
    for turn in range(turns):
        actions = {key: ToolCall("exposure", {"value": 10 * key[1] + turn}) for key in episodes.running()}
        if turn == 1:
            actions[7, 1] = ToolCall("finish")
        for key, step in episodes.step(actions).items():
            steps.setdefault(key, []).append(step)
        shown += [episodes.observe(key) for key in episodes.running()]
    return steps, shown, episodes


class TestSeveralTurns:
    def test_each_episode_goes_its_own_way(self) -> None:
        options = {"max_turns": 3, "reward_mode": "delta"}
        steps, shown, episodes = story(Together(make(**options)))
        single = OneByOne(make(**options), lambda: make(**options))
        assert (steps, episodes.task_ids) == (story(single)[0], story(single)[2].task_ids)
        for one, other in zip(shown, story(single)[1], strict=True):
            assert np.array_equal(one["image"], other["image"])
            assert one["turns_left"] == other["turns_left"]
        assert [len(found) for _, found in sorted(steps.items())] == [3, 2, 3, 3]
        assert episodes.running() == []
        assert all(step.valid for found in steps.values() for step in found)
        assert len(single.idle) == 4  # one env an episode, for the next to use again

    def test_a_reward_that_breaks_down_late_loses_its_group_alone(self) -> None:
        broken = TinyDataset(4)[1].id
        reward = Noting()
        env = make(reward, max_turns=3)
        plain, _, _ = story(Together(make(max_turns=3)))
        reward.breaks = broken
        steps, _, episodes = story(Together(env))
        assert set(episodes.failures) == {8}
        assert {key: found for key, found in steps.items() if key[0] == 7} == {
            key: found for key, found in plain.items() if key[0] == 7
        }

    def test_without_a_second_environment_it_says_so(self) -> None:
        _, _, episodes = story(OneByOne(make(max_turns=3)), turns=1)
        assert "no way to make a second env" in episodes.failures[7]


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
