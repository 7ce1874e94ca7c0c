"""Rewards that ask of every used control whether it helped, by leaving it out (arXiv 2606.08016)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from retouch_gym.errors import ConfigurationError, RetouchError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import Renderer
from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.rewards.distance import pixel_distance
from retouch_gym.rewards.likeness import likeness, load_reference, untouched_distance
from retouch_gym.tasks import Episode
from retouch_gym.types import Image


@dataclass(frozen=True)
class _Job:
    """One leave-one-out render: of which episode, and the recipe without one control."""

    episode: int
    recipe: Recipe


def leave_one_out(episodes: Sequence[Episode], references: Sequence[Image]) -> list[list[float]]:
    """D(I without c, ref) for every used control c of every episode, all rendered as one batch.

    Episodes of different renderers make one batch per renderer; batches over its `batch_bytes` are split.

    Args:
        episodes: The episodes.
        references: As many photos, uint8 (H, W, 3).

    Returns:
        One list per episode, in the order of `Recipe.parts`; empty where no control is used.

    Raises:
        RendererError: If a render fails.
    """
    distances: list[list[float]] = [[] for _ in episodes]
    jobs = [
        _Job(index, episode.recipe.without(control))
        for index, episode in enumerate(episodes)
        for control in episode.recipe.parts
    ]
    for renderer, batch in _batches(jobs, episodes):
        photos = [episodes[job.episode].source for job in batch]
        for job, image in zip(batch, renderer.render(photos, [job.recipe for job in batch]), strict=True):
            distances[job.episode].append(pixel_distance(image, references[job.episode]))
    return distances


def _batches(jobs: Sequence[_Job], episodes: Sequence[Episode]) -> Iterator[tuple[Renderer, list[_Job]]]:
    batch: list[_Job] = []
    held = 0
    for job in jobs:
        episode = episodes[job.episode]
        other = batch and episodes[batch[0].episode].renderer is not episode.renderer
        if other or (batch and held + episode.source.nbytes > episode.renderer.batch_bytes):
            yield episodes[batch[0].episode].renderer, batch
            batch, held = [], 0
        batch.append(job)
        held += episode.source.nbytes
    if batch:
        yield episodes[batch[0].episode].renderer, batch


def usefulness(edited: float, without: Sequence[float]) -> float:
    """U = mean over the used controls of +1 if leaving it out is worse, else −1; −1 if none is used.

    Args:
        edited: D(I, ref).
        without: D(I without c, ref) per used control c.
    """
    if not without:
        return -1.0
    return sum(1 if distance > edited else -1 for distance in without) / len(without)


class LeaveOneOutReward(Reward):
    """Scores a batch with one leave-one-out render batch.

    A missing or unreadable reference or a failing render makes an output with `error` for that episode
    alone.
    """

    needs_reference = True
    splits = True

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order."""
        outputs: dict[int, RewardOutput] = {}
        references: dict[int, Image] = {}
        for index, episode in enumerate(episodes):
            try:
                references[index] = load_reference(episode)
            except RetouchError as error:
                outputs[index] = RewardOutput(None, error=str(error))
        try:
            outputs.update(self._score_together(episodes, references))
        except RetouchError:
            # One bad photo or recipe fails the whole render batch: find out whose it is.
            for index, reference in references.items():
                outputs[index] = self._score_alone(index, episodes, reference)
        return [outputs[index] for index in range(len(episodes))]

    def _score_together(self, episodes: Sequence[Episode], references: Mapping[int, Image]) -> dict[int, RewardOutput]:
        indices = list(references)
        chosen = [episodes[index] for index in indices]
        without = leave_one_out(chosen, list(references.values()))
        return {
            index: self.combine(episode, references[index], distances)
            for index, episode, distances in zip(indices, chosen, without, strict=True)
        }

    def _score_alone(self, index: int, episodes: Sequence[Episode], reference: Image) -> RewardOutput:
        try:
            return self._score_together(episodes, {index: reference})[index]
        except RetouchError as error:
            return RewardOutput(None, error=str(error))

    @abstractmethod
    def combine(self, episode: Episode, reference: Image, without: Sequence[float]) -> RewardOutput:
        """The output of one episode, given D(I without c, ref) per used control."""


class Usefulness(LeaveOneOutReward):
    """Whether every used control helped. See `usefulness`."""

    name = "usefulness"
    range = (-1.0, 1.0)
    components = ("usefulness", "used_controls")

    def combine(self, episode: Episode, reference: Image, without: Sequence[float]) -> RewardOutput:
        """U of the episode."""
        value = usefulness(pixel_distance(episode.image, reference), without)
        return RewardOutput(value, {"usefulness": value, "used_controls": float(len(without))})


class EditReward(LeaveOneOutReward):
    """IEA's reward of an edit: R = α·L + (1 − α)·U, with L and U as in `likeness` and `usefulness`.

    An edit that uses no control, whether idle or never parsed, is worth −1; its L and U count as −1.

    Args:
        alpha: Weight of the likeness, 0..1.

    Raises:
        ConfigurationError: If `alpha` is outside 0..1.
    """

    name = "edit"
    range = (-1.0, 1.0)
    components = ("likeness", "usefulness", "used_controls")

    def __init__(self, alpha: float = 0.7) -> None:
        if not 0 <= alpha <= 1:
            raise ConfigurationError(f"EditReward alpha is {alpha}; expected 0 (only U) to 1 (only L).")
        self.alpha = float(alpha)

    def combine(self, episode: Episode, reference: Image, without: Sequence[float]) -> RewardOutput:
        """R of the episode."""
        edited = pixel_distance(episode.image, reference)
        closer = likeness(untouched_distance(episode, reference), edited) if without else -1.0
        useful = usefulness(edited, without)
        value = self.alpha * closer + (1 - self.alpha) * useful
        parts = {"likeness": closer, "usefulness": useful, "used_controls": float(len(without))}
        return RewardOutput(value, parts)
