"""Every stage of an iteration in a loop of its own, in one process: what runners do, what learner and driver do."""

from __future__ import annotations

import pickle
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _scaling_runs import GROUP, MAX_TOKENS, algorithm
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from retouch_agents.finetuning import FineTuning, trainable_state
from retouch_agents.generation import Completion
from retouch_agents.models import load_policy
from retouch_agents.rllib.conversing import Drawing, converse
from retouch_agents.rllib.learner import train_batch
from retouch_agents.rllib.lessons import lesson_of
from retouch_agents.rllib.losses import answer_weights
from retouch_agents.rllib.objective import Objective
from retouch_agents.rllib.rollouts import (
    GroupRequest,
    Rollout,
    SampleResult,
    TaskOrder,
    episode_numbers,
    minibatches,
    summarise,
)
from retouch_gym.tasks import Episode

PROMPTS = (1, 2, 4, 8, 16)
"""Tasks that a runner answers at a time."""

LEARNED = (16, 32, 64, 128)
"""Answers of an optimiser step."""

MINIBATCH = 128
"""Answers of an optimiser step where an iteration has more."""

HANDLED = (16, 32, 128, 1024, 8192)
"""Answers that the driver makes an iteration's lesson of: 16 from each of 1, 2, 8, 64 and 512 runners."""


class Laboratory:
    """An algorithm that samples in this process, taken apart.

    Args:
        policy: The model's folder.
    """

    def __init__(self, policy: Path) -> None:
        self.policy = policy
        self.algorithm = algorithm(policy, runners=0)
        self.runner: Any = self.algorithm.env_runner_group.local_env_runner
        self.order = TaskOrder(self.runner.num_tasks(), seed=1)
        self._drawn = 0
        self._wall = self._processor = 0.0

    def requests(self, count: int) -> list[GroupRequest]:
        """Tasks that were not played yet."""
        found = self.order.requests(self._drawn, count)
        self._drawn += count
        return found

    def timed(self, work: Callable[[], Any]) -> tuple[float, Any]:
        """Seconds, and what it returned."""
        processor, wall = time.process_time(), time.perf_counter()
        result = work()
        seconds = time.perf_counter() - wall
        self._wall += seconds
        self._processor += time.process_time() - processor
        return seconds, result

    def usual(self, work: Callable[[], Any], repeats: int) -> float:
        """Median seconds, after once for warming up."""
        work()
        return statistics.median(self.timed(work)[0] for _ in range(repeats))

    @property
    def granted(self) -> float:
        """Seconds of a core for every second of all that was timed: 1 on a machine with nothing else to do."""
        return self._processor / max(self._wall, 1e-9)

    def rollouts(self, groups: int) -> SampleResult:
        """What a runner returns for some tasks."""
        chat, generator, player = self.runner.chat, self.runner.generator, self.runner.players[0]
        drawing = Drawing(GROUP, 1.0, MAX_TOKENS, 1)
        return converse(chat, generator, player, self.requests(groups), drawing)

    def close(self) -> None:
        """Stop the algorithm."""
        self.algorithm.stop()


def measure_stages(policy: Path, repeats: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of every stage that takes no second process."""
    laboratory = Laboratory(policy)
    try:
        found: dict[str, Any] = {"sampling": {}}
        for prompts in PROMPTS:
            found["sampling"][str(prompts)] = _sampling(laboratory, prompts, max(repeats, 16 // prompts))
            seconds = found["sampling"][str(prompts)]["generation"]
            say(f"{prompts * GROUP} rows: {1e3 * seconds / prompts / GROUP:.2f} ms an answer to generate")
        found["longest"] = [length for one in found["sampling"].values() for length in one.pop("longest")]
        sampled = laboratory.rollouts(MINIBATCH // GROUP)
        found["tokens"] = float(np.mean([len(rollout.token_ids) for rollout in sampled.rollouts]))
        found["prompt_tokens"] = float(np.mean([len(rollout.prompt.input_ids) for rollout in sampled.rollouts]))
        found["learning"] = {str(size): _learning(laboratory, sampled.rollouts[:size], repeats) for size in LEARNED}
        found["handling"] = {str(size): _handling(laboratory, sampled, size, repeats) for size in HANDLED}
        found["pickled"] = _pickled(laboratory, sampled, repeats)
        found["weights"] = _weights(laboratory, repeats)
        found["granted"] = laboratory.granted
        return found
    finally:
        laboratory.close()


def _sampling(laboratory: Laboratory, prompts: int, repeats: int) -> dict[str, Any]:
    """Median seconds of a runner's stages, for some tasks at a time."""
    rows = [_sampled_once(laboratory, prompts) for _ in range(repeats + 1)][1:]
    lengths = [length for row in rows for length in row.pop("longest")]
    return {**{name: statistics.median(row[name] for row in rows) for name in rows[0]}, "longest": lengths}


def _sampled_once(laboratory: Laboratory, prompts: int) -> dict[str, Any]:
    runner: Any = laboratory.runner
    requests = laboratory.requests(prompts)
    seconds: dict[str, Any] = {}
    seconds["tasks"], episodes = laboratory.timed(lambda: runner.player.begin(requests, GROUP))
    shown = [(request.group, 0) for request in requests]
    seconds["encoding"], encoded = laboratory.timed(
        lambda: [runner.chat.encode(episodes.observe(key)) for key in shown]
    )
    seeds = [request.seed for request in requests]
    limits: dict[str, Any] = {"group_size": GROUP, "temperature": 1.0, "max_new_tokens": MAX_TOKENS, "seeds": seeds}
    seconds["generation"], answers = laboratory.timed(lambda: runner.generator.generate(encoded, **limits))
    seconds["parsing"], actions = laboratory.timed(
        lambda: [runner.chat.parse(runner.chat.decode(answer.token_ids)) for answer in answers]
    )
    keys = episodes.running()
    envs = [episodes.envs[key] for key in keys]
    step, _ = laboratory.timed(lambda: episodes.step(dict(zip(keys, actions, strict=True))))
    ended = [env.episode for env in envs]
    photos, recipes = [one.source for one in ended], [one.recipe for one in ended]
    seconds["rendering"], _ = laboratory.timed(lambda: runner.player.env.renderer.render(photos, recipes))
    fresh = _forgetful(ended)
    seconds["reward"], _ = laboratory.timed(lambda: runner.player.env.reward.score(fresh))
    # What a step does besides: the rules, and what it says to the agent.
    seconds["rules"] = max(0.0, step - seconds["rendering"] - seconds["reward"])
    return {**seconds, "longest": _longest(answers)}


def _forgetful(episodes: Sequence[Episode]) -> list[Episode]:
    """The episodes as they were before they were scored; those of a task share what they remember."""
    memos: dict[str, Any] = {}
    return [replace(one, memo=memos.setdefault(one.task.id, {})) for one in episodes]


def _longest(answers: Sequence[Completion]) -> list[int]:
    """Tokens of the longest answer of every group."""
    lengths = [len(answer.token_ids) for answer in answers]
    return [max(lengths[start : start + GROUP]) for start in range(0, len(lengths), GROUP)]


def _renumbered(rollouts: Sequence[Rollout], start: int) -> list[Rollout]:
    """The same answers to other tasks, from a number on."""
    first = rollouts[0].group
    return [replace(rollout, group=rollout.group - first + start) for rollout in rollouts]


def _learning(laboratory: Laboratory, rollouts: Sequence[Rollout], repeats: int) -> float:
    """Median seconds of an optimiser step with a KL penalty: forward, backward, Adam, and the reference's forward."""
    objective: Objective = laboratory.algorithm.config.objective
    place = iter(range(10**9, 2 * 10**9, len(rollouts)))

    def step() -> None:
        # Under other numbers, or the learner would remember the reference's scores.
        lesson = lesson_of(_renumbered(rollouts, next(place)), objective)
        batch = train_batch(lesson, *_shares(lesson.rollouts, objective))
        laboratory.algorithm.learner_group.update(batch=batch, timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: 0})

    return laboratory.usual(step, repeats)


