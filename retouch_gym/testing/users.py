"""Checks of a user."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Sequence

from retouch_gym.errors import DatasetError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import Renderer, get_renderer
from retouch_gym.tasks import Episode
from retouch_gym.testing.doubles import TinyDataset, TinyRenderer, make_episode
from retouch_gym.users.base import User, get_user


def check_user(
    user: str | User,
    *,
    episodes: Sequence[Episode] = (),
    renderer: str | Renderer | None = None,
) -> None:
    """Check that a user keeps the contract of `User`.

    Every reply is a text that says something, or None; the same episode and seed get the same reply again, alone, in
    reverse order and from a pickled copy; who sees the untouched photo asks for something, who sees the
    reference is content; a task without a reference gets a reply or a `DatasetError` that names it; an empty
    batch gives an empty list.

    Args:
        user: Name or object.
        episodes: Untouched episodes with references; by default of a small synthetic dataset.
        renderer: Renderer of the synthetic episodes; by default `TinyRenderer`.

    Raises:
        AssertionError: Saying what is broken.
    """
    asked = get_user(user)
    untouched = list(episodes) or _untouched(get_renderer(renderer or TinyRenderer()))
    content = [_as_reference(episode) for episode in untouched]
    # Mixed, so that a reply which is skipped for one cannot slip to its neighbour unseen.
    batch = [episode for pair in zip(untouched, content, strict=True) for episode in pair]
    seeds = [7 * index for index in range(len(batch))]
    replies = asked.reply(batch, seeds)
    assert len(replies) == len(batch), f"{asked.name}: {len(replies)} replies for {len(batch)} episodes."
    for episode, reply in zip(batch, replies, strict=True):
        said = reply is None or (isinstance(reply, str) and bool(reply.strip()))
        assert said, f"{asked.name}: on task {episode.task.id!r} it said {reply!r}; expected words or None."
    for episode, before, after in zip(untouched, replies[::2], replies[1::2], strict=True):
        assert before is not None, f"{asked.name}: it is content with the untouched photo of {episode.task.id!r}."
        assert after is None, f"{asked.name}: it sees the reference of {episode.task.id!r} and still asks {after!r}."
    _check_same(asked, replies, asked.reply(batch, seeds), "asked again")
    alone = [reply for one, seed in zip(batch, seeds, strict=True) for reply in asked.reply([one], [seed])]
    _check_same(asked, replies, alone, "asked alone")
    _check_same(asked, replies[::-1], asked.reply(batch[::-1], seeds[::-1]), "asked in reverse order")
    copy = pickle.loads(pickle.dumps(asked))
    _check_same(asked, replies, copy.reply(batch, seeds), "asked from a pickled copy")
    assert asked.reply([], []) == [], f"{asked.name}: an empty batch should give an empty list."
    _check_blind(asked, untouched[0])


def _untouched(renderer: Renderer) -> list[Episode]:
    return [make_episode(task, Recipe("iea"), renderer) for task in TinyDataset()]


def _as_reference(episode: Episode) -> Episode:
    """The same episode, come to its reference."""
    reference = episode.reference
    assert reference is not None, f"Task {episode.task.id!r} has no reference; the check needs one."
    return dataclasses.replace(episode, image=reference, recipe=episode.task.recipe or episode.recipe)


def _check_same(user: User, expected: Sequence[str | None], got: Sequence[str | None], how: str) -> None:
    assert list(expected) == list(got), f"{user.name}: {how}, the replies are {got}, before they were {expected}."


def _check_blind(user: User, episode: Episode) -> None:
    """A user who needs a reference says so; one who does not gives a reply."""
    blind = dataclasses.replace(episode, task=dataclasses.replace(episode.task, id="blind", reference=None))
    try:
        count, problem = len(user.reply([blind], [0])), blind.task.id
    except DatasetError as error:
        count, problem = 1, str(error)
    assert count == 1, f"{user.name}: {count} replies for 1 episode."
    assert blind.task.id in problem, f"{user.name}: the refusal {problem!r} does not name {blind.task.id!r}."
