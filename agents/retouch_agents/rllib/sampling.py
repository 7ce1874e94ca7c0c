"""Handing groups to runners and weights to runners: whoever is alive answers, with the weights of now."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import ray
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from retouch_agents.rllib.env_runner import WEIGHTS_VERSION
from retouch_agents.rllib.rollouts import GroupRequest, SampleResult

logger = logging.getLogger(__name__)


class RunnerPool:
    """The env runners of an algorithm, local or remote, seen as one sampler.

    Args:
        runners: RLlib's group.
        timeout_s: Seconds to wait for the answers of one round.
        rounds: How often groups that a runner lost are handed to those that are left.
    """

    def __init__(self, runners: EnvRunnerGroup, *, timeout_s: float | None, rounds: int = 3) -> None:
        self.runners: Any = runners
        self.timeout_s = timeout_s
        self.rounds = rounds

    @property
    def remote(self) -> bool:
        """Whether the runners are Ray actors."""
        return bool(self.runners.num_remote_env_runners())

    def ask(self, question: Any) -> list[Any]:
        """What `question` returns for every healthy runner (the local one if none is remote)."""
        found: list[Any] = self.runners.foreach_env_runner(
            question, local_env_runner=not self.remote, timeout_seconds=self.timeout_s
        )
        return found

    def push(self, state: Mapping[str, Any], version: int, only: Sequence[int] | None = None) -> None:
        """Give runners weights and wait until they hold them.

        RLlib's own `sync_weights` neither waits nor sends while another update is on its way, so that a
        runner could sample with old weights.

        Args:
            state: State of an env runner with the weights.
            version: Number of these weights.
            only: Indices of remote runners; None for all.
        """
        if not self.remote:
            self.runners.local_env_runner.set_state({**state, WEIGHTS_VERSION: version})
        elif only is None or only:
            self.hand_out(self.pack(state, version), only)

    def pack(self, state: Mapping[str, Any], version: int) -> Any:
        """A copy of the weights as they are now, for `hand_out`; arguments as those of `push`."""
        return ray.put({**state, WEIGHTS_VERSION: version})

    def hand_out(self, packed: Any, only: Sequence[int] | None = None) -> None:
        """Give packed weights to remote runners and wait until they hold them."""
        self.runners.foreach_env_runner(
            "set_state",
            kwargs={"state": packed},
            local_env_runner=False,
            remote_worker_ids=None if only is None else list(only),
            timeout_seconds=self.timeout_s,
        )

    def stale(self, version: int) -> list[int]:
        """Indices of healthy runners that hold other weights, for instance because they were restarted."""
        held = self.ask(lambda runner: (runner.worker_index, runner.weights_version))
        return [index for index, found in held if found != version]

    def sample(self, requests: Sequence[GroupRequest], version: int) -> SampleResult:
        """Have every group answered, however many runners die on the way, as long as one is left.

        Args:
            requests: The groups.
            version: Number of the weights to sample with; runners that hold others answer nothing.

        Returns:
            Rollouts ordered by group, member and turn; groups that nobody answered are missing.
        """
        pending = list(requests)
        found = SampleResult()
        silent: set[int] = set()
        for _ in range(self.rounds):
            found = SampleResult.merged([found, *self._round(pending, version, silent)])
            answered = {rollout.group for rollout in found.rollouts} | set(found.failures)
            pending = [request for request in pending if request.group not in answered]
            if not pending:
                break
            logger.warning("%d groups were lost with their runner and are handed out again.", len(pending))
        ordered = sorted(found.rollouts, key=lambda rollout: (rollout.group, rollout.member, rollout.turn))
        return replace(found, rollouts=ordered)

    def _round(self, requests: Sequence[GroupRequest], version: int, silent: set[int]) -> list[SampleResult]:
        """Share `requests` out once. Runners that stay silent are added to `silent` and not asked again."""
        if not self.remote:
            return [self.runners.local_env_runner.sample(requests=requests, version=version)]
        asked = [index for index in self.runners.healthy_env_runner_ids() if index not in silent][: len(requests)]
        if not asked:
            return []
        shares = [[requests[i] for i in part] for part in np.array_split(np.arange(len(requests)), len(asked))]
        answers: list[SampleResult] = self.runners.foreach_env_runner(
            "sample",
            kwargs=[{"requests": share, "version": version} for share in shares],
            local_env_runner=False,
            remote_worker_ids=asked,
            timeout_seconds=self.timeout_s,
        )
        heard = {r.group for answer in answers for r in answer.rollouts}.union(*(a.failures for a in answers))
        silent.update(index for index, share in zip(asked, shares, strict=True) if share[0].group not in heard)
        return answers
