"""GRPO as an algorithm of RLlib: one iteration is `GRPO.training_step`, from top to bottom."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EPISODE_RETURN_MEAN,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
)
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from retouch_agents.finetuning import load_trainable_state
from retouch_agents.models import load_policy, save_policy
from retouch_agents.rllib.ahead import AheadSampler, Weights
from retouch_agents.rllib.config import GRPOSettings
from retouch_agents.rllib.dynamic_sampling import Drawn, draw
from retouch_agents.rllib.learner import LEARNER_METRICS, train_batch
from retouch_agents.rllib.lessons import Lesson, compared, lesson_of
from retouch_agents.rllib.losses import answer_weights
from retouch_agents.rllib.rollouts import Rollout, SampleResult, TaskOrder, episode_numbers, minibatches, summarise
from retouch_agents.rllib.sampling import RunnerPool
from retouch_gym.errors import RetouchError

logger = logging.getLogger(__name__)

RESULTS = "grpo"
"""Key of the results of `train()` that holds what `GRPO` logs."""

_DRAWN = "groups_drawn"
_UPDATES = "updates"
_AHEAD = "sampled_ahead"
_PATIENCE = 3
_REVIVAL_SECONDS = 120.0


class GRPOError(RetouchError, RuntimeError):
    """Training cannot go on."""


class GRPO(Algorithm):
    """Group Relative Policy Optimization (DeepSeekMath, arXiv 2402.03300) of a multimodal chat model; its family; PPO.

    What is optimised is chosen by name: ``GRPOConfig().algorithm("dapo")``, or option by option; see `Objective`.
    Episodes have as many turns as the environment gives them: after each, the photo as it is then is shown. Only
    sampled tokens carry loss, under the token ids that were sampled.
    ``train()["grpo"]`` holds, per iteration, and docs/algorithms.md says with which formula:

    | Key | Meaning |
    |---|---|
    | reward_mean, reward_std, component/NAME | over valid episodes; every named part of the reward |
    | group_reward_std, informative_groups | deviation inside a group; share of groups that teach something |
    | episodes, turns_mean, tool_calls_mean, valid_rate | of episodes |
    | well_formed_rate, finished_rate, response_length | shares of answers; tokens per answer |
    | kl, policy_shift | KL of the policy to the reference; of the sampling policy to the policy |
    | clip_fraction, clip_fraction_low, clip_fraction_high, entropy | share of tokens; nats per token |
    | importance_mean, importance_max | weights that correct for the sampler, with `importance_cap` |
    | value_loss, explained_variance | of the critic, with PPO |
    | answers, lost_groups, failed_groups | answers drawn; groups lost with a runner; groups whose env raised |
    | extra_groups, dropped_groups | of dynamic sampling |
    | tokens_per_second | sampled tokens per second of sampling |
    | sample_seconds, score_seconds, learn_seconds, sync_seconds | time spent on each |
    | staleness_mean, staleness_max, wait_seconds | with `max_staleness`: updates since the weights that sampled; idle |
    | encode_seconds, generate_seconds, play_seconds | parts of sampling, added up over runners |
    """

    config: GRPOSettings
    # RLlib leaves these without a type.
    env_runner_group: Any
    learner_group: Any
    metrics: Any
    _ahead: AheadSampler | None = None

    @classmethod
    def get_default_config(cls) -> GRPOConfig:
        """A config with every default."""
        return GRPOConfig()

    def setup(self, config: Any) -> None:
        """Build runners and learner, and give the runners the learner's weights."""
        super().setup(config)
        self._groups_drawn = 0
        self._weights_version = 0
        self._updates = 0
        self._barren = 0
        self._pool = RunnerPool(self.env_runner_group, timeout_s=self.config.sample_timeout_s)
        self._push_weights()
        counts = self._pool.ask(lambda runner: runner.num_tasks())
        if not counts:
            raise GRPOError("No env runner came up; the first error is in Ray's logs (see start_ray).")
        self._order = TaskOrder(counts[0], self.config.seed or 0)
        if self.config.max_staleness:
            count = self.config.prompts_per_iteration
            self._ahead = AheadSampler(self._pool, self._order, count, self.config.max_staleness)

    def training_step(self) -> None:
        """Sample groups, compute advantages, update, hand out the new weights."""
        seconds: dict[str, float] = {}
        drawn = self._draw(seconds) if self._ahead is None else self._draw_ahead(self._ahead, seconds)
        sampled = drawn.sampled
        self._groups_drawn += drawn.advance
        numbers: dict[str, float] = {
            "answers": len(sampled.rollouts),
            "lost_groups": drawn.lost,
            "failed_groups": len(sampled.failures),
            "extra_groups": drawn.asked - self.config.prompts_per_iteration,
            "dropped_groups": drawn.dropped,
            "tokens_per_second": sampled.tokens / max(seconds["sample_seconds"], 1e-9),
        }
        if self._worth_learning(sampled):
            if drawn.kept:
                lesson = lesson_of(self._scored(drawn.kept, seconds), self.config.objective)
                with _timed(seconds, "learn_seconds"):
                    numbers |= self._learn(lesson)
                self._updates += 1
                self._weights_version += 1
                if self._ahead is None:
                    with _timed(seconds, "sync_seconds"):
                        self._push_weights()
            numbers |= summarise(sampled.rollouts, self._compared(sampled.rollouts))
        self._log({**numbers, **sampled.seconds, **seconds})

    def _draw(self, seconds: dict[str, float]) -> Drawn:
        with _timed(seconds, "sync_seconds"):
            # A runner that came back from a crash holds the weights it was born with.
            self._push_weights(self._pool.stale(self._weights_version))
        with _timed(seconds, "sample_seconds"):
            return draw(
                self._order,
                self._groups_drawn,
                self.config.prompts_per_iteration,
                lambda requests: self._pool.sample(requests, self._weights_version),
                extra_rounds=self.config.max_extra_rounds if self.config.dynamic_sampling else 0,
            )

    def _draw_ahead(self, ahead: AheadSampler, seconds: dict[str, float]) -> Drawn:
        """A batch that was drawn while the learner was busy; the following ones are under way from here on."""
        with _timed(seconds, "sync_seconds"):
            weights = Weights(self._weights(), self._weights_version, self._updates)
        with _timed(seconds, "wait_seconds"):
            batch = ahead.next(self._groups_drawn, weights)
        seconds["sample_seconds"] = batch.seconds
        # Every answer of a batch is drawn with the same weights.
        age = self._updates - batch.updates
        self._log_numbers({"staleness_mean": age, "staleness_max": age})
        asked = len(batch.requests)
        return Drawn(batch.sampled, batch.sampled.rollouts, asked, asked - len(batch.missing))

    def _scored(self, rollouts: Sequence[Rollout], seconds: dict[str, float]) -> Sequence[Rollout]:
        """The answers with the learner's log-probabilities and values, where the sampler's do not do.

        Raises:
            GRPOError: If a learner is gone.
        """
        objective = self.config.objective
        if objective.importance_cap is None and not objective.critic:
            return rollouts
        count = max(1, self.config.num_learners)
        with _timed(seconds, "score_seconds"):
            replies = self.learner_group.foreach_learner(lambda learner: learner.score_share(rollouts, count))
            found = {row: one for reply in replies if reply.ok for row, one in reply.get().items()}
        if len(found) < len(rollouts):
            raise GRPOError(
                f"{len(rollouts) - len(found)} of {len(rollouts)} answers were not scored: a learner is gone."
            )
        return [
            replace(rollout, learner_logprobs=found[row].logprobs, value=found[row].value)
            for row, rollout in enumerate(rollouts)
        ]

    def _worth_learning(self, sampled: SampleResult) -> bool:
        """Whether there is anything to learn from.

        Raises:
            GRPOError: After a few iterations in a row without.
        """
        for group, text in list(sampled.failures.items())[:1]:
            logger.warning("Group %d (and %d more) failed:\n%s", group, len(sampled.failures) - 1, text)
        if any(rollout.valid for rollout in sampled.rollouts):
            self._barren = 0
            return True
        self._barren += 1
        logger.warning("Nothing to learn from in this iteration (%d in a row).", self._barren)
        if self._barren >= _PATIENCE:
            first = next(iter(sampled.failures.values()), "No runner answered, or no reward could be computed.")
            raise GRPOError(f"{self._barren} iterations in a row gave no reward. The first reason:\n{first}")
        return False

    def _compared(self, rollouts: Sequence[Rollout]) -> NDArray[np.float32]:
        advantage = self.config.objective.advantage
        return compared(rollouts, "dr_grpo" if advantage == "gae" else advantage)

    def _learn(self, lesson: Lesson) -> dict[str, float]:
        """Take the optimiser steps of an iteration; mean (of a maximum: maximum) of the learner's numbers."""
        # Seeded by position, so that a resumed run cuts the same minibatches.
        rng = np.random.default_rng([self.config.seed or 0, self._groups_drawn, 2])
        steps: list[dict[str, Any]] = []
        for _ in range(self.config.num_updates):
            for rows in minibatches(lesson.rollouts, self.config.minibatch_size, rng):
                steps.extend(self._update(lesson.part(rows)))
        self.metrics.aggregate(steps, key=LEARNER_RESULTS)
        found = [MetricsLogger.peek_results(step).get(DEFAULT_MODULE_ID, {}) for step in steps]
        names = [name for name in LEARNER_METRICS if any(name in numbers for numbers in found)]
        over = {name: np.max if name.endswith("_max") else np.mean for name in names}
        critic = {"explained_variance": lesson.explained_variance()} if self.config.objective.critic else {}
        known = {name: [numbers[name] for numbers in found if name in numbers] for name in names}
        return {name: float(over[name](values)) for name, values in known.items()} | critic

    def _update(self, lesson: Lesson) -> list[dict[str, Any]]:
        """One optimiser step, the answers shared out over the learners."""
        rollouts = lesson.rollouts
        valid = np.array([rollout.valid for rollout in rollouts], dtype=np.bool_)
        learners = max(1, self.config.num_learners)
        if not valid.any() or len(rollouts) < learners:
            return []
        # Each learner sums over its answers and the gradients are averaged over learners.
        weights = answer_weights(
            np.array([len(rollout.token_ids) for rollout in rollouts]),
            valid,
            normalise=self.config.objective.normalise,
            max_length=self.config.max_new_tokens,
            scale=learners,
            episodes=episode_numbers(rollouts),
        )
        value_weights = valid.astype(np.float32) * np.float32(learners / valid.sum())
        parts = np.array_split(np.arange(len(rollouts)), learners)
        batches = [train_batch(lesson.part(part), weights[part], value_weights[part]) for part in parts]
        data = {"batches": batches} if self.config.num_learners else {"batch": batches[0]}
        sampled = self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0)
        results: list[dict[str, Any]] = self.learner_group.update(
            **data, timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: sampled}
        )
        return results

    def _push_weights(self, only: Sequence[int] | None = None) -> None:
        """Hand the learner's weights to the runners (those in `only`) and wait for them."""
        if only is None or only:
            self._pool.push(self._weights(), self._weights_version, only)

    def _weights(self) -> dict[str, Any]:
        """The learner's weights as state of an env runner."""
        state = self.learner_group.get_state(
            components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", inference_only=True
        )[COMPONENT_LEARNER]
        return {COMPONENT_RL_MODULE: state[COMPONENT_RL_MODULE]}

    def _log(self, numbers: dict[str, float]) -> None:
        self._log_numbers(numbers)
        answers = int(numbers["answers"])
        self.metrics.log_value((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), answers, reduce="lifetime_sum")
        if "reward_mean" in numbers:
            # The name that Tune's schedulers and RLlib's stoppers look for.
            self.metrics.log_value((ENV_RUNNER_RESULTS, EPISODE_RETURN_MEAN), numbers["reward_mean"], window=1)

    def _log_numbers(self, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            self.metrics.log_value((RESULTS, name), value, window=1)

    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """Welcome restarted runners back; `training_step` gives them the weights of now before it samples.

        Waits only if every runner is down.
        """
        restored: list[int] = list(env_runner_group.probe_unhealthy_env_runners() or [])
        deadline = time.monotonic() + _REVIVAL_SECONDS
        while env_runner_group.num_healthy_env_runners() == 0 and time.monotonic() < deadline:
            time.sleep(1.0)
            restored += env_runner_group.probe_unhealthy_env_runners() or []
        return restored

    def cleanup(self) -> None:
        """Stop runners and learner, and take away the folder that RLlib made for nothing."""
        super().cleanup()
        if self._ahead is not None:
            self._ahead.close()
        folder = Path(self.logdir)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """RLlib's state, the place in the order of tasks, and what was sampled ahead of it."""
        state: dict[str, Any] = super().get_state(components, not_components=not_components, **kwargs)
        if self._ahead is not None:
            state[_AHEAD] = (self._ahead.finished(), self._ahead.owed)
        return {**state, _DRAWN: self._groups_drawn, _UPDATES: self._updates}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a state; the runners hold its weights when this returns."""
        super().set_state(state)
        self._groups_drawn = int(state.get(_DRAWN, self._groups_drawn))
        self._updates = int(state.get(_UPDATES, self._updates))
        if self._ahead is not None:
            self._ahead.restart(*state.get(_AHEAD, ()))
        self._weights_version += 1
        self._push_weights()

    def restore_from_path(self, path: str | Path, *args: Any, **kwargs: Any) -> None:
        """Restore a checkpoint; the runners hold its weights when this returns."""
        super().restore_from_path(path, *args, **kwargs)  # type: ignore[no-untyped-call]  # RLlib's is untyped
        self._weights_version += 1
        self._push_weights()

    def export_policy(self, folder: str | Path, *, merge: bool = False) -> Path:
        """Write the policy as an ordinary model folder, or an adapter's, with processor and prompt template.

        Args:
            folder: Where to write; opens as `training(model=folder)`. See `retouch_agents.models.save_policy`.
            merge: Write an ordinary folder, that opens with `from_pretrained`, where an adapter is trained too.

        Returns:
            The folder.
        """
        weights = self.learner_group.get_state(
            components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", inference_only=True
        )[COMPONENT_LEARNER][COMPONENT_RL_MODULE][DEFAULT_MODULE_ID]
        source = str(self.config.model_path)
        model = load_policy(source, self.config.tuning, dtype=getattr(torch, self.config.dtype))
        load_trainable_state(
            model, {name.removeprefix("policy."): torch.from_numpy(array) for name, array in weights.items()}
        )
        return save_policy(model, source, folder, merge=merge)


class GRPOConfig(GRPOSettings):
    """Config of `GRPO`.

    >>> config = (
    ...     GRPOConfig()
    ...     .environment("Retouch/Retouch-v0", env_config={"max_turns": 1, "reward": "edit"})
    ...     .training(model="checkpoints/sft", group_size=8, lr=2e-4)
    ...     .env_runners(num_env_runners=2)
    ... )
    >>> algo = config.build_algo()  # doctest: +SKIP
    >>> algo.train()["grpo"]["reward_mean"]  # doctest: +SKIP
    """

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or GRPO)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
