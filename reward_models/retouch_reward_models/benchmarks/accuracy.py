"""Scoring any reward on pairs that people have compared."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from rich.progress import track

from retouch_gym.errors import ConfigurationError, ImageError, RendererError
from retouch_gym.images import Pixels, resize
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import Renderer
from retouch_gym.rewards.base import Reward, RewardOutput, get_reward, score_batch
from retouch_gym.rewards.pairwise import PairwiseReward, Preference, compare_batch
from retouch_gym.tasks import Episode, Task
from retouch_gym.types import Image
from retouch_reward_models.benchmarks.base import PreferenceBenchmark, PreferencePair
from retouch_reward_models.benchmarks.result import AccuracyResult, PairRow

Ties = Literal["wrong", "half"]
"""What it is worth to find two edits equal of which people preferred one."""


_LOADERS = min(8, os.cpu_count() or 1)


class NoRenderer(Renderer):
    """Refuses to render: the edits of a benchmark are photos, and nobody knows their recipes."""

    name = "none"
    toolsets = frozenset({"iea"})

    def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        """Refuse.

        Raises:
            RendererError: Always.
        """
        raise RendererError("A benchmark's edits are photos without recipes; they cannot be rendered again.")


def pairwise_accuracy(
    reward: str | Reward | PairwiseReward,
    benchmark: PreferenceBenchmark,
    *,
    components: Mapping[str, str] | None = None,
    margin: float = 0.0,
    ties: Ties = "wrong",
    batch_size: int = 32,
    progress: bool = True,
) -> AccuracyResult:
    """How often a reward prefers the edit that people preferred.

    Every edit becomes an episode that ends with it: its size made the original's, no recipe, a renderer that refuses.
    An edit that occurs in several pairs is scored once, and edits of one photo by one instruction are episodes of one
    task, so that they may share a judge's criteria; where the reward ranks groups, each pair is a group. A pairwise
    judge that is not `symmetric` is asked in both orders, for in a benchmark the preferred edit may always come first.
    A pair is a tie if the two
    scores differ by no more than `margin`; where people preferred one it then counts as `ties` says, where people found
    them equal it is right, and anything else wrong. A pair is invalid if either edit has no score or a photo is
    missing: it is counted, and in no accuracy.

    Args:
        reward: A reward, its short name, or a pairwise judge, whose score difference is 2p − 1.
        benchmark: The pairs.
        components: Which component is compared, by dimension, in place of the value; see
            `retouch_reward_models.benchmarks.EDITSCORE_COMPONENTS`. Not for pairwise judges.
        margin: How far two scores may be apart and still be equal.
        ties: ``"wrong"`` or ``"half"``.
        batch_size: Pairs per call of the reward.
        progress: Whether to show a progress bar.

    Raises:
        ConfigurationError: If the reward needs references, which a benchmark has not, or an option makes no sense.
        RewardError: If the reward cannot be used at all.
    """
    judge = reward if isinstance(reward, PairwiseReward) else get_reward(reward)
    if judge.needs_reference:
        raise ConfigurationError(f"Reward {judge.name!r} needs references; pairs that people compared have none.")
    if margin < 0 or ties not in ("wrong", "half") or batch_size < 1:
        raise ConfigurationError(
            f"margin is {margin}, ties {ties!r}, batch_size {batch_size}; expected >= 0, 'wrong' or 'half', >= 1."
        )
    if components and isinstance(judge, PairwiseReward):
        raise ConfigurationError(f"{judge.name!r} compares edits as a whole; it has no components to compare.")
    scorer = _Comparing(judge) if isinstance(judge, PairwiseReward) else _Scoring(judge, components or {})
    starts = range(0, len(benchmark), batch_size)
    rows: list[PairRow] = []
    for start in track(starts, f"{judge.name} on {benchmark.name}", disable=not progress):
        for verdict in scorer.verdicts(benchmark.pairs[start : start + batch_size]):
            rows.append(_row(verdict, margin, ties))
    return AccuracyResult(benchmark.name, judge.name, tuple(rows), benchmark.group_sizes)


@dataclass(frozen=True)
class _Verdict:
    pair: PreferencePair
    difference: float | None = None
    error: str | None = None


def _row(verdict: _Verdict, margin: float, ties: Ties) -> PairRow:
    pair, difference = verdict.pair, verdict.difference
    tie = difference is not None and abs(difference) <= margin
    right: float | None = None
    if difference is not None:
        agrees = tie if pair.preference == 0 else not tie and (difference > 0) == (pair.preference > 0)
        half = tie and pair.preference != 0 and ties == "half"
        right = 0.5 if half else float(agrees)
    return PairRow(
        pair.id, pair.kind, pair.dimension, pair.group, pair.preference, difference, right, tie, verdict.error
    )


def _episodes(pair: PreferencePair, alone: bool) -> tuple[Episode, Episode]:
    """The episodes that end with the one edit and the other.

    Args:
        pair: The pair.
        alone: Whether the pair is a task of its own; otherwise all edits of a photo by an instruction are of one task.

    Raises:
        ImageError: If a photo cannot be read.
    """
    before = pair.before.load()
    height, width = before.shape[:2]
    name = pair.id if alone else _digest(pair.instruction, before)
    task = Task(id=name, photo=Pixels(before), instruction=pair.instruction, kind=pair.kind or "edit")
    first, second = (
        Episode(
            task=task,
            source=before,
            image=resize(photo.load(), width, height),
            recipe=Recipe("iea"),
            renderer=NoRenderer(),
            finished=True,
            requests=(pair.instruction,),
        )
        for photo in (pair.first, pair.second)
    )
    return first, second


def _loaded(pairs: Sequence[PreferencePair], alone: bool) -> list[tuple[PreferencePair, tuple[Episode, Episode] | str]]:
    """Each pair with its episodes, or why it has none; photos are decoded by several threads."""

    def load(pair: PreferencePair) -> tuple[PreferencePair, tuple[Episode, Episode] | str]:
        try:
            return pair, _episodes(pair, alone)
        except ImageError as error:
            return pair, str(error)

    with ThreadPoolExecutor(_LOADERS) as pool:
        return list(pool.map(load, pairs))


def _digest(text: str, *photos: Image) -> str:
    digest = hashlib.sha256(f"{text}\n".encode("utf-8", "surrogatepass"))
    for photo in photos:
        digest.update(f"{photo.shape}".encode())
        digest.update(photo.tobytes())
    return digest.hexdigest()


@dataclass
class _Comparing:
    judge: PairwiseReward

    def verdicts(self, pairs: Sequence[PreferencePair]) -> list[_Verdict]:
        loaded = _loaded(pairs, alone=True)
        ready = [episodes for _, episodes in loaded if not isinstance(episodes, str)]
        turned = [] if self.judge.symmetric else [(second, first) for first, second in ready]
        found = compare_batch(self.judge, [*ready, *turned])
        orders = zip(found[: len(ready)], found[-len(ready) :], strict=True) if ready else iter(())
        return [
            _Verdict(pair, error=episodes) if isinstance(episodes, str) else self._difference(pair, *next(orders))
            for pair, episodes in loaded
        ]

    def _difference(self, pair: PreferencePair, straight: Preference, turned: Preference) -> _Verdict:
        if straight.first is None or turned.first is None:
            return _Verdict(pair, error=straight.error or turned.error)
        # 2p − 1 for the mean p of both orders; taken so, two verdicts that cancel give exactly 0.
        return _Verdict(pair, 2 * straight.first - 1 if self.judge.symmetric else straight.first - turned.first)


@dataclass
class _Scoring:
    judge: Reward
    components: Mapping[str, str]
    known: dict[str, RewardOutput] = field(default_factory=dict)

    def verdicts(self, pairs: Sequence[PreferencePair]) -> list[_Verdict]:
        loaded = _loaded(pairs, alone=self.judge.scope == "group")
        keys: dict[str, list[str]] = {}
        wanted: dict[str, Episode] = {}
        for pair, episodes in loaded:
            if not isinstance(episodes, str):
                keys[pair.id] = [self._key(episode, place) for place, episode in enumerate(episodes)]
                missing = zip(keys[pair.id], episodes, strict=True)
                wanted |= {key: episode for key, episode in missing if key not in self.known}
        if wanted:
            self.known |= dict(zip(wanted, score_batch(self.judge, list(wanted.values())), strict=True))
        return [
            _Verdict(pair, error=episodes)
            if isinstance(episodes, str)
            else self._difference(pair, *(self.known[key] for key in keys[pair.id]))
            for pair, episodes in loaded
        ]

    def _key(self, episode: Episode, place: int) -> str:
        # Where the score depends on what else is in the group, each pair is a group of its own.
        own = f"{episode.task.id}\n{place}\n" if self.judge.scope == "group" else ""
        return _digest(f"{own}{episode.task.instruction}", episode.source, episode.image)

    def _difference(self, pair: PreferencePair, first: RewardOutput, second: RewardOutput) -> _Verdict:
        problems = [f"{name}: {o.error}" for name, o in (("first", first), ("second", second)) if o.error is not None]
        if problems:
            return _Verdict(pair, error="; ".join(problems))
        numbers = [self._number(pair.dimension, output) for output in (first, second)]
        if None in numbers:
            return _Verdict(pair, error=f"no component {self.components[pair.dimension]!r} for {pair.dimension!r}")
        one, other = (number for number in numbers if number is not None)
        return _Verdict(pair, one - other)

    def _number(self, dimension: str, output: RewardOutput) -> float | None:
        name = self.components.get(dimension)
        return output.value if name is None else output.components.get(name)
