"""Carrying out one stage: from its settings to a trained model folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from retouch_agents.checkpoints import Keep
from retouch_agents.reinforce import Show, reinforce
from retouch_agents.rllib import GRPOConfig
from retouch_agents.rllib.cluster import MIB, start_ray
from retouch_agents.sft import SFTTrainer
from retouch_agents.training.config import RayConfig, RLStage, SFTStage, TrainConfig
from retouch_agents.training.demonstrations import ChatDemonstrations
from retouch_agents.training.loggers import WatchedLog
from retouch_agents.training.start import unjudged, writes_prompts


@dataclass(frozen=True)
class ConfiguredStage:
    """A stage of reinforcement of a run, as `reinforce` asks for it.

    Args:
        config: The run.
        name: The stage.
    """

    config: TrainConfig
    name: str

    @property
    def settings(self) -> RLStage:
        """What the run says of it."""
        found = self.config.stages[self.name]
        assert isinstance(found, RLStage)
        return found

    @property
    def iterations(self) -> int:
        """Iterations of sampling and updating."""
        return self.settings.iterations

    @property
    def checkpoint_every(self) -> int:
        """Iterations between two checkpoints."""
        return self.settings.checkpoint_every

    def algorithm_config(self, model: Path) -> AlgorithmConfig:
        """RLlib's config of the stage."""
        return algorithm_config(self.config, self.name, model)


def algorithm_config(config: TrainConfig, name: str, model: Path) -> AlgorithmConfig:
    """RLlib's config of a stage of reinforcement.

    Args:
        config: The run.
        name: The stage.
        model: Folder or id that it starts from.
    """
    stage, environment = config.stages[name], config.environment_of(name)
    assert isinstance(stage, RLStage)
    answers = stage.iterations * stage.episodes * environment.max_turns
    given: dict[str, Any] = {
        # Workers have another working directory.
        "model": str(model.resolve() if model.is_dir() else model),
        "dtype": config.model.dtype,
        "tuning": config.model.tuning,
        "group_size": stage.group_size,
        "prompts_per_iteration": stage.prompts_per_iteration,
        "max_new_tokens": stage.max_new_tokens,
        "temperature": stage.temperature,
        "num_updates": stage.num_updates,
        "minibatch_size": stage.minibatch_size,
        "micro_batch_size": stage.micro_batch_size,
        "lr": stage.lr if stage.lr_end == 1 else [[0, stage.lr], [answers, stage.lr * stage.lr_end]],
    }
    own: Mapping[str, Any] = {"kl_coeff": stage.kl_coeff, "clip": stage.clip}
    given |= {key: value for key, value in own.items() if value is not None}
    return (
        GRPOConfig()
        .algorithm(stage.algorithm)
        .environment(environment.id, env_config=environment.arguments)
        .env_runners(
            num_env_runners=config.ray.env_runners,
            num_cpus_per_env_runner=config.ray.cpus_per_env_runner,
            num_gpus_per_env_runner=config.ray.gpus_per_env_runner,
        )
        .learners(num_learners=config.ray.learners, num_gpus_per_learner=config.ray.gpus_per_learner)
        .training(**{**given, **stage.options})
        .debugging(seed=config.seed)
    )


def connect(settings: RayConfig) -> None:
    """Start Ray on this machine, or join the cluster of an address; nothing if it runs already."""
    needed = settings.env_runners * settings.cpus_per_env_runner + settings.learners + 1
    start_ray(
        num_cpus=settings.num_cpus or max(2, math.ceil(needed)),
        address=settings.address,
        object_store_memory=settings.object_store_mb * MIB,
    )


def run_sft(config: TrainConfig, name: str, model: Path, metrics: WatchedLog, show: Show) -> None:
    """Fine-tune `model` into the stage's folder, from its checkpoint if there is one."""
    stage, environment = config.stages[name], config.environment_of(name)
    assert isinstance(stage, SFTStage)
    data = ChatDemonstrations(environment) if writes_prompts(environment) else unjudged(environment)
    trainer = SFTTrainer(
        model, config.output / name, data, stage.settings(config.model.dtype), tuning=config.model.tuning
    )
    metrics.rewind(name, trainer.step)
    for row in trainer.train():
        metrics.append(name, row)
        show(int(row["step"]), "")


def run_rl(config: TrainConfig, name: str, model: Path, metrics: WatchedLog, show: Show) -> None:
    """Reinforce `model` into the stage's folder, from its checkpoint if there is one."""
    stage = config.stages[name]
    assert isinstance(stage, RLStage)
    connect(config.ray)
    keep = Keep(last=stage.keep_last, best=stage.keep_best)
    reinforce(model, config.output / name, ConfiguredStage(config, name), metrics, show, keep=keep)
