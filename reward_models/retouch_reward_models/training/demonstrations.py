"""What a judge learns from first: the right verdicts about pairs whose recipes are known."""

from __future__ import annotations

from typing import Any

import numpy as np

from retouch_gym.chat import Message
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import Renderer, get_renderer
from retouch_gym.tasks import Task
from retouch_reward_models.cases import Case
from retouch_reward_models.grm.formats import VerdictFormat, get_verdict_format
from retouch_reward_models.grm.prompts import JudgePrompt
from retouch_reward_models.training.oracle import oracle_verdict
from retouch_reward_models.training.pairs import get_pairs


def render_case(task: Task, recipes: tuple[Recipe, ...], renderer: Renderer) -> Case:
    """The case of edits of a task, rendered in one batch."""
    before = task.photo.load()
    return Case(task.instruction, before, tuple(renderer.render([before] * len(recipes), recipes)), task.id)


class JudgeDemonstrations:
    """(conversation, right answer) for every pair, for supervised fine-tuning. Picklable.

    Example i shows one edit (better or worse by the toss of a coin) in a share of the cases and both, in drawn order,
    in the others, and depends on (pairs, seed, i) alone.

    Args:
        pairs: See `retouch_reward_models.training.pairs.get_pairs`; tasks with recipes.
        prompt: What the judge is shown and told.
        verdict_format: How it answers.
        both: Share of the examples that show both edits, 0..1.
        renderer: What renders the edits.
        seed: Seed of what is shown.
    """

    def __init__(
        self,
        pairs: Any,
        prompt: JudgePrompt,
        verdict_format: str | VerdictFormat = "lines",
        both: float = 0.5,
        renderer: str | Renderer = "native",
        seed: int = 0,
    ) -> None:
        self.pairs = get_pairs(pairs)
        self.prompt = prompt
        self.format = get_verdict_format(verdict_format)
        self.both = both
        self.renderer = get_renderer(renderer)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[list[Message], str]:
        pair = self.pairs[index]
        rng = np.random.default_rng([self.seed, index])
        recipes: tuple[Recipe, ...] = (pair.better, pair.worse)
        if rng.random() < 0.5:
            recipes = recipes[::-1]
        if rng.random() >= self.both:
            recipes = recipes[:1]
        case = render_case(pair.task, recipes, self.renderer)
        answer = self.format.write(oracle_verdict(pair.task.instruction, recipes, pair.task.recipe))
        return self.prompt.verdict(case, self.format), answer
