"""The driver's side of many runners: calls, answers and weights through Ray, with stand-ins for the runners.

A stand-in returns answers that were really sampled, under the numbers it is asked for, and copies the weights it is
given: the traffic of a runner without its work. A few processes stand for any number of runners; each takes the calls
of those that it stands for one after the other, which is all the same to the driver's own side.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.utils.actor_manager import FaultTolerantActorManager

from retouch_agents.rllib.env_runner import WEIGHTS_VERSION
from retouch_agents.rllib.rollouts import GroupRequest, SampleResult
from retouch_agents.rllib.sampling import RunnerPool

COLLECTED = ((1, 16), (2, 8), (8, 2), (16, 1), (1, 2), (2, 2), (64, 2), (512, 2))
"""Runners, and tasks that each of them answers, of the rounds that are measured."""

CROWDS = (1, 2, 8, 64, 512)
"""Runners that weights are handed to."""

ADAPTER = 81_000_000
"""Bytes of a larger load: about an adapter of rank 8 to all linear layers of a model like Qwen2.5-VL-7B, in float32."""


class StandIn:
    """As far as the driver sees it, an env runner.

    Args:
        sampled: What it answers with: groups one after the other.
    """

    worker_index = 1

    def __init__(self, sampled: SampleResult) -> None:
        self.weights_version = 0
        self._groups: dict[int, list[Any]] = {}
        for rollout in sampled.rollouts:
            self._groups.setdefault(rollout.group, []).append(rollout)
        self._seconds = sampled.seconds
        self._weights: dict[str, NDArray[Any]] = {}

    def ping(self) -> bool:
        """Whether it is there."""
        return True

    def apply(self, func: Callable[..., Any], **kwargs: Any) -> Any:
        """Through which RLlib calls everything else."""
        return func(self, **kwargs)

    def sample(self, requests: Sequence[GroupRequest], version: int) -> SampleResult:
        """A group for every request."""
        known = list(self._groups.values())
        rollouts = [
            replace(rollout, group=request.group)
            for number, request in enumerate(requests)
            for rollout in known[number % len(known)]
        ]
        return SampleResult(rollouts, {}, sum(len(one.token_ids) for one in rollouts), self._seconds)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Copy the weights into memory of its own, as a model does."""
        for name, array in _arrays(state[COMPONENT_RL_MODULE]).items():
            if name not in self._weights:
                self._weights[name] = np.empty_like(array)
            np.copyto(self._weights[name], array)
        self.weights_version = state[WEIGHTS_VERSION]

    def keep(self, value: Any) -> list[Any]:
        """Put something into the object store; a list, so that what is returned is the reference."""
        return [ray.put(value)]


def _arrays(state: Any, prefix: str = "") -> dict[str, NDArray[Any]]:
    if isinstance(state, np.ndarray):
        return {prefix: state}
    return {name: array for key, value in state.items() for name, array in _arrays(value, f"{prefix}/{key}").items()}


class Crowd:
    """As many runners as wanted, as RLlib's `EnvRunnerGroup` shows them to `RunnerPool`.

    Args:
        processes: Handles of stand-ins; runner i is played by process i modulo their number.
        count: How many runners.
    """

    def __init__(self, processes: Sequence[Any], count: int) -> None:
        handles = [processes[number % len(processes)] for number in range(count)]
        self._manager = FaultTolerantActorManager(handles, init_id=1)

    def num_remote_env_runners(self) -> int:
        """How many."""
        return int(self._manager.num_actors())

    def healthy_env_runner_ids(self) -> list[int]:
        """All of them."""
        return list(self._manager.healthy_actor_ids())

    def foreach_env_runner(
        self, func: Any, *, local_env_runner: bool = False, remote_worker_ids: Any = None, **options: Any
    ) -> list[Any]:
        """What `EnvRunnerGroup.foreach_env_runner` does with remote runners."""
        results = self._manager.foreach_actor(func, remote_actor_ids=remote_worker_ids, **options)
        return [result.get() for result in results.ignore_errors()]


def measure_store(
    sampled: SampleResult, state: Mapping[str, Any], processes: int, repeats: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Seconds of everything that goes through Ray.

    Args:
        sampled: Answers of at least 16 groups.
        state: The learner's weights.
        processes: How many stand for all.
        repeats: Of every measurement.
        say: Is told how far it is.
    """
    remote: Any = ray.remote(num_cpus=0)(StandIn)
    crew = [remote.remote(sampled) for _ in range(processes)]
    try:
        ray.get([process.ping.remote() for process in crew])
        found: dict[str, Any] = {
            "processes": processes,
            "call": _twice(lambda: ray.get(crew[0].ping.remote()), 20 * repeats),
        }
        found["collect"] = {f"{count} {groups}": _collect(crew, count, groups, repeats) for count, groups in COLLECTED}
        say("answers of 512 runners collected")
        found["push"], found["ask"] = {}, {}
        for count in CROWDS:
            pool = RunnerPool(_crowd(crew, count), timeout_s=120.0)
            found["push"][str(count)] = _twice(partial(pool.push, state, 1), repeats)
            found["ask"][str(count)] = _twice(partial(pool.stale, 1), repeats)
        say("weights handed to 512 runners")
        large = {COMPONENT_RL_MODULE: {"adapter": np.ones(ADAPTER // 4, dtype=np.float32)}}
        pool = RunnerPool(_crowd(crew, processes), timeout_s=120.0)
        found["push_adapter"] = _twice(lambda: pool.push(large, 2), repeats)
        found["put_adapter"] = _twice(lambda: ray.put(large), repeats)
        found["objects"] = {str(count): _objects(crew[0], sampled, count, 3 * repeats) for count in (16, 128)}
        return found
    finally:
        for process in crew:
            ray.kill(process)


def _crowd(processes: Sequence[Any], count: int) -> Any:
    return Crowd(processes, count)


def _twice(work: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Median seconds by the wall's clock and of this process's processor time, after once for warming up."""
    work()
    wall, processor = [], []
    for _ in range(repeats):
        began = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - began[0])
        processor.append(time.process_time() - began[1])
    return {"wall": statistics.median(wall), "driver": statistics.median(processor)}


def _collect(processes: Sequence[Any], count: int, groups: int, repeats: int) -> dict[str, float]:
    """A whole round of sampling, but for the runners' work."""
    pool = RunnerPool(_crowd(processes, count), timeout_s=120.0)
    requests = [GroupRequest(number, number, number) for number in range(count * groups)]
    return _twice(lambda: pool.sample(requests, 0), repeats)


def _objects(process: Any, sampled: SampleResult, count: int, repeats: int) -> dict[str, float]:
    """Median seconds to put answers into the object store here, and to get those that another process put there."""
    part = replace(sampled, rollouts=list(sampled.rollouts[:count]))
    put, got = [], []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        mine = ray.put(part)
        put.append(time.perf_counter() - began)
        theirs = ray.get(process.keep.remote(mine))[0]
        ray.wait([theirs])
        began = time.perf_counter()
        ray.get(theirs)
        got.append(time.perf_counter() - began)
    return {"put": statistics.median(put[1:]), "get": statistics.median(got[1:])}
