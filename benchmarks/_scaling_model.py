"""From stages measured one by one to an iteration with any number of runners: pure functions of what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from _scaling_runs import GROUP
from _scaling_stages import LEARNED, MINIBATCH

SAMPLING = ("tasks and encoding", "generation", "rendering", "reward", "parsing and rules")
"""Stages of the runners, who work side by side; the rest is the driver's and the learner's."""

STAGES = (*SAMPLING, "object store", "driver", "learning", "weight sync", "rest")

SHARE = 2
"""Tasks of each runner where the batch grows with them: 16 answers."""


@dataclass(frozen=True)
class Iteration:
    """A predicted iteration.

    Args:
        runners: How many there are.
        busy: How many of them have something to do.
        answers: Answers of the iteration.
        seconds: Of every stage.
    """

    runners: int
    busy: int
    answers: int
    seconds: Mapping[str, float]

    @property
    def sampling(self) -> float:
        """Seconds until the last runner is done and its answers are with the driver."""
        return sum(self.seconds[name] for name in (*SAMPLING, "object store"))

    @property
    def total(self) -> float:
        """Seconds where sampling and learning take turns."""
        return sum(self.seconds.values())

    @property
    def ahead(self) -> float:
        """Seconds of what goes on beside the learning, where batches are drawn ahead: weights, and sampling."""
        return self.sampling + self.seconds["weight sync"]

    @property
    def overlapped(self) -> float:
        """Seconds where the one is entirely behind the other, which is the most that overlapping can do."""
        return max(self.ahead, self.total - self.ahead)

    def overlapped_on(self, cores: int) -> float:
        """The same where there are fewer cores than processes: no sooner than the cores have done all of the work."""
        own = sum(self.seconds[name] for name in SAMPLING)
        return max(self.overlapped, (self.total + (self.busy - 1) * own) / cores)

    @property
    def rate(self) -> float:
        """Answers per second, taking turns."""
        return self.answers / self.total

    @property
    def bound(self) -> str:
        """The stage that takes longest."""
        return max(self.seconds, key=lambda name: self.seconds[name])


def fixed(found: Mapping[str, Any], runners: int, groups: int) -> Iteration:
    """An iteration of `groups` tasks, however many runners there are. A group is never cut."""
    busy = min(runners, groups)
    return _iteration(found, runners, busy, -(-groups // busy), groups * GROUP)


def growing(found: Mapping[str, Any], runners: int) -> Iteration:
    """An iteration with 16 answers from every runner."""
    return _iteration(found, runners, runners, SHARE, runners * SHARE * GROUP)


def learner_bound(found: Mapping[str, Any]) -> int:
    """With how many runners, at 16 answers each, the learner takes as long as they; 10,000 if never."""
    for runners in range(1, 10_000):
        one = growing(found, runners)
        if one.seconds["learning"] >= one.sampling:
            return runners
    return 10_000


def _iteration(found: Mapping[str, Any], runners: int, busy: int, prompts: int, answers: int) -> Iteration:
    stages, store = found["stages"], found["store"]
    rows = stages["sampling"]

    def sampled(name: str) -> float:
        return _between({int(count): row[name] for count, row in rows.items()}, prompts)

    slowest = straggling(tuple(stages["longest"]), prompts, busy)
    seconds = {
        "tasks and encoding": sampled("tasks") + sampled("encoding"),
        "generation": sampled("generation") * slowest,
        "rendering": sampled("rendering"),
        "reward": sampled("reward"),
        "parsing and rules": sampled("parsing") + sampled("rules"),
        "object store": collecting(store, busy, prompts) + pickling(stages, prompts * GROUP, "write"),
        "driver": _between({int(n): s for n, s in stages["handling"].items()}, answers),
        "learning": learning(stages, answers),
        "weight sync": stages["weights"]["take"] + stages["weights"]["take_over"] + pushing(store, runners),
        "rest": found["rest"],
    }
    return Iteration(runners, busy, answers, seconds)


def learning(stages: Mapping[str, Any], answers: int) -> float:
    """Seconds of the optimiser steps on the answers of an iteration, in minibatches."""
    known = {int(size): seconds for size, seconds in stages["learning"].items()}
    whole, rest = divmod(answers, MINIBATCH)
    last = _between(known, max(rest, min(LEARNED))) if rest else 0.0
    return float(whole * known[MINIBATCH] + last)


def collecting(store: Mapping[str, Any], busy: int, prompts: int) -> float:
    """The driver's seconds for a round's answers: a call's way there and back, and its own work for all of them."""
    measured = store["collect"].get(f"{busy} {prompts}")
    if measured is None:
        known = {int(name.split()[0]): one["driver"] for name, one in store["collect"].items() if name.endswith(" 2")}
        return float(store["call"]["wall"]) + _between(known, busy)
    return float(store["call"]["wall"] + measured["driver"])


def pushing(store: Mapping[str, Any], runners: int) -> float:
    """The driver's seconds for handing weights out, and for asking who has which."""
    parts = [
        _between({int(n): one["driver"] for n, one in store[name].items()}, runners) + store["call"]["wall"]
        for name in ("push", "ask")
    ]
    return float(sum(parts))


def pickling(stages: Mapping[str, Any], answers: int, way: str) -> float:
    """A runner's seconds to write its answers, or the driver's to read them."""
    return _between({int(count): one[way] for count, one in stages["pickled"].items()}, answers)


@lru_cache(maxsize=256)
def straggling(longest: tuple[int, ...], prompts: int, runners: int) -> float:
    """How much longer the slowest of some runners generates than one does on the average.

    A batch takes as many steps as its longest answer has tokens, and an iteration waits for the slowest batch.

    Args:
        longest: Tokens of the longest answer of groups that were really sampled.
        prompts: Groups of a batch.
        runners: Batches.
    """
    rng = np.random.default_rng(0)
    batches = rng.choice(longest, size=(20_000, prompts)).max(axis=1)
    rounds = rng.choice(batches, size=(400, runners)).max(axis=1)
    return float(rounds.mean() / batches.mean())


def _between(known: Mapping[int, float], where: float) -> float:
    """Interpolated linearly; beyond the largest in proportion, below the smallest as the smallest."""
    places = sorted(known)
    if where > places[-1]:
        return known[places[-1]] * where / places[-1]
    return float(np.interp(where, places, [known[place] for place in places]))
