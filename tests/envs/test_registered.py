"""Every registered id, in every task and with every option."""

from __future__ import annotations

import hashlib
import inspect
import itertools
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

from retouch_gym.chat import ANSWER_FORMATS
from retouch_gym.envs.chat import ChatEnv, ChatOptions
from retouch_gym.envs.options import EnvOptions
from retouch_gym.envs.registration import ENV_IDS, register_envs
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.envs.sliders import SlidersEnv, SlidersOptions
from retouch_gym.images import save_image
from retouch_gym.renderers import get_renderer
from retouch_gym.rewards import REWARDS, get_reward
from retouch_gym.tasks import MODES
from retouch_gym.users import USERS

RETOUCH, CHAT, SLIDERS = ENV_IDS
WORDY = {"dataset_kwargs": {"kinds": ["instruct"]}}
IN_WORDS = {"summary"}

ROLLOUT = """
import hashlib, sys
import gymnasium, numpy as np, retouch_gym
env = gymnasium.make(sys.argv[1], max_turns=3, reward="edit", user="scripted")
env.action_space.seed(11)
digest = hashlib.sha256()
obs, info = env.reset(seed=11)
for turn in range(8):
    for value in obs.values() if isinstance(obs, dict) else obs:
        digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    answer = f'<think>a</think><answer>{{"exposure": {turn}}}</answer>'
    action = answer if "Chat" in sys.argv[1] else env.action_space.sample()
    obs, reward, terminated, truncated, info = env.step(action)
    digest.update(repr((reward, terminated, truncated, info["tool_error"])).encode())
    if terminated or truncated:
        obs, info = env.reset()
print(digest.hexdigest())
"""


def sliders_of(env_id: str) -> dict[str, Any]:
    """A professional toolset has more sliders than one plan may set."""
    return {"sliders": ["exposure", "contrast", "saturation"]} if env_id == SLIDERS else {}


def checked(env_id: str, **kwargs: Any) -> None:
    env = gymnasium.make(env_id, **kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


@pytest.mark.parametrize("env_id", ENV_IDS)
@pytest.mark.parametrize("reward", [name for name in REWARDS if get_reward(name).scope == "episode"])
def test_check_env_passes_with_every_reward(env_id: str, reward: str) -> None:
    task = "summary" if reward == "intent" else reward if reward in MODES else None
    if task in IN_WORDS and env_id == SLIDERS:
        pytest.skip("summaries are words")
    checked(env_id, reward=reward, task=task, **WORDY)


@pytest.mark.parametrize("env_id", ENV_IDS)
@pytest.mark.parametrize("task", [*MODES, MODES])
@pytest.mark.parametrize("user", [None, *USERS])
def test_check_env_passes_in_every_task_with_and_without_a_user(env_id: str, task: Any, user: str | None) -> None:
    modes = {task} if isinstance(task, str) else set(task)
    if modes & IN_WORDS:
        if env_id == SLIDERS:
            task = [mode for mode in modes if mode not in IN_WORDS] or "edit"
        user = None if modes == IN_WORDS else user
    checked(env_id, task=task, user=user, reward="task", reward_mode="delta", **WORDY)


@pytest.mark.parametrize("answer_format", ANSWER_FORMATS)
@pytest.mark.parametrize("photos", ["all", "last"])
def test_check_env_passes_with_every_chat_option(answer_format: str, photos: str) -> None:
    checked(CHAT, answer_format=answer_format, photos=photos, longest=32, format_weight=0.2)


@pytest.mark.parametrize(
    ("actions", "words", "flat"),
    list(itertools.product(["box", "multi-discrete", "discrete"], ["hash", "tokens", "none"], [False, True])),
)
def test_check_env_passes_with_every_numeric_option(actions: str, words: str, flat: bool) -> None:
    checked(SLIDERS, actions=actions, words=words, flat=flat, task="transfer", size=12)


@pytest.mark.parametrize("env_id", ENV_IDS)
@pytest.mark.parametrize("toolset", sorted(get_renderer("native").toolsets))
@pytest.mark.parametrize("render_mode", ["rgb_array", "ansi"])
def test_a_random_policy_plays_to_the_end(env_id: str, toolset: str, render_mode: str) -> None:
    env = gymnasium.make(env_id, toolset=toolset, max_turns=3, render_mode=render_mode, **sliders_of(env_id))
    env.action_space.seed(0)
    env.reset(seed=0)
    low, high = env.unwrapped.reward.range  # type: ignore[attr-defined]
    for _ in range(3):
        obs, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        assert obs in env.observation_space
        assert env.render() is not None
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
        _, reward, *_ = env.step(action)
        image = env.unwrapped.episode.image  # type: ignore[attr-defined]
        digest.update(image.tobytes() + repr(reward).encode())
    return digest.hexdigest()


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_an_environment_goes_on_alike_in_a_spawned_process(env_id: str) -> None:
    env = gymnasium.make(env_id, max_turns=4).unwrapped
    env.reset(seed=2)
    env.action_space.seed(2)
    plan = [env.action_space.sample() for _ in range(20)]
    plan = [action for action in plan if "finish" not in repr(action)][:4]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(_play, (env, plan))
    assert there == _play(env, plan)


def test_registering_again_is_harmless_and_ids_are_known_to_gymnasium() -> None:
    register_envs()
    assert set(ENV_IDS) <= set(gymnasium.registry)


@pytest.mark.parametrize(
    ("env", "options"), [(RetouchEnv, EnvOptions), (ChatEnv, ChatOptions), (SlidersEnv, SlidersOptions)]
)
def test_the_manual_covers_every_argument_and_section(env: type, options: type) -> None:
    manual = inspect.getdoc(env) or ""
    sections = ("Description", "Action Space", "Observation Space", "Rewards", "Starting State", "Episode End")
    assert all(f"## {section}" in manual for section in (*sections, "Arguments", "Version History"))
    common = set() if env is RetouchEnv else set(EnvOptions.__annotations__)
    missing = [name for name in set(options.__annotations__) - common if f"\n    {name}: " not in manual]
    assert not missing


def test_a_photo_folder_becomes_an_environment(tmp_path: Path) -> None:
    save_image(np.full((20, 30, 3), 90, np.uint8), tmp_path / "a.png")
    env = gymnasium.make(RETOUCH, dataset=f"folder:{tmp_path}", on_reward_error="truncate")
    obs, _ = env.reset(seed=0)
    assert obs["image"].shape == (20, 30, 3)
