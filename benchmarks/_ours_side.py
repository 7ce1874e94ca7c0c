"""Our GRPO's side of `grpo_vs_trl.py`: `python benchmarks/_ours_side.py RUN.json`."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from _grpo_run import Clock, Run, save_result

from retouch_agents.rllib import GRPOConfig
from retouch_agents.rllib.cluster import start_ray
from retouch_agents.rllib.grpo import GRPO


def algorithm_of(run: Run) -> GRPO:
    """Our algorithm with the settings of a run."""
    # We divide a group's deviations by n, TRL by n − 1, so that our advantages are larger by this factor. With the
    # penalty and the clipping norm larger by it too, gradients are TRL's times a constant, which Adam divides out.
    factor = math.sqrt(run.group / (run.group - 1))
    config = (
        GRPOConfig()
        .environment("Retouch/Retouch-v0", env_config=run.env_config())
        .env_runners(num_env_runners=run.processes)
        .learners(num_learners=0)
        .training(
            model=run.model,
            group_size=run.group,
            prompts_per_iteration=run.prompts,
            max_new_tokens=run.max_new_tokens,
            num_updates=run.updates,
            temperature=1.0,
            clip=0.2,
            kl_coeff=run.kl * factor,
            grad_clip=factor,
            lr=run.learning_rate,
        )
        .debugging(seed=run.seed)
    )
    return GRPO(config=config)


def train(run: Run) -> None:
    """Train, and write the result (and the policy)."""
    torch.set_num_threads(run.threads)
    start_ray(num_cpus=max(2, run.processes + 1))
    clock = Clock()
    algorithm = algorithm_of(run)
    rewards, lengths = [], []
    try:
        for _ in range(run.iterations):
            clock.start()
            found = algorithm.train()["grpo"]
            # The parts of sampling are added up over runners, which work side by side.
            share = 1.0 / max(1, run.processes)
            clock.add("generation", share * found["generate_seconds"])
            clock.add("reward", share * found["play_seconds"])
            clock.add("learning", found["learn_seconds"])
            clock.stop()
            rewards.append(float(found["reward_mean"]))
            lengths.append(float(found["response_length"]))
        if run.keep:
            algorithm.export_policy(Path(run.out) / "policy")
    finally:
        algorithm.stop()
    save_result(run, clock, rewards, lengths, torch.get_num_threads())


if __name__ == "__main__":
    train(Run.read(Path(sys.argv[1])))
