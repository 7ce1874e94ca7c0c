"""A stage of reinforcement: GRPO on Ray RLlib, in checkpoints that can be resumed from. For policies and judges."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from retouch_agents.checkpoints import recover_folder, swap_folder
from retouch_agents.metrics_log import MetricsLog
from retouch_agents.rllib import GRPO, GRPOConfig
from retouch_agents.rllib.cluster import start_ray

Show = Callable[[int, str], None]


@dataclass(frozen=True)
class GRPOStage:
    """Settings of the stage.

    Args:
        env_config: Arguments of the environment.
        iterations: Iterations of sampling and updating.
        prompts_per_iteration: Tasks per iteration.
        group_size: Answers per task.
        env_runners: Remote Ray env runners; 0 samples in this process.
        learning_rate: Peak learning rate; falls linearly to a tenth of it.
        seed: Seed of the order of tasks and of sampling.
        checkpoint_every: Iterations between two checkpoints to resume from.
        env: Id of the environment, ``"module:id"`` if a module has to be imported for it.
        max_new_tokens: Most tokens of an answer.
        kl_coeff: Weight of the KL penalty to the model that the stage starts from.
        num_updates: Passes over the answers of an iteration.
        temperature: Of sampling.
        name: What the stage is called in the metrics.
    """

    env_config: Mapping[str, Any]
    iterations: int
    prompts_per_iteration: int = 16
    group_size: int = 8
    env_runners: int = 2
    learning_rate: float = 2e-4
    seed: int = 0
    checkpoint_every: int = 25
    env: str = "Retouch/Retouch-v0"
    max_new_tokens: int = 64
    kl_coeff: float = 0.04
    num_updates: int = 2
    temperature: float = 1.0
    name: str = "grpo"

    def algorithm_config(self, model: Path) -> AlgorithmConfig:
        """RLlib's config of the run."""
        answers = self.iterations * self.prompts_per_iteration * self.group_size
        return (
            GRPOConfig()
            .environment(self.env, env_config=dict(self.env_config))
            .env_runners(num_env_runners=self.env_runners)
            .learners(num_learners=0)
            .training(
                model=str(model.resolve()),
                group_size=self.group_size,
                prompts_per_iteration=self.prompts_per_iteration,
                max_new_tokens=self.max_new_tokens,
                num_updates=self.num_updates,
                temperature=self.temperature,
                kl_coeff=self.kl_coeff,
                clip=0.2,
                lr=[[0, self.learning_rate], [answers, self.learning_rate / 10]],
            )
            .debugging(seed=self.seed)
        )


def reinforce(model: Path, output: Path, stage: GRPOStage, metrics: MetricsLog, show: Show) -> None:
    """Train the model in `model` and write the policy to `output`.

    Goes on from the checkpoint beside `output` if there is one. Ray is started if it is not running and
    stopped again.

    Args:
        model: Folder of the model to start from; also the reference of the KL penalty.
        output: Folder for the trained policy.
        stage: Settings.
        metrics: Receives a row per iteration.
        show: Called with the iteration and a short text.
    """
    checkpoint = recover_folder(output.with_name(output.name + ".checkpoint"))
    already_running = ray.is_initialized()
    start_ray(num_cpus=max(2, stage.env_runners + 1))
    try:
        algorithm = GRPO(config=stage.algorithm_config(model))
        try:
            if checkpoint.is_dir():
                algorithm.restore_from_path(str(checkpoint.resolve()))
            metrics.rewind(stage.name, algorithm.iteration)
            _train(algorithm, stage, checkpoint, metrics, show)
            fresh = output.with_name(output.name + ".new")
            algorithm.export_policy(fresh)
            swap_folder(fresh, output)
        finally:
            algorithm.stop()
    finally:
        if not already_running:
            ray.shutdown()
    shutil.rmtree(checkpoint, ignore_errors=True)


def _train(algorithm: GRPO, stage: GRPOStage, checkpoint: Path, metrics: MetricsLog, show: Show) -> None:
    while algorithm.iteration < stage.iterations:
        row = {key.removeprefix("component/"): float(value) for key, value in algorithm.train()["grpo"].items()}
        step = algorithm.iteration
        row["reward"] = row.pop("reward_mean", float("nan"))
        metrics.append(stage.name, {"step": step, **row})
        show(step, f"reward {row['reward']:+.3f}")
        if step % stage.checkpoint_every == 0 and step < stage.iterations:
            fresh = checkpoint.with_name(checkpoint.name + ".new")
            shutil.rmtree(fresh, ignore_errors=True)
            algorithm.save_to_path(str(fresh.resolve()))
            swap_folder(fresh, checkpoint)
