"""A policy's own edits, and the pairs that a judge can learn from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retouch_agents.chat import ChatFormat
from retouch_agents.generation import TransformersGenerator
from retouch_agents.models import load_model
from retouch_gym.datasets.base import Dataset
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.errors import RetouchError, ToolError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.tasks import Task
from retouch_gym.tools.toolset import get_toolset
from retouch_gym.types import Unparsable
from retouch_reward_models.training.oracle import oracle_verdict, requested
from retouch_reward_models.training.pairs import Pair

BATCH = 64
"""Tasks whose answers are drawn at a time."""


def sample_edits(
    policy: str | Path,
    dataset: Dataset,
    indices: Sequence[int],
    *,
    answers: int = 4,
    temperature: float = 1.0,
    seed: int = 0,
    toolset: str = "iea",
    max_new_tokens: int = 64,
) -> list[tuple[Task, list[Recipe]]]:
    """Recipes that a policy draws for tasks.

    Args:
        policy: Folder of the model.
        dataset: The tasks.
        indices: Which of them.
        answers: Answers to each.
        temperature: Of sampling.
        seed: Seed of sampling; an answer depends on it and the task's index alone.
        toolset: The tools.
        max_new_tokens: Most tokens of an answer.

    Returns:
        For each index the task and the recipes of those answers that could be read.
    """
    tools = get_toolset(toolset)
    chat = ChatFormat.from_pretrained(policy, tools)
    generator = TransformersGenerator(load_model(policy).eval(), pad_id=chat.pad_id, eos_ids=[chat.eos_id])
    env = RetouchEnv(dataset=dataset, toolset=tools, max_turns=1)
    found = []
    for start in range(0, len(indices), BATCH):
        part = indices[start : start + BATCH]
        tasks, prompts = [], []
        for index in part:
            observation, _ = env.reset(options={"index": int(index)})
            tasks.append(env.episode.task)
            prompts.append(chat.encode(observation))
        drawn = generator.generate(
            prompts,
            group_size=answers,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            seeds=[seed * 1_000_003 + int(index) for index in part],
        )
        for number, task in enumerate(tasks):
            texts = [chat.decode(answer.token_ids) for answer in drawn[number * answers : (number + 1) * answers]]
            recipes = [_recipe(chat.parse(text), tools.name) for text in texts]
            found.append((task, [recipe for recipe in recipes if recipe is not None]))
    env.close()
    return found


def decided_pairs(edits: Sequence[tuple[Task, Sequence[Recipe]]], margin: float = 1.0, salt: str = "") -> list[Pair]:
    """Pairs of edits of one task, the reference among them, that the instruction really decides.

    An adverb stands for a range of values, so that two edits inside it are equally right. A pair is decided where the
    right verdict (`oracle_verdict`) puts `margin` points or more between its edits.

    Args:
        edits: Tasks with the policy's recipes; tasks whose request names no slider are left out.
        margin: Least difference of the right totals, 0..10.
        salt: Part of the pairs' ids, to keep rounds apart.
    """
    pairs = []
    for task, drawn in edits:
        if not requested(task.instruction) or task.recipe is None:
            continue
        recipes = list(dict.fromkeys([task.recipe, *drawn]))
        verdict = oracle_verdict(task.instruction, recipes)
        totals = [verdict.total(number) for number in range(len(recipes))]
        for first in range(len(recipes)):
            for second in range(first + 1, len(recipes)):
                if abs(totals[first] - totals[second]) >= margin:
                    order = (first, second) if totals[first] > totals[second] else (second, first)
                    better, worse = (recipes[number] for number in order)
                    name = f"{task.id}/policy{salt}-{first}-{second}"
                    pairs.append(Pair(name, task, better, worse, "policy"))
    return pairs


def _recipe(action: object, toolset: str) -> Recipe | None:
    if isinstance(action, Unparsable) or not isinstance(action, Sequence):
        return None
    tools = get_toolset(toolset)
    try:
        return Recipe(tools.name).apply(tools.parse_plan(action), tools)
    except (ToolError, RetouchError):
        return None
