"""What policies earn on held-out tasks, by the rule: their likeliest answers, and what they draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retouch_agents.pipelines.edits import sample_edits
from retouch_agents.policy import AgentPolicy
from retouch_gym.datasets.base import Dataset
from retouch_gym.evaluation.bootstrap import bootstrap_interval
from retouch_gym.evaluation.evaluate import evaluate
from retouch_gym.renderers.base import get_renderer
from retouch_gym.rewards.base import get_reward
from retouch_gym.testing import make_episode
from retouch_gym.tools.iea import IEA


def greedy_rewards(policy: Path, tasks: Dataset) -> NDArray[np.float64]:
    """The edit reward of a policy's likeliest answer to every task."""
    likeliest = AgentPolicy.from_pretrained(policy)
    return np.array([row.reward for row in evaluate(likeliest, tasks, toolset=IEA, reward="edit").rows])


def sampled_rewards(policy: Path, tasks: Dataset, answers: int = 4) -> NDArray[np.float64]:
    """The mean edit reward of answers drawn at temperature 1, what GRPO raises; −1 for one that cannot be read."""
    rule, renderer = get_reward("edit"), get_renderer("native")
    means = []
    for task, recipes in sample_edits(policy, tasks, range(len(tasks)), answers=answers, seed=11):
        outputs = rule.score([make_episode(task, recipe, renderer) for recipe in recipes if not recipe.is_empty])
        values = [output.value for output in outputs if output.value is not None]
        means.append((sum(values) - (answers - len(values))) / answers)
    return np.array(means)


def paired(differences: NDArray[np.float64]) -> dict[str, float]:
    """Mean of paired differences with its 95% bootstrap interval."""
    return {**bootstrap_interval(differences, resamples=2000)._asdict(), "n": len(differences)}
