"""The reward of changing an earlier edit (arXiv 2606.08016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from retouch_gym.errors import ConfigurationError, RetouchError, RewardError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.rewards.distance import pixel_distance
from retouch_gym.rewards.likeness import likeness, load_reference
from retouch_gym.rewards.rendering import render_each
from retouch_gym.tasks import Episode
from retouch_gym.types import Image

Since = Literal["source", "start"]


def difference(old: Recipe, target: Recipe, new: Recipe) -> float:
    """Diff = mean over the sliders that should change of clip(1 − (target − new) / (target − old), −1, 1).

    As published, going too far counts as getting there; only the likeness sees the difference. Where nothing
    should change it is 0, as published.

    Returns:
        −1 (as far again in the wrong direction) over 0 (nothing done) to 1 (every slider there or beyond).
    """
    wanted = [name for name in {**old.controls, **target.controls} if target[name] != old[name]]
    if not wanted:
        return 0.0
    parts = [1 - (target[name] - new[name]) / (target[name] - old[name]) for name in wanted]
    return sum(min(1.0, max(-1.0, part)) for part in parts) / len(wanted)


def agreement(old: Recipe, target: Recipe, new: Recipe) -> float:
    """IoU = (TP − FP) / max(1, TP + FP): TP should change and did, FP changed and should not have.

    As published, a slider that should change and did not counts in neither; Diff sees it.

    Returns:
        −1 (only wrong sliders were changed) over 0 (nothing was changed) to 1 (only right ones).
    """
    changed = [name for name in {**old.controls, **new.controls} if new[name] != old[name]]
    right = sum(target[name] != old[name] for name in changed)
    wrong = len(changed) - right
    return (right - wrong) / max(1, right + wrong)


class RefineReward(Reward):
    """IEA's reward of a refinement: R = .3·L + .4·Diff + .3·IoU.

    Old is the recipe that the task starts with (empty if None), target the task's recipe, new the recipe of
    the episode. Diff and IoU are `difference` and `agreement`.

    L is the `likeness`, by default relative to the untouched photo, as in the published code: a good start
    that is left as it is then earns .3·L of the start. With ``since="start"`` it is relative to the photo that
    the episode begins with, so that who does nothing earns 0; start photos are then rendered as one batch.

    Where nothing should change (target = old), Diff is 0 and IoU is 0 or, if anything was changed, −1. An
    episode with no turn but refused ones is worth −1 in every part, as an answer without parameters is in the
    published code.

    Args:
        since: What the likeness is relative to: ``"source"`` or ``"start"``.

    Raises:
        ConfigurationError: If `since` has no meaning.
    """

    name = "refine"
    range = (-1.0, 1.0)
    components = ("likeness", "diff", "iou")
    needs_reference = True

    def __init__(self, since: Since = "source") -> None:
        if since not in get_args(Since):
            raise ConfigurationError(f"RefineReward since = {since!r}; expected 'source' or 'start'.")
        self.since = since

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order. What lacks a recipe or a reference has an `error`."""
        outputs: dict[int, RewardOutput] = {}
        targets: dict[int, Recipe] = {}
        for index, episode in enumerate(episodes):
            try:
                load_reference(episode)
                targets[index] = _target(episode)
            except RetouchError as error:
                outputs[index] = RewardOutput(None, error=str(error))
        try:
            outputs.update(self._score_together(episodes, targets))
        except RetouchError:
            # One start that cannot be rendered fails the whole batch: find out whose it is.
            for index, target in targets.items():
                outputs[index] = self._score_alone(index, episodes, target)
        return [outputs[index] for index in range(len(episodes))]

    def _score_together(self, episodes: Sequence[Episode], targets: dict[int, Recipe]) -> dict[int, RewardOutput]:
        began = self._began([episodes[index] for index in targets])
        return {
            index: _score(episodes[index], target, photo)
            for (index, target), photo in zip(targets.items(), began, strict=True)
        }

    def _score_alone(self, index: int, episodes: Sequence[Episode], target: Recipe) -> RewardOutput:
        try:
            return self._score_together(episodes, {index: target})[index]
        except RetouchError as error:
            return RewardOutput(None, error=str(error))

    def _began(self, episodes: Sequence[Episode]) -> list[Image]:
        """The photo that the likeness is relative to, for each episode."""
        photos = [episode.source for episode in episodes]
        if self.since == "source":
            return photos
        starts = [(index, start) for index, episode in enumerate(episodes) if not (start := _old(episode)).is_empty]
        rendered = render_each(
            [episodes[index].renderer for index, _ in starts],
            [photos[index] for index, _ in starts],
            [start for _, start in starts],
        )
        for (index, _), image in zip(starts, rendered, strict=True):
            photos[index] = image
        return photos


def _score(episode: Episode, target: Recipe, began: Image) -> RewardOutput:
    old, new = _old(episode), episode.recipe
    if episode.turns and all(turn.error is not None for turn in episode.turns):
        parts = dict.fromkeys(RefineReward.components, -1.0)
    else:
        reference = load_reference(episode)
        parts = {
            "likeness": likeness(pixel_distance(began, reference), pixel_distance(episode.image, reference)),
            "diff": difference(old, target, new),
            "iou": agreement(old, target, new),
        }
    return RewardOutput(0.3 * parts["likeness"] + 0.4 * parts["diff"] + 0.3 * parts["iou"], parts)


def _old(episode: Episode) -> Recipe:
    return episode.task.start or Recipe(episode.recipe.toolset)


def _target(episode: Episode) -> Recipe:
    """The recipe that leads to the reference.

    Raises:
        RewardError: If the task has none.
    """
    if episode.task.recipe is None:
        raise RewardError(
            f"task {episode.task.id!r} has no recipe to compare with; use a dataset with recipes or the reward 'edit'"
        )
    return episode.task.recipe
