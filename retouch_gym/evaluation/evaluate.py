"""Run a policy over a dataset, one plan per task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from retouch_gym.datasets.base import Dataset, get_dataset
from retouch_gym.envs.session import Session
from retouch_gym.envs.view import StructuredView
from retouch_gym.errors import ConfigurationError
from retouch_gym.evaluation.result import EpisodeRow, EvaluationResult
from retouch_gym.renderers.base import Renderer, get_renderer
from retouch_gym.rewards.base import Reward, RewardOutput, get_reward, score_batch
from retouch_gym.rewards.distance import pixel_distance
from retouch_gym.tasks import Episode, Task
from retouch_gym.tools.toolset import Toolset, get_toolset
from retouch_gym.types import Action

__all__ = ["EpisodeRow", "Policy", "evaluate"]

Policy: TypeAlias = Callable[[list[dict[str, Any]]], Sequence[Action]]
"""Observations of `RetouchEnv` in, as many actions out, in the same order."""


def evaluate(
    policy: Policy,
    dataset: str | Dataset,
    *,
    toolset: str | Toolset = "iea",
    reward: str | Reward = "likeness",
    renderer: str | Renderer = "native",
    batch_size: int = 16,
) -> EvaluationResult:
    """Let a policy answer every task of a dataset once, and score what comes of it.

    Each task is one single-shot episode with the rules of `RetouchEnv`: an invalid action leaves the photo
    as it is and is scored as that, with ``valid`` False. An episode that the reward cannot score keeps its
    row, without a number.

    Args:
        policy: Takes at most `batch_size` observations at once.
        dataset: Name or object.
        toolset: Name or object.
        reward: Name or object.
        renderer: Name or object.
        batch_size: Tasks held at once.

    Raises:
        ConfigurationError: If the policy returns the wrong number of actions, or a name is not known.
        RewardError: If a whole batch cannot be scored.
        RendererError: If a photo cannot be rendered.
        ImageError: If a photo cannot be read.

    Example:
        >>> from retouch_gym import ToolCall
        >>> brighter = lambda observations: [ToolCall("exposure", {"value": 20}) for _ in observations]
        >>> result = evaluate(brighter, "samples")
        >>> result.summary().valid.mean
        1.0
    """
    if batch_size < 1:
        raise ConfigurationError(f"batch_size is {batch_size}; expected 1 or more.")
    tasks, tools = get_dataset(dataset), get_toolset(toolset)
    judge, engine = get_reward(reward), get_renderer(renderer)
    rows: list[EpisodeRow] = []
    for start in range(0, len(tasks), batch_size):
        batch = [tasks[index] for index in range(start, min(start + batch_size, len(tasks)))]
        episodes = _play(policy, batch, tools, engine)
        outputs = score_batch(judge, episodes)
        rows += [_row(episode, output) for episode, output in zip(episodes, outputs, strict=True)]
    return EvaluationResult(tasks.name, tasks.split, tools.name, judge.name, engine.name, tuple(rows))


def _play(policy: Policy, tasks: Sequence[Task], toolset: Toolset, renderer: Renderer) -> list[Episode]:
    view = StructuredView()
    sessions = [Session.start(toolset, 1, task) for task in tasks]
    _render(sessions, renderer)
    actions = policy([view.observe(session) for session in sessions])
    if len(actions) != len(sessions):
        raise ConfigurationError(f"The policy returned {len(actions)} actions for {len(sessions)} observations.")
    _render([session for session, action in zip(sessions, actions, strict=True) if session.act(action)], renderer)
    return [session.episode(renderer) for session in sessions]


def _render(sessions: Sequence[Session], renderer: Renderer) -> None:
    images = renderer.render([session.source for session in sessions], [session.recipe for session in sessions])
    for session, image in zip(sessions, images, strict=True):
        session.show(image)


def _row(episode: Episode, output: RewardOutput) -> EpisodeRow:
    reference = episode.reference
    error = episode.turns[-1].error
    return EpisodeRow(
        task_id=episode.task.id,
        kind=episode.task.kind,
        valid=error is None,
        tool_error=error,
        recipe=episode.recipe,
        distance=None if reference is None else pixel_distance(episode.image, reference),
        untouched_distance=None if reference is None else pixel_distance(episode.source, reference),
        reward=output.value,
        components=dict(output.components),
        reward_error=output.error,
    )
