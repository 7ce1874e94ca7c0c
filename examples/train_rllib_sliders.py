"""PPO of Ray RLlib (new API stack), with its stock model, on `Retouch/Sliders-v0`.

Run: python examples/train_rllib_sliders.py
Needs: pip install 'retouch-gym[agents]'

Remote env runners play the native vector environment, which renders and scores a whole batch at once. The
policy learns on the photos of the training split and is examined on photos that it never saw, beside doing
nothing, random sliders, and itself shown another task's photos. Writes curve.png and result.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from _sliders_report import ENV_ID, Predict, Training, env_options, options_parser
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModule

from retouch_agents.rllib import start_ray

ENVS = 16


def make_config(given: argparse.Namespace) -> PPOConfig:
    """RLlib's PPO with settings for episodes of one step."""
    runners = given.env_runners
    return (
        PPOConfig()
        .environment(ENV_ID, env_config=env_options(given.challenge, "train", given.train_tasks))
        .env_runners(
            num_env_runners=runners,
            num_envs_per_env_runner=ENVS,
            # One batched render and one batched reward for all of a runner's environments.
            gym_env_vectorize_mode="vector_entry_point",
        )
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[256, 256], vf_share_layers=False, free_log_std=True))
        .training(
            lr=given.lr,
            train_batch_size_per_learner=given.batch,
            minibatch_size=min(256, given.batch),
            num_epochs=5,
            entropy_coeff=0.0,
            use_kl_loss=False,
            clip_param=0.2,
            # The reward is −1..1, so the value loss needs no clipping; an episode is one step.
            vf_clip_param=float("inf"),
            grad_clip=0.5,
            lambda_=0.95,
        )
        .debugging(seed=given.seed, log_level="ERROR")
    )


def start_near_untouched(algorithm: Algorithm, module: RLModule) -> None:
    """First guesses near 0 (untouched) and not all over −1..1, where most photos are spoilt."""
    with torch.no_grad():
        module.pi.log_std.fill_(-1.0)
    algorithm.env_runner_group.sync_weights(from_worker_or_learner_group=algorithm.learner_group, inference_only=True)


def predictor(module: RLModule) -> Predict:
    """The mean of the policy's normal distribution, clipped to the action space."""

    def predict(observations: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        with torch.no_grad():
            found = module.forward_inference({Columns.OBS: torch.as_tensor(observations)})
        distribution = module.get_inference_action_dist_cls().from_logits(found[Columns.ACTION_DIST_INPUTS])
        return np.asarray(distribution.to_deterministic().sample().clamp(-1, 1).numpy(), np.float32)

    return predict


def train(given: argparse.Namespace) -> dict[str, Any]:
    """Train, examine, write. Returns the figures."""
    algorithm = make_config(given).build_algo()
    held_out = env_options(given.challenge, "test", given.test_tasks)
    # With remote runners the module that learns is in the learner, in this process.
    module = algorithm.learner_group._learner.module["default_policy"]
    start_near_untouched(algorithm, module)
    try:
        with Training("PPO (RLlib)", given, held_out, predictor(module)) as training:
            steps = 0
            while training.reached(steps) or steps == 0:
                found = algorithm.train()
                steps = int(found["env_runners"]["num_env_steps_sampled_lifetime"])
    finally:
        algorithm.stop()
    return training.report()


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the options, start Ray, train."""
    parser = options_parser(__doc__, 60_000, "environment steps (default: 60000)")
    parser.add_argument("--env-runners", type=int, default=1, help="remote env runners; 0 samples in this process")
    parser.add_argument("--batch", type=int, default=2048, help="steps per iteration (default: 2048)")
    parser.add_argument("--lr", type=float, default=1e-4)
    given = parser.parse_args(arguments)
    given.out = given.out or Path("runs/sliders") / f"rllib-ppo-{given.challenge}-{given.seed}"
    torch.set_num_threads(1)
    start_ray(num_cpus=given.env_runners + 1)
    try:
        return train(given)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
