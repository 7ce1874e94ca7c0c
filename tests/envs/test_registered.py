"""Every registered id, with its default arguments."""

from __future__ import annotations

import hashlib
import multiprocessing
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from retouch_gym.envs import retouch
from retouch_gym.envs.registration import ENV_IDS, register_envs
from retouch_gym.images import save_image
from retouch_gym.renderers import RENDERERS
from retouch_gym.rewards import REWARDS

ROLLOUT = """
import hashlib, sys
import gymnasium, numpy as np, retouch_gym
env = gymnasium.make(sys.argv[1], max_turns=3, reward="edit")
env.action_space.seed(11)
digest = hashlib.sha256()
obs, info = env.reset(seed=11)
for _ in range(12):
    for value in obs.values():
        digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
    digest.update(repr((reward, terminated, truncated, info["tool_error"])).encode())
    if terminated or truncated:
        obs, info = env.reset()
print(digest.hexdigest())
"""


@pytest.mark.parametrize("env_id", ENV_IDS)
@pytest.mark.parametrize("reward", REWARDS)
def test_check_env_passes_without_a_warning(env_id: str, reward: str) -> None:
    env = gymnasium.make(env_id, reward=reward)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


@pytest.mark.parametrize("env_id", ENV_IDS)
@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_random_policy_plays_to_the_end(env_id: str, renderer: str) -> None:
    env = gymnasium.make(env_id, renderer=renderer, max_turns=3)
    env.action_space.seed(0)
    env.reset(seed=0)
    low, high = env.unwrapped.reward.range  # type: ignore[attr-defined]
    for _ in range(3):
        obs, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        assert obs in env.observation_space
        if terminated or truncated:
            break
    assert terminated
    assert low <= float(reward) <= high


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_the_same_seed_gives_the_same_bytes_in_two_processes(env_id: str) -> None:
    digests = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", ROLLOUT, env_id], capture_output=True, text=True, check=True, timeout=300
        )
        digests.append(done.stdout.strip())
    assert len(digests[0]) == 64
    assert digests[0] == digests[1]


def _play(env: gymnasium.Env[Any, Any], plan: list[Any]) -> str:
    digest = hashlib.sha256()
    for action in plan:
        obs, reward, *_ = env.step(action)
        digest.update(obs["image"].tobytes() + repr(reward).encode())
    return digest.hexdigest()


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_an_environment_goes_on_alike_in_a_spawned_process(env_id: str) -> None:
    env = gymnasium.make(env_id, max_turns=4).unwrapped
    env.reset(seed=2)
    env.action_space.seed(2)
    mask = np.array([tool.name != "finish" for tool in env.toolset.tools], dtype=np.int8)  # type: ignore[attr-defined]
    plan = [env.action_space.sample(mask=mask) for _ in range(4)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(_play_pickled, (env, plan))
    assert there == _play(env, plan)


def _play_pickled(env: gymnasium.Env[Any, Any], plan: list[Any]) -> str:
    return _play(env, plan)


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_vectorised_by_gymnasium_it_plays_the_same_episodes(env_id: str) -> None:
    envs = gymnasium.make_vec(env_id, num_envs=2, vectorization_mode="sync", max_turns=1)
    alone = gymnasium.make(env_id, max_turns=1)
    observations, _ = envs.reset(seed=9)
    envs.action_space.seed(4)
    actions = envs.action_space.sample()
    stepped = envs.step(actions)
    for index, action in enumerate(actions):
        obs, _ = alone.reset(seed=9 + index)
        assert np.array_equal(obs["image"], observations["image"][index])
        obs, reward, *_ = alone.step(action)
        assert np.array_equal(obs["image"], stepped[0]["image"][index])
        assert reward == stepped[1][index]
    envs.close()


def test_registering_again_is_harmless_and_ids_are_known_to_gymnasium() -> None:
    register_envs()
    assert set(ENV_IDS) <= set(gymnasium.registry)


def test_the_manual_covers_every_argument_and_section() -> None:
    manual = retouch.RetouchEnv.__doc__ or ""
    sections = ("Description", "Action Space", "Observation Space", "Rewards", "Starting State", "Episode End")
    assert all(f"## {section}" in manual for section in (*sections, "Arguments", "Version History"))
    arguments = set(retouch.RetouchEnv.__init__.__annotations__) - {"return"}
    assert all(f"        {name}: " in manual for name in arguments)


def test_a_photo_folder_becomes_an_environment(tmp_path: Path) -> None:
    save_image(np.full((20, 30, 3), 90, np.uint8), tmp_path / "a.png")
    env = gymnasium.make("Retouch/Retouch-v0", dataset=f"folder:{tmp_path}", on_reward_error="truncate")
    obs, _ = env.reset(seed=0)
    assert obs["image"].shape == (20, 30, 3)
