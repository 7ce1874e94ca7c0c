from __future__ import annotations

import asyncio
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import pytest
import ray

from retouch_gym.errors import ConfigurationError, RewardError
from retouch_gym.rewards import get_reward, score_batch
from retouch_gym.rewards.base import RewardOutput
from retouch_gym.tasks import Episode
from retouch_gym.testing import check_reward
from retouch_gym.types import ToolCall
from retouch_reward_models.serving.pool import RewardPool, connect_pool

pytestmark = pytest.mark.ray

Episodes = Callable[..., list[Episode]]
Pool = Callable[..., RewardPool]


def values(outputs: list[RewardOutput]) -> list[float | None]:
    return [output.value for output in outputs]


def fleet(pool: RewardPool) -> dict[str, Any]:
    found = pool.stats()
    state: dict[str, Any] = found["fleets"][found["version"]]
    return state


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_a_pool_keeps_the_contract_and_gives_the_local_scores(pool: Pool, episodes: Episodes) -> None:
    pooled, local = pool(reward="likeness"), get_reward("likeness")
    assert (pooled.name, pooled.range, pooled.components) == (local.name, local.range, local.components)
    assert pooled.needs_reference
    check_reward(pooled)
    here, there = score_batch(local, episodes(8)), score_batch(pooled, episodes(8))
    assert values(there) == values(here)
    assert [output.components for output in there] == [output.components for output in here]
    assert {output.details["version"] for output in there} == {"0"}


def test_episodes_of_several_callers_make_one_batch(pool: Pool, episodes: Episodes, tmp_path: Path) -> None:
    pooled = pool({"log": str(tmp_path / "log")}, max_batch=16, max_wait_ms=2000)
    given = episodes(16)
    with ThreadPoolExecutor(4) as callers:
        scored = list(callers.map(pooled.score, [given[n : n + 4] for n in range(0, 16, 4)]))
    assert [value for outputs in scored for value in values(outputs)] == [e.image.mean() for e in given]
    assert [line.split()[2] for line in (tmp_path / "log").read_text().splitlines()] == ["16"]


def test_a_long_call_is_cut_and_comes_back_in_order(pool: Pool, episodes: Episodes, tmp_path: Path) -> None:
    pooled = pool({"log": str(tmp_path / "log")}, max_batch=4, max_actors=2)
    given = episodes(11)
    assert values(pooled.score(given)) == [episode.image.mean() for episode in given]
    assert sorted(line.split()[2] for line in (tmp_path / "log").read_text().splitlines()) == ["3", "4", "4"]


def test_groups_are_scored_whole_and_never_with_those_of_another_call(
    pool: Pool, episodes: Episodes, doubles: ModuleType
) -> None:
    pooled = pool({"group": True}, max_batch=4, max_wait_ms=100)
    given = episodes(12, 3)
    here = values(doubles.Brightness(group=True).score(given))
    with ThreadPoolExecutor(2) as callers:
        both = list(callers.map(pooled.score, [given, given]))
    assert values(both[0]) == values(both[1]) == here


def test_killing_an_actor_in_the_middle_of_a_batch_loses_nothing(
    pool: Pool, episodes: Episodes, tmp_path: Path
) -> None:
    pooled = pool({"seconds": 0.4, "log": str(tmp_path / "log")}, min_actors=2, max_actors=2, max_batch=8)
    given = episodes(32)
    with ThreadPoolExecutor(1) as caller:
        scoring = caller.submit(pooled.score, given)
        wait_for(lambda: all(actor["busy"] for actor in fleet(pooled)["actors"]))
        victim = fleet(pooled)["actors"][0]["pid"]
        os.kill(victim, signal.SIGKILL)
        outputs = scoring.result(60)
    assert values(outputs) == [episode.image.mean() for episode in given]
    state = fleet(pooled)
    assert (state["deaths"], state["retries"], state["episodes"]) == (1, 1, 32)
    wait_for(lambda: len(fleet(pooled)["actors"]) == 2)
    assert victim not in [actor["pid"] for actor in fleet(pooled)["actors"]]
    batches = (tmp_path / "log").read_text().splitlines()
    assert len(batches) == 4, "a batch was scored twice or not at all"


