"""Groups in lanes: the answers of one, while another's are drawn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from retouch_agents.encoding import Prompt
from retouch_agents.generation import Completion
from retouch_agents.rllib import GRPO
from retouch_agents.rllib.conversing import Drawing
from retouch_agents.rllib.env_runner import RetouchEnvRunner
from retouch_agents.rllib.lanes import play_in_lanes
from retouch_agents.rllib.playing import Episodes, Key, OneByOne, Step
from retouch_agents.rllib.rollouts import GroupRequest, Rollout
from retouch_gym.errors import ConfigurationError

pytestmark = pytest.mark.ray
Build = Callable[..., GRPO]
REQUESTS = [GroupRequest(number, number, 100 + number) for number in range(5)]


def runner_of(algo: GRPO) -> RetouchEnvRunner:
    found: RetouchEnvRunner = algo.env_runner_group.local_env_runner
    return found


def shown(rollouts: Sequence[Rollout]) -> list[tuple[Any, ...]]:
    return [(r.group, r.member, r.turn, r.task_id, r.token_ids.tolist(), r.reward) for r in rollouts]


@pytest.mark.parametrize("lanes", [2, 3, 8])
def test_the_number_of_lanes_changes_nothing(build: Build, lanes: int) -> None:
    env = {"broken_tasks": (3,)}
    one, several = (runner_of(build(env=env, lanes=count)).sample(requests=REQUESTS) for count in (1, lanes))
    assert len(one.rollouts) == 4 * 4
    assert shown(several.rollouts) == shown(one.rollouts)
    assert several.tokens == one.tokens
    assert set(several.failures) == set(one.failures) == {3}


class Announcing:
    """Draws, and says when it has done so twice."""

    def __init__(self, generator: Any) -> None:
        self.generator = generator
        self.calls = 0
        self.busy = threading.Lock()
        self.twice = threading.Event()

    def generate(self, prompts: Sequence[Prompt], **options: Any) -> list[Completion]:
        assert self.busy.acquire(blocking=False), "one lane at a time draws"
        found: list[Completion] = self.generator.generate(prompts, **options)
        self.busy.release()
        self.calls += 1
        if self.calls == 2:
            self.twice.set()
        return found


class Patient(OneByOne):
    """Scores nothing before `twice`, as a judge elsewhere might take its time."""

    twice: threading.Event
    raises = False

    def begin(self, requests: Sequence[GroupRequest], size: int) -> Episodes:
        episodes = super().begin(requests, size)
        step = episodes.step

        def wait(actions: Mapping[Key, Any]) -> dict[Key, Step]:
            assert self.twice.wait(60), "the other lane's answers were not drawn meanwhile"
            if self.raises:
                raise ConnectionError("the judge is away")
            return step(actions)

        episodes.step = wait  # type: ignore[method-assign]
        return episodes


@pytest.mark.parametrize("raises", [False, True])
def test_answers_are_drawn_while_others_are_scored(build: Build, raises: bool) -> None:
    runner = runner_of(build(lanes=2))
    generator = Announcing(runner.generator)
    players = [Patient(env) for env in runner._lane_envs]
    for player in players:
        player.twice, player.raises = generator.twice, raises
    drawing = Drawing(4, 1.0, 6, 1)
    if raises:
        with pytest.raises(ConnectionError, match="the judge is away"):
            play_in_lanes(runner.chat, generator, players, REQUESTS, drawing)
    else:
        found = play_in_lanes(runner.chat, generator, players, REQUESTS, drawing)
        assert shown(found.rollouts) == shown(runner.sample(requests=REQUESTS).rollouts)
        assert found.seconds["play_seconds"] > 0


def test_training_in_lanes_is_training(build: Build) -> None:
    one, two = build(), build(lanes=2)
    for _ in range(2):
        rows = [algo.train()["grpo"] for algo in (one, two)]
        assert rows[0]["reward_mean"] == pytest.approx(rows[1]["reward_mean"], abs=1e-6)
        assert rows[0]["answers"] == rows[1]["answers"] == 24


def test_less_than_one_lane_is_refused(build: Build) -> None:
    with pytest.raises(ConfigurationError, match="lanes = 0 should be at least 1"):
        build(lanes=0)
