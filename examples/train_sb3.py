"""PPO or SAC of stable-baselines3, with its stock policies, on `Retouch/Sliders-v0`.

Run: python examples/train_sb3.py --algorithm ppo
     python examples/train_sb3.py --algorithm sac --challenge instruct
Needs: pip install 'retouch-gym[sb3]'

The policy learns on the photos of the training split and is examined on photos that it never saw, beside
doing nothing, random sliders, and itself shown another task's photos: what is better than that has looked.
Writes curve.png and result.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _sliders_report import Training, env_options, options_parser
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor

from retouch_gym.envs.sliders import SlidersEnv

STEPS = {"ppo": 100_000, "sac": 24_000}
ENVS = 16


class Examine(BaseCallback):
    """Examines the policy now and then, and stops when steps or time are used up."""

    def __init__(self, training: Training) -> None:
        super().__init__()
        self.training = training

    def _on_step(self) -> bool:
        return self.training.reached(self.num_timesteps)


def make_envs(options: dict[str, Any]) -> VecEnv:
    """Environments that share one dataset and one cache of photos, which `make_vec_env` cannot know of."""
    first = SlidersEnv(**options)
    return VecMonitor(DummyVecEnv([first.spawn for _ in range(ENVS)]))


def make_model(algorithm: str, envs: VecEnv, view: str, seed: int, **settings: Any) -> BaseAlgorithm:
    """The algorithm with settings for episodes of one step; `settings` replace them."""
    policy = "MlpPolicy" if view == "flat" else "MultiInputPolicy"
    common: dict[str, Any] = {"seed": seed, "device": "cpu", "policy_kwargs": {"net_arch": [256, 256]}}
    if algorithm == "ppo":
        # The first guesses are near 0 (untouched) and not all over −1..1, where most photos are spoilt.
        common["policy_kwargs"]["log_std_init"] = -1.0
        own = {"n_steps": 128, "batch_size": 256, "n_epochs": 5, "learning_rate": 5e-4}
        return PPO(policy, envs, **(common | own | settings))
    own = {"learning_starts": 1000, "gradient_steps": 4, "learning_rate": 1e-3, "buffer_size": 50_000}
    return SAC(policy, envs, **(common | own | settings))


def train(given: argparse.Namespace, **settings: Any) -> dict[str, Any]:
    """Train, examine, write. Returns the figures."""
    envs = make_envs(env_options(given.challenge, "train", given.train_tasks, given.view))
    model = make_model(given.algorithm, envs, given.view, given.seed, **settings)
    held_out = env_options(given.challenge, "test", given.test_tasks, given.view)
    title = f"{given.algorithm.upper()} (stable-baselines3)"
    with Training(title, given, held_out, lambda seen: model.predict(seen, deterministic=True)[0]) as training:
        model.learn(given.steps, callback=Examine(training))
    model.save(given.out / "policy")
    envs.close()
    return training.report()


def main(arguments: Sequence[str] | None = None, **settings: Any) -> dict[str, Any]:
    """Read the options and train."""
    parser = options_parser(__doc__, None, "environment steps (default: 100000 for PPO, 24000 for SAC)")
    parser.add_argument("--algorithm", choices=STEPS, default="ppo")
    parser.add_argument("--view", choices=("flat", "dict"), default="flat", help="MLP on a vector, or CNN on a Dict")
    given = parser.parse_args(arguments)
    given.steps = given.steps or STEPS[given.algorithm]
    given.out = given.out or Path("runs/sliders") / f"sb3-{given.algorithm}-{given.challenge}-{given.seed}"
    torch.set_num_threads(1)
    return train(given, **settings)


if __name__ == "__main__":
    main()