def test_an_episode_that_kills_its_actor_each_time_fails_alone(pool: Pool, episodes: Episodes, tmp_path: Path) -> None:
    marker = tmp_path / "die"
    marker.write_text("always")
    pooled = pool({"die": str(marker)}, max_batch=8, max_wait_ms=500, max_tries=2)
    good, bad = episodes(4), episodes(4, instructions={1: "die"})
    with ThreadPoolExecutor(2) as callers:
        alone, other = callers.map(pooled.score, [bad, good])
    assert values(other) == [episode.image.mean() for episode in good]
    assert values(alone) == [None] * 4
    assert "not scored after 2 tries" in (alone[0].error or "")
    marker.unlink()
    assert values(pooled.score(bad)) == [episode.image.mean() for episode in bad]


def test_a_failing_episode_and_a_failing_call_spoil_no_other(pool: Pool, episodes: Episodes) -> None:
    pooled = pool(max_wait_ms=300)
    calls = [episodes(4, instructions={2: "fail"}), episodes(3, instructions={0: "raise"}), episodes(4)]
    with ThreadPoolExecutor(3) as callers:
        single, whole, good = callers.map(pooled.score, calls)
    assert [output.valid for output in single] == [True, True, False, True]
    assert [output.error for output in whole] == ["RewardError: this batch cannot be scored"] * 3
    assert values(good) == [episode.image.mean() for episode in calls[2]]


def test_what_takes_too_long_is_an_error_and_the_actor_is_replaced(pool: Pool, episodes: Episodes) -> None:
    pooled = pool({"seconds": 60}, timeout_s=1)
    stuck = fleet(pooled)["actors"][0]["pid"]
    began = time.monotonic()
    outputs = pooled.score(episodes(3))
    assert time.monotonic() - began < 5
    assert [output.error for output in outputs] == ["not scored within 1 s"] * 3
    assert pooled.stats()["timeouts"] == 1
    wait_for(lambda: [actor["pid"] for actor in fleet(pooled)["actors"]] not in ([stuck], []))


def test_actors_come_with_the_queue_and_go_when_idle(pool: Pool, episodes: Episodes) -> None:
    pooled = pool({"seconds": 0.3}, min_actors=1, max_actors=3, max_batch=2, scale_up_s=0.1, idle_s=0.5)
    assert len(fleet(pooled)["actors"]) == 1
    seen, done = [], threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.append(len(fleet(pooled)["actors"]))
            time.sleep(0.1)

    watcher = threading.Thread(target=look)
    watcher.start()
    given = episodes(60)
    assert values(pooled.score(given)) == [episode.image.mean() for episode in given]
    done.set()
    watcher.join()
    assert max(seen) == 3
    wait_for(lambda: len(fleet(pooled)["actors"]) == 1)


def test_a_new_version_takes_over_without_a_mixed_call_and_the_old_one_comes_back_at_once(
    pool: Pool, episodes: Episodes
) -> None:
    pooled = pool({"scale": 1.0, "seconds": 0.02}, version="a", max_batch=4)
    given = episodes(12)
    seen: list[list[tuple[Any, float]]] = []
    done = threading.Event()

    def keep_asking() -> None:
        while not done.is_set():
            outputs = pooled.score(given)
            ratios = [round((o.value or 0) / e.image.mean(), 6) for o, e in zip(outputs, given, strict=True)]
            seen.append([(o.details["version"], ratio) for o, ratio in zip(outputs, ratios, strict=True)])

    callers = [threading.Thread(target=keep_asking) for _ in range(3)]
    for caller in callers:
        caller.start()
    pooled.load("b", {"scale": 0.5})
    time.sleep(0.5)
    began = time.monotonic()
    pooled.use("a")
    back = time.monotonic() - began
    time.sleep(0.5)
    done.set()
    for caller in callers:
        caller.join()
    assert all(len(set(call)) == 1 for call in seen), "a call was scored by two versions"
    assert {call[0] for call in seen} == {("a", 1.0), ("b", 0.5)}
    assert pooled.score(given)[0].details["version"] == "a"
    assert back < 1
    assert pooled.stats()["versions"] == ["a", "b"]


def test_older_versions_give_their_actors_back_and_can_be_started_again(pool: Pool, episodes: Episodes) -> None:
    pooled = pool({"scale": 1.0}, version="a")
    pooled.load("b", {"scale": 0.5})
    pooled.load("c", {"scale": 0.25})
    assert set(pooled.stats()["fleets"]) == {"b", "c"}
    pooled.use("a")
    assert values(pooled.score(episodes(1))) == [episodes(1)[0].image.mean()]


