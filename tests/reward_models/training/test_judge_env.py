"""`Retouch/Judge-v0`: what it shows and what it pays."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import retouch_reward_models  # noqa: F401  # registers Retouch/Judge-v0
from retouch_gym.chat import photos_of
from retouch_gym.errors import ConfigurationError
from retouch_gym.testing.doubles import TinyDataset
from retouch_reward_models.grm import JsonVerdict, JudgePrompt, LineVerdict
from retouch_reward_models.training.demonstrations import JudgeDemonstrations
from retouch_reward_models.training.pairs import PerturbedPairs

PAIRS = PerturbedPairs(TinyDataset(4))
TASKS = {"split": "train", "size": 12, "kinds": ["instruct"]}

ROLLOUT = """
import hashlib, gymnasium, retouch_reward_models
env = gymnasium.make("Retouch/Judge-v0", verdict_format="lines", disable_env_checker=True)
digest = hashlib.sha256()
for seed in range(3):
    messages, info = env.reset(seed=seed)
    for message in messages:
        for block in message["content"]:
            digest.update(block["image"].tobytes() if "image" in block else block["text"].encode())
    digest.update(repr((info["task_id"], info["swapped"], env.step("a|100|=3|=8")[1])).encode())
print(digest.hexdigest())
"""


def make(**options: Any) -> Any:
    settings = {"pairs": PAIRS, "verdict_format": "lines", **options}
    return gymnasium.make("Retouch/Judge-v0", disable_env_checker=True, **settings)


@pytest.mark.parametrize("spoken", ["json", "lines"])
def test_check_env_passes_without_a_warning(spoken: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(verdict_format=spoken).unwrapped)


def test_the_better_edit_is_a_in_half_of_the_episodes() -> None:
    env = make()
    swapped = []
    for seed in range(60):
        messages, info = env.reset(seed=seed, options={"index": 0})
        swapped.append(info["swapped"])
        shown = photos_of(messages)[1:]
        better = env.unwrapped.renderer.render([PAIRS[0].task.photo.load()], [PAIRS[0].better])[0]
        assert np.array_equal(shown[1 if info["swapped"] else 0], better)
    assert 18 < sum(swapped) < 42


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("right", "wrong", "margin"), [(8, 3, 5), (3, 8, -5), (6, 6, 0)])
def test_preferring_the_better_edit_is_paid_and_a_tie_is_not(seed: int, right: int, wrong: int, margin: int) -> None:
    env = make(format_weight=0.25)
    _, info = env.reset(seed=seed)
    first, second = (wrong, right) if info["swapped"] else (right, wrong)
    _, reward, terminated, truncated, info = env.step(f"look|100|={first}|={second}")
    assert reward == float(margin > 0) + 0.25
    assert (terminated, truncated, info["tool_error"], info["margin"]) == (True, False, None, margin)
    assert info["reward_components"] == {"preference": float(margin > 0), "format": 1.0}


@pytest.mark.parametrize("answer", ["", "10", "look|100|=8", "look|50|=8|=2", "look|100|=11|=0", "x" * 10_000])
def test_what_cannot_be_read_pays_nothing_and_says_why(answer: str) -> None:
    env = make()
    env.reset(seed=0)
    _, reward, terminated, _, info = env.step(answer)
    assert (reward, terminated) == (0, True)
    assert info["tool_error"]
    assert info["reward_components"] == {"preference": 0.0, "format": 0.0}
    assert "margin" not in info
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.unwrapped.step(answer)


def test_the_same_seed_is_the_same_episode_in_another_process() -> None:
    digests = [
        subprocess.run([sys.executable, "-c", ROLLOUT], capture_output=True, text=True, check=True, timeout=300).stdout
        for _ in range(2)
    ]
    assert len(digests[0].strip()) == 64
    assert digests[0] == digests[1]


def test_pairs_are_chosen_by_index_and_unknown_options_refused() -> None:
    env = make()
    assert [env.reset(options={"index": index})[1]["task_id"] for index in range(4)] == [PAIRS[i].id for i in range(4)]
    for options in ({"index": 4}, {"index": -1}, {"task": 0}):
        with pytest.raises(ConfigurationError, match="reset options"):
            env.reset(options=options)


def test_demonstrations_answer_rightly_and_depend_on_their_index_alone() -> None:
    pairs = PerturbedPairs("samples", TASKS)
    prompt = JudgePrompt(system="", user="{instruction}", views=("before", "difference"), longest=None)
    found = JudgeDemonstrations(pairs, prompt, "lines", both=0.5, seed=2)
    again = JudgeDemonstrations(pairs, prompt, "lines", both=0.5, seed=2)
    counts = set()
    assert len(found) == 12
    for index in range(12):
        messages, answer = found[index]
        shown = len(photos_of(messages)) - 1
        counts.add(shown)
        verdict = LineVerdict().parse(answer, shown)
        totals = [verdict.total(place) for place in range(shown)]
        if shown == 2:
            assert max(totals) == pytest.approx(10)
            assert min(totals) < 10
        other, same = again[index]
        assert same == answer
        assert all(np.array_equal(a, b) for a, b in zip(photos_of(messages), photos_of(other), strict=True))
    assert counts == {1, 2}
    messages, answer = JudgeDemonstrations(pairs, prompt, "json", both=1.0)[0]
    assert JsonVerdict().parse(answer, 2).candidates == 2
