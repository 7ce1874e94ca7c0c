"""Checks of a reward."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from retouch_gym.errors import RewardError
from retouch_gym.images import Pixels
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import Renderer, get_renderer
from retouch_gym.rewards.base import Reward, RewardOutput, get_reward, score_batch, score_batch_async, score_one
from retouch_gym.tasks import Episode, Turn
from retouch_gym.testing.doubles import BrokenPhoto, TinyDataset, TinyRenderer, make_episode
from retouch_gym.types import ToolCall

TOLERANCE = 1e-6
"""How far a score may differ between a batch and alone (learned judges batch their arithmetic)."""


def check_reward(
    reward: str | Reward,
    *,
    pairs: Sequence[tuple[Episode, Episode]] = (),
    broken: Episode | None = None,
    renderer: str | Renderer | None = None,
) -> None:
    """Check that a reward keeps the contract of `Reward`.

    A batch scores as its episodes do alone, in their order; every output is finite, inside `range` and
    carries the `components`; scoring again, or with `score_async`, gives the same; the expert's edit scores higher
    than the untouched photo; an episode that cannot be scored yields an error instead of a number, raises
    `RewardError` when asked for alone, and leaves its neighbours as they are; an empty batch gives an empty
    list; the reward survives pickling.

    Where `Reward.scope` is ``"group"``, a batch scores as its groups do alone, whatever the order inside a group, and
    an episode alone in its group yields an error.

    Args:
        reward: Name or object.
        pairs: Pairs of (expert, untouched) episodes; by default of a small synthetic dataset.
        broken: An episode that the reward cannot score. By default one whose reference cannot be read,
            if the reward needs references; otherwise the failure is not checked.
        renderer: Renderer of the synthetic episodes; by default `TinyRenderer`.

    Raises:
        AssertionError: Saying what is broken.
    """
    judge = get_reward(reward)
    chosen = list(pairs) or synthetic_pairs(get_renderer(renderer or TinyRenderer()))
    episodes = [episode for pair in chosen for episode in pair]
    together = score_batch(judge, episodes)
    for output in together:
        _check_output(judge, output)
    _check_same(judge, together, score_batch(judge, episodes), "scored again")
    _check_same(judge, together, _in_a_loop(judge, episodes), "scored asynchronously")
    if judge.scope == "group":
        _check_groups(judge, chosen, together)
    else:
        _check_same(judge, together, [score_one(judge, episode) for episode in episodes], "scored alone")
    _check_same(judge, together[::-1], score_batch(judge, episodes[::-1]), "scored in reverse order")
    copy = pickle.loads(pickle.dumps(judge))
    _check_same(judge, together, score_batch(copy, episodes), "scored by a pickled copy")
    for (expert, _), better, worse in zip(chosen, together[::2], together[1::2], strict=True):
        above = _value(better) > _value(worse)
        assert above, (
            f"{judge.name}: on task {expert.task.id!r} the expert's edit scores {better.value}, "
            f"no more than the untouched photo's {worse.value}."
        )
    assert judge.score([]) == [], f"{judge.name}: an empty batch should give an empty list."
    failing = broken if broken is not None else _without_reference(judge, episodes[0])
    if failing is not None:
        _check_failure(judge, failing, episodes[:2], together[:2])


def synthetic_pairs(renderer: Renderer, count: int = 3) -> list[tuple[Episode, Episode]]:
    """Pairs of (expert, untouched) episodes on small synthetic photos.

    The reference is what the renderer makes of the expert's recipe. The expert edits, says the words that are asked
    for and is understood; the other gives one answer that nobody can read.
    """
    good, bad = Turn((ToolCall("finish"),)), Turn(error="no tool call could be read", text="", parsed=False)
    start = Recipe("iea")
    pairs = []
    for task in TinyDataset(count):
        recipe = task.recipe or start
        rendered = renderer.render([task.photo.load()], [recipe])[0]
        task = dataclasses.replace(task, reference=Pixels(rendered))
        expert = make_episode(task, recipe, renderer, turns=[good], answer=task.answer)
        pairs.append((expert, make_episode(task, start, renderer, turns=[bad])))
    return pairs


def _in_a_loop(reward: Reward, episodes: Sequence[Episode]) -> list[RewardOutput]:
    # A thread of its own, as whoever checks may have a loop that is running (a notebook).
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, score_batch_async(reward, episodes)).result()


def _check_groups(reward: Reward, pairs: Sequence[tuple[Episode, Episode]], together: Sequence[RewardOutput]) -> None:
    ids = [pair[0].task.id for pair in pairs]
    assert len(set(ids)) == len(ids), f"{reward.name} ranks the episodes of a task: give one pair for each task."
    apart = [output for pair in pairs for output in score_batch(reward, list(pair))]
    _check_same(reward, together, apart, "with each group scored alone")
    mixed = [*(pair[1] for pair in pairs), *(pair[0] for pair in pairs)]
    _check_same(
        reward, [*together[1::2], *together[0::2]], score_batch(reward, mixed), "with its groups' episodes mixed"
    )
    output = score_batch(reward, [pairs[0][0]])[0]
    assert not output.valid, f"{reward.name}: an episode alone in its group got the value {output.value}."


def _without_reference(reward: Reward, episode: Episode) -> Episode | None:
    """The episode with a reference that cannot be read, if the reward needs references; of the same group."""
    if not reward.needs_reference:
        return None
    # In a group of its own it would fail for having no rivals.
    name = episode.task.id if reward.scope == "group" else f"{episode.task.id}/broken"
    return dataclasses.replace(episode, task=dataclasses.replace(episode.task, id=name, reference=BrokenPhoto()))


def _check_output(reward: Reward, output: RewardOutput) -> None:
    assert output.valid, f"{reward.name}: a good episode could not be scored: {output.error}"
    low, high = reward.range
    value = _value(output)
    assert low <= value <= high, f"{reward.name}: the value {value} is outside its range {low}..{high}."
    missing = set(reward.components) - set(output.components)
    assert not missing, f"{reward.name}: the output lacks the components {sorted(missing)}."
    for name, part in output.components.items():
        assert math.isfinite(part), f"{reward.name}: component {name!r} is {part}."


def _check_same(reward: Reward, expected: Sequence[RewardOutput], got: Sequence[RewardOutput], how: str) -> None:
    values = [_value(output) for output in expected]
    others = [_value(output) for output in got]
    same = all(math.isclose(a, b, abs_tol=TOLERANCE, rel_tol=0) for a, b in zip(values, others, strict=True))
    assert same, f"{reward.name}: {how}, the values are {others}, before they were {values}."


def _check_failure(reward: Reward, failing: Episode, good: Sequence[Episode], expected: Sequence[RewardOutput]) -> None:
    outputs = score_batch(reward, [good[0], failing, good[1]])
    error = outputs[1].error
    assert error, f"{reward.name}: an episode that cannot be scored got the value {outputs[1].value}."
    _check_same(reward, expected, [outputs[0], outputs[2]], "next to a failing episode")
    try:
        output = score_one(reward, failing)
    except RewardError:
        return
    raise AssertionError(f"{reward.name}: scoring a broken episode alone returned {output.value}, it should raise.")


def _value(output: RewardOutput) -> float:
    return math.nan if output.value is None else output.value