def test_a_version_that_cannot_start_or_fit_leaves_the_one_in_use(pool: Pool, episodes: Episodes) -> None:
    pooled = pool(version="a")
    with pytest.raises(RewardError, match="no such weights"):
        pooled.load("b", {"broken": True})
    with pytest.raises(ConfigurationError, match=r"range = \(0.0, 9.0\)"):
        pooled.load("b", {"top": 9.0})
    with pytest.raises(ConfigurationError, match="already"):
        pooled.load("a")
    with pytest.raises(ConfigurationError, match="No version 'z'; there are 'a'"):
        pooled.use("z")
    assert pooled.score(episodes(1))[0].details["version"] == "a"
    pooled.load("b", {"scale": 0.5})
    assert pooled.stats()["version"] == "b"


def test_scores_can_be_awaited_while_the_loop_goes_on(pool: Pool, episodes: Episodes) -> None:
    pooled = pool({"seconds": 0.5})
    given = episodes(4)

    async def overlap() -> tuple[list[RewardOutput], int]:
        scoring = asyncio.create_task(pooled.score_async(given))
        turns = 0
        while not scoring.done():
            await asyncio.sleep(0.02)
            turns += 1
        return scoring.result(), turns

    outputs, turns = asyncio.run(overlap())
    assert values(outputs) == [episode.image.mean() for episode in given]
    assert turns > 10


def test_a_handle_is_small_and_finds_its_pool_by_name(pool: Pool, episodes: Episodes) -> None:
    pooled = pool(name="by-name")
    copy = pickle.loads(pickle.dumps(pooled))
    assert len(pickle.dumps(pooled)) < 1000
    given = episodes(2)
    expected = [episode.image.mean() for episode in given]
    assert values(copy.score(given)) == values(connect_pool("by-name").score(given)) == expected
    with pytest.raises(ConfigurationError, match="'by-name' already"):
        pool(name="by-name")


@pytest.mark.parametrize("named", [False, True])
def test_vector_environments_in_other_processes_share_a_pool(pool: Pool, named: bool) -> None:
    pooled = pool(reward="likeness")
    given: dict[str, Any] = {"reward": pooled}
    if named:
        connect = "retouch_reward_models.serving.pool:connect_pool"
        given = {"reward": connect, "reward_kwargs": {"pool_name": pooled.pool_name}}

    @ray.remote(num_cpus=0)
    def play(seed: int, options: dict[str, Any]) -> tuple[list[float], dict[str, Any]]:
        import retouch_gym  # noqa: F401  # registers the environments in this process

        settings = {"max_turns": 1, "dataset": "retouch_gym.testing.doubles:TinyDataset", **options}
        settings["renderer"] = "retouch_gym.testing.doubles:TinyRenderer"
        envs = gymnasium.make_vec("Retouch/Retouch-v0", num_envs=4, group_size=2, **settings)
        envs.reset(seed=seed)
        _, rewards, *_, infos = envs.step([ToolCall("exposure", {"value": 10 * n}) for n in range(4)])
        envs.close()
        return rewards.tolist(), infos

    there = ray.get([play.remote(seed, given) for seed in range(3)], timeout=120)
    here = ray.get([play.remote(seed, {"reward": "likeness"}) for seed in range(3)], timeout=120)
    assert [rewards for rewards, _ in there] == [rewards for rewards, _ in here]
    assert all(infos["reward_valid"].all() for _, infos in there)
    assert fleet(pooled)["episodes"] == 12


def test_a_pool_that_is_gone_gives_errors_and_never_numbers(pool: Pool, episodes: Episodes) -> None:
    pooled = pool()
    pooled.close()
    outputs = pooled.score(episodes(2))
    assert values(outputs) == [None, None]
    assert "cannot be reached" in (outputs[0].error or "")
    copy = pickle.loads(pickle.dumps(pooled))
    assert "There is no reward pool" in (copy.score(episodes(1))[0].error or "")
    with pytest.raises(RewardError, match="There is no reward pool"):
        connect_pool(pooled.pool_name)


def test_a_reward_that_cannot_start_says_why(pool: Pool) -> None:
    with pytest.raises(RewardError, match="no such weights"):
        pool({"broken": True})
    with pytest.raises(RewardError, match=r"Unknown reward 'likenes'\. Did you mean 'likeness'"):
        pool(reward="likenes")
    with pytest.raises(RewardError, match="64 CPUs"):
        pool(num_cpus=64, start_timeout_s=1)


@pytest.mark.parametrize(
    "options", [{"min_actors": 0}, {"min_actors": 3, "max_actors": 2}, {"max_batch": 0}, {"num_gpus": -1}]
)
def test_options_that_make_no_sense_are_refused(pool: Pool, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="expected"):
        pool(**options)