def _shares(rollouts: Sequence[Rollout], objective: Objective) -> tuple[Any, Any]:
    """Weights of answers in the losses of policy and values."""
    lengths = np.array([len(rollout.token_ids) for rollout in rollouts])
    valid = np.array([rollout.valid for rollout in rollouts], dtype=np.bool_)
    weights = answer_weights(
        lengths,
        valid,
        normalise=objective.normalise,
        max_length=MAX_TOKENS,
        episodes=episode_numbers(rollouts),
    )
    return weights, valid.astype(np.float32) / np.float32(valid.sum())


def _handling(laboratory: Laboratory, sampled: SampleResult, answers: int, repeats: int) -> float:
    """Median seconds of what the driver does with the answers of an iteration: 16 come from each runner.

    They are put together and sorted, become a lesson, minibatches and batches for the learner, and numbers for the log.
    """
    objective: Objective = laboratory.algorithm.config.objective
    share = sampled.rollouts[: 2 * GROUP]
    parts = [
        replace(sampled, rollouts=_renumbered(share, 1000 + 1000 * number)) for number in range(answers // len(share))
    ]

    def handle() -> None:
        merged = SampleResult.merged(parts)
        rollouts = sorted(merged.rollouts, key=lambda one: (one.group, one.member, one.turn))
        lesson = lesson_of(rollouts, objective)
        for rows in minibatches(lesson.rollouts, MINIBATCH, np.random.default_rng(0)):
            part = lesson.part(rows)
            train_batch(part, *_shares(part.rollouts, objective))
        summarise(rollouts, lesson.advantages)

    return laboratory.usual(handle, repeats)


def _pickled(laboratory: Laboratory, sampled: SampleResult, repeats: int) -> dict[str, Any]:
    """Bytes of what 16 and 128 answers are on their way, and seconds to write and to read them, without Ray."""
    found: dict[str, Any] = {}
    for count in (2 * GROUP, MINIBATCH):
        part = replace(sampled, rollouts=list(sampled.rollouts[:count]))
        data = pickle.dumps(part, protocol=5)
        found[str(count)] = {
            "bytes": len(data),
            "write": laboratory.usual(partial(pickle.dumps, part, protocol=5), 3 * repeats),
            "read": laboratory.usual(partial(pickle.loads, data), 3 * repeats),
        }
    return found


def _weights(laboratory: Laboratory, repeats: int) -> dict[str, float]:
    """Bytes of the weights, of an adapter's, and seconds to take them from the learner and to take them over."""
    component = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"

    def taken() -> Any:
        state = laboratory.algorithm.learner_group.get_state(components=component, inference_only=True)
        return state[COMPONENT_LEARNER][COMPONENT_RL_MODULE]

    state = {COMPONENT_RL_MODULE: taken()}
    adapter = trainable_state(load_policy(laboratory.policy, FineTuning(lora_rank=8)))
    weights = trainable_state(load_policy(laboratory.policy))
    return {
        "bytes": float(sum(tensor.nbytes for tensor in weights.values())),
        "adapter_bytes": float(sum(tensor.nbytes for tensor in adapter.values())),
        "parameters": float(sum(tensor.numel() for tensor in weights.values())),
        "take": laboratory.usual(taken, 3 * repeats),
        "take_over": laboratory.usual(lambda: laboratory.runner.set_state(state), 3 * repeats),
    }
