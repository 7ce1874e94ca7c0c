"""A stage of reinforcement: GRPO on Ray RLlib that survives what is killed under it. For policies and judges."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from retouch_agents.checkpoints import NEWEST, POLICY, STATE, CheckpointError, Checkpoints, Keep, swap_folder
from retouch_agents.metrics_log import MetricsLog
from retouch_agents.rllib import GRPO, GRPOConfig
from retouch_agents.rllib.cluster import running_ray

logger = logging.getLogger(__name__)

Show = Callable[[int, str], None]
"""Receives the iteration and a short text."""

Evaluate = Callable[[Path], float]
"""From a policy's folder to its score."""


class Stage(Protocol):
    """What `reinforce` has to know of a stage; `GRPOStage` is one."""

    @property
    def name(self) -> str:
        """What the stage is called in the metrics."""
        ...

    @property
    def iterations(self) -> int:
        """Iterations of sampling and updating."""
        ...

    @property
    def checkpoint_every(self) -> int:
        """Iterations between two checkpoints."""
        ...

    def algorithm_config(self, model: Path) -> AlgorithmConfig:
        """RLlib's config of the run that starts from a model; that of `GRPO`."""
        ...


@dataclass(frozen=True)
class GRPOStage:
    """Settings of the stage.

    Args:
        env_config: Arguments of the environment.
        iterations: Iterations of sampling and updating.
        prompts_per_iteration: Tasks per iteration.
        group_size: Answers per task.
        env_runners: Remote Ray env runners; 0 samples in this process.
        learning_rate: Peak learning rate; falls linearly to a tenth of it after the most answers there can be.
        seed: Seed of the order of tasks and of sampling.
        checkpoint_every: Iterations between two checkpoints to resume from.
        env: Id of the environment, ``"module:id"`` if a module has to be imported for it.
        max_new_tokens: Most tokens of an answer.
        kl_coeff: Weight of the KL penalty to the model that the stage starts from.
        num_updates: Passes over the answers of an iteration.
        temperature: Of sampling.
        name: What the stage is called in the metrics.
        learners: Remote Ray learners; 0 learns in this process.
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
    learners: int = 0

    def algorithm_config(self, model: Path) -> AlgorithmConfig:
        """RLlib's config of the run."""
        turns = int(self.env_config.get("max_turns", 1))
        answers = self.iterations * self.prompts_per_iteration * self.group_size * turns
        return (
            GRPOConfig()
            .environment(self.env, env_config=dict(self.env_config))
            .env_runners(num_env_runners=self.env_runners)
            .learners(num_learners=self.learners)
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


def reinforce(
    model: Path,
    output: Path,
    stage: Stage,
    metrics: MetricsLog,
    show: Show,
    *,
    keep: Keep = NEWEST,
    evaluate: Evaluate | None = None,
    restarts: int = 3,
    address: str | None = None,
) -> None:
    """Train the model in `model` and write the policy to `output`.

    Goes on from the newest checkpoint in ``OUTPUT.checkpoints`` if there is one: with the same order of tasks and the
    same random numbers, so that an interrupted stage ends as an uninterrupted one, with one row of metrics for every
    iteration. A killed env runner is replaced by RLlib within an iteration; if a remote learner is lost, the algorithm
    is built again and goes on from the newest checkpoint too. Ray is started if this process has none, and left again.

    Args:
        model: Folder of the model to start from; also the reference of the KL penalty.
        output: Folder for the trained policy, that of the last iteration. Checkpoints are beside it.
        stage: Settings.
        metrics: Receives a row per iteration.
        show: Called with the iteration and a short text.
        keep: Which checkpoints stay; `Checkpoints(folder).all()` lists them.
        evaluate: Scores the policy of every checkpoint, given its folder. The score is the ``evaluation`` of the
            iteration's row, and what the best checkpoint is chosen by.
        restarts: How often the algorithm is built again after the loss of a learner without a new checkpoint in
            between; then the error is raised.
        address: Of a Ray cluster; see `retouch_agents.rllib.start_ray`.

    Raises:
        CheckpointError: If a checkpoint cannot be written, for instance because the disk is full. The one before it
            is untouched; called again, training goes on from it.
        ConfigurationError: If there is no cluster at the address, or a setting is wrong.
    """
    checkpoints = Checkpoints(checkpoints_of(output), keep)
    config = stage.algorithm_config(model)
    run = _Run(stage, config, checkpoints, metrics, show, evaluate)
    with running_ray(_cores(config), address=address):
        left = restarts
        while not run.attempt(output, last=left == 0):
            left = restarts if run.gained else left - 1
    checkpoints.finish()


def checkpoints_of(output: Path) -> Path:
    """The folder of the checkpoints of the stage that writes its policy to `output`."""
    return output.with_name(output.name + ".checkpoints")


@dataclass
class _Run:
    """A stage on its way through any number of attempts."""

    stage: Stage
    config: AlgorithmConfig
    checkpoints: Checkpoints
    metrics: MetricsLog
    show: Show
    evaluate: Evaluate | None
    gained: bool = False
    """Whether the attempt has left a new checkpoint."""

    def attempt(self, output: Path, *, last: bool) -> bool:
        """Train from the newest checkpoint to the end; whether it got there.

        Args:
            output: Folder for the policy.
            last: Raise if a learner is lost.
        """
        self.gained = False
        start = self.checkpoints.recover()
        algorithm = GRPO(config=self.config.copy(copy_frozen=False))
        try:
            if start is not None:
                algorithm.restore_from_path(str(start.state.resolve()))
            self.metrics.rewind(self.stage.name, algorithm.iteration)
            self._train(algorithm)
            fresh = output.with_name(output.name + ".new")
            shutil.rmtree(fresh, ignore_errors=True)
            algorithm.export_policy(fresh)
            swap_folder(fresh, output)
        except Exception as error:
            if last or _learners_left(algorithm):
                raise
            newest = self.checkpoints.latest()
            step = newest.step if newest else 0
            logger.warning("A learner was lost (%s); training goes on from iteration %d.", error, step)
            self.show(step, "a learner was lost: going on from here")
            return False
        finally:
            algorithm.stop()
        return True

    def _train(self, algorithm: GRPO) -> None:
        while algorithm.iteration < self.stage.iterations:
            row = {key.removeprefix("component/"): float(value) for key, value in algorithm.train()["grpo"].items()}
            step = algorithm.iteration
            row["reward"] = row.pop("reward_mean", float("nan"))
            fresh = self.checkpoints.begin(step) if self._due(step) else None
            if fresh is not None and self.evaluate is not None:
                with self.checkpoints.writing(fresh):
                    algorithm.export_policy(fresh / POLICY)
                row["evaluation"] = float(self.evaluate(fresh / POLICY))
            self.metrics.append(self.stage.name, {"step": step, **row})
            self.show(step, f"reward {row['reward']:+.3f}")
            if fresh is not None:
                self._save(algorithm, fresh, step, row)

    def _due(self, step: int) -> bool:
        keep = self.checkpoints.keep
        if step == self.stage.iterations:
            return keep.best or keep.after
        return step % self.stage.checkpoint_every == 0

    def _save(self, algorithm: GRPO, fresh: Path, step: int, row: Mapping[str, float]) -> None:
        keep = self.checkpoints.keep
        value = row.get("evaluation", self.metrics.mean(self.stage.name, keep.metric, keep.window))
        with self.checkpoints.writing(fresh):
            if self.evaluate is None:
                algorithm.export_policy(fresh / POLICY)
            algorithm.save_to_path(str((fresh / STATE).resolve()))
            if not _learners_left(algorithm):
                # RLlib says nothing when a remote learner fails to write its part.
                raise CheckpointError("a remote learner died while it wrote its state; see Ray's logs")
            self.metrics.flush()
            self.checkpoints.commit(fresh, step, value)
        self.gained = True


def _learners_left(algorithm: GRPO) -> bool:
    """Whether every learner answers."""
    replies = [bool(reply.ok) for reply in algorithm.learner_group.foreach_learner(lambda learner: None)]
    return sum(replies) == max(1, int(algorithm.config.num_learners))


def _cores(config: Any) -> int:
    """Cores that the main process, the env runners and the learners take."""
    per_learner = config.num_cpus_per_learner
    if per_learner == "auto":
        per_learner = 0 if config.num_gpus_per_learner else 1
    runners = float(config.num_env_runners * config.num_cpus_per_env_runner)
    learners = float(config.num_learners * per_learner)
    return max(2, math.ceil(1 + runners + learners))
