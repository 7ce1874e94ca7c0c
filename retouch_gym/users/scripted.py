"""A user by rule: compares thumbnails with the reference and asks for the most needed change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retouch_gym.datasets.grammar import ADJECTIVES, STRENGTHS, draw_phrase, draw_request, has_words
from retouch_gym.datasets.reader import moved
from retouch_gym.errors import ConfigurationError, DatasetError
from retouch_gym.images import resize
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.rewards.distance import pixel_distance
from retouch_gym.rewards.rendering import render_each
from retouch_gym.tasks import Episode
from retouch_gym.tools.toolset import get_toolset
from retouch_gym.types import Image
from retouch_gym.users.base import User

THUMBNAIL = 64
"""Most pixels on the longer side of what the user looks at."""


@dataclass(frozen=True)
class _Move:
    """A change that could be asked for, and the recipe of whoever does exactly that."""

    slider: str
    change: int
    recipe: Recipe


@dataclass(frozen=True, eq=False)
class _View:
    """What the user sees of one episode that is not good enough yet."""

    episode: Episode
    source: Image
    reference: Image
    moves: tuple[_Move, ...]


class ScriptedUser(User):
    """Wants the reference and asks, turn by turn, for the one change that leads furthest towards it.

    It looks at strided thumbnails of the photo as it is now and of the reference, and is content when their
    pixel distance is at most `tolerance`. Otherwise it tries every slider of the grammar, moved from where it
    is by the middle of each strength (20, 40, 60 and 80, clipped to the slider's range), renders all of them
    for all episodes as one batch, and asks for the move that brings the thumbnail nearest to the reference; of
    equal moves for the weakest. Where no move comes nearer by `margin` it is content too: it knows no words
    for what is left. Of a summary, which edits nothing, it asks nothing. What it asks for follows from the photos
    alone; how that is worded, from the seed and the number of turns so far.

    Args:
        tolerance: Pixel distance (0..1) to the reference at which it is content.
        margin: Pixel distance that a change must gain to be worth asking for.
        sliders: Sliders that it can speak of; by default all of the grammar's that the toolset has.

    Raises:
        ConfigurationError: If an option has no meaning.
    """

    name = "scripted"

    def __init__(
        self, tolerance: float = 0.02, margin: float = 0.005, sliders: Sequence[str] = tuple(ADJECTIVES)
    ) -> None:
        for option, value in (("tolerance", tolerance), ("margin", margin)):
            if not 0 <= value <= 1:
                raise ConfigurationError(f"ScriptedUser {option} = {value!r} should be a distance between 0 and 1.")
        unknown = [slider for slider in sliders if slider not in ADJECTIVES]
        if unknown or not sliders or isinstance(sliders, str):
            raise ConfigurationError(
                f"ScriptedUser sliders = {sliders!r} should be chosen from {', '.join(ADJECTIVES)}."
            )
        self.tolerance = float(tolerance)
        self.margin = float(margin)
        self.sliders = tuple(sliders)

    def reply(self, episodes: Sequence[Episode], seeds: Sequence[int]) -> list[str | None]:
        """See `User.reply`."""
        views = [self._look(episode) for episode in episodes]
        moves = iter(self._choose([view for view in views if view is not None]))
        chosen = [None if view is None else next(moves) for view in views]
        return [_words(*said) for said in zip(chosen, episodes, seeds, strict=True)]

    def _look(self, episode: Episode) -> _View | None:
        """What there is to be seen; None if it is good enough."""
        if episode.task.mode == "summary":
            return None
        reference = episode.reference
        if reference is None:
            raise DatasetError(
                f"Task {episode.task.id!r} has no reference for the user {self.name!r} to look at; use a dataset "
                "with references, or no user."
            )
        height, width = episode.source.shape[:2]
        target = thumbnail(resize(reference, width, height))
        if pixel_distance(thumbnail(episode.image), target) <= self.tolerance:
            return None
        return _View(episode, thumbnail(episode.source), target, self._moves(episode.recipe))

    def _moves(self, recipe: Recipe) -> tuple[_Move, ...]:
        controls = get_toolset(recipe.toolset).controls
        known = [controls[slider] for slider in self.sliders if slider in controls]
        if not known:
            raise ConfigurationError(
                f"The user {self.name!r} speaks of {', '.join(self.sliders)}, and the toolset {recipe.toolset!r} has "
                "none of them; choose the toolset 'iea' or another user."
            )
        changes = [sign * strength.middle for strength in STRENGTHS for sign in (1, -1)]
        moves = [
            _Move(control.name, change, moved(recipe, control, change))
            for control in known
            for change in changes
            if has_words(control.name, change)
        ]
        return tuple(move for move in moves if move.recipe != recipe)

    def _choose(self, views: Sequence[_View]) -> list[_Move | None]:
        """The best move of each episode, None where none is worth it; one render batch for all."""
        jobs = [
            (view, recipe) for view in views for recipe in (view.episode.recipe, *(move.recipe for move in view.moves))
        ]
        images = iter(
            render_each(
                [view.episode.renderer for view, _ in jobs],
                [view.source for view, _ in jobs],
                [recipe for _, recipe in jobs],
            )
        )
        chosen: list[_Move | None] = []
        for view in views:
            now, *after = [pixel_distance(next(images), view.reference) for _ in range(1 + len(view.moves))]
            best = int(np.argmin(after)) if after else 0
            worth_it = bool(after) and now - after[best] >= max(self.margin, np.finfo(float).tiny)
            chosen.append(view.moves[best] if worth_it else None)
        return chosen


def _words(move: _Move | None, episode: Episode, seed: int) -> str | None:
    if move is None:
        return None
    rng = np.random.default_rng([seed, len(episode.turns)])
    return draw_request(rng, [draw_phrase(rng, move.slider, move.change)])


def thumbnail(image: Image) -> Image:
    """Every k-th pixel of a photo, so that at most `THUMBNAIL` are left per side.

    Pixels are taken, not averaged: what an edit does to a pixel alone it does to the thumbnail exactly.
    """
    stride = -(-max(image.shape[:2]) // THUMBNAIL)
    return np.ascontiguousarray(image[::stride, ::stride])
