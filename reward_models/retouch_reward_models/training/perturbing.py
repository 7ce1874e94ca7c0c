"""Weak edits made from strong ones: key parameters left out or set wrongly (RetouchIQ, arXiv 2602.17558)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retouch_gym.chat.messages import system_message, user_message
from retouch_gym.chat.strict_json import read_json, write_json
from retouch_gym.errors import RetouchError, ToolError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.tools.base import Control
from retouch_gym.tools.toolset import Toolset, get_toolset
from retouch_reward_models.asking import ask
from retouch_reward_models.backends.base import Backend, ChatReply, ChatRequest
from retouch_reward_models.errors import VerdictError
from retouch_reward_models.quoting import DATA_RULE, quote

LEAST_CHANGE = 0.15
"""A parameter that is set wrongly is at least this share of its range away from where it was."""

_STEP = 5


class Perturber(ABC):
    """Damages recipes."""

    @abstractmethod
    def perturb(
        self, recipes: Sequence[Recipe], instructions: Sequence[str], rng: np.random.Generator
    ) -> list[Recipe | None]:
        """A weaker recipe for each strong one, in order; None where there is none.

        Args:
            recipes: Strong edits; each sets at least one control.
            instructions: What was asked for.
            rng: Source of randomness.
        """


class RulePerturber(Perturber):
    """Leaves one parameter out, sets it too weak, too strong or to the wrong side, or touches one nobody asked for.

    Args:
        toolset: The recipes' toolset.
        extra: Share of perturbations that touch a control which the recipe leaves alone; 0..1.
        extras: The controls that these are drawn from; None for all.
        faults: Most controls of one recipe that are damaged; how many is drawn from 1 to this.

    Raises:
        ValueError: If `faults` is less than 1.
    """

    def __init__(
        self,
        toolset: str | Toolset = "iea",
        extra: float = 0.1,
        extras: Sequence[str] | None = None,
        faults: int = 1,
    ) -> None:
        if faults < 1:
            raise ValueError(
                f"faults = {faults!r} should be at least 1: a perturbed recipe differs from the strong one."
            )
        self.toolset = get_toolset(toolset)
        self.extra = extra
        self.extras = tuple(extras) if extras is not None else tuple(self.toolset.controls)
        self.faults = faults

    def perturb(
        self, recipes: Sequence[Recipe], instructions: Sequence[str], rng: np.random.Generator
    ) -> list[Recipe | None]:
        """See `Perturber.perturb`."""
        return [self._damage(recipe, rng) if recipe.controls else None for recipe in recipes]

    def _damage(self, recipe: Recipe, rng: np.random.Generator) -> Recipe:
        count = int(rng.integers(1, self.faults, endpoint=True)) if self.faults > 1 else 1
        damaged, spared = recipe, sorted(recipe.controls)
        unused = [name for name in self.extras if not recipe[name]]
        for _ in range(count):
            extra = bool(unused) and rng.random() < self.extra
            names = unused if extra else spared
            if not names:
                break
            name = str(rng.choice(names))
            names.remove(name)
            if not extra and rng.random() < 1 / 3:
                damaged = damaged.without(name)
            else:
                damaged = _with(damaged, name, self._away(recipe[name], self.toolset.controls[name], rng))
        return damaged

    def _away(self, value: float, control: Control, rng: np.random.Generator) -> float:
        """A multiple of 5 (or of a hundredth of a narrow range) that is far enough from `value`."""
        wide = control.high - control.low
        step = _STEP if wide >= 20 * _STEP else wide / 100
        steps = np.arange(np.ceil(control.low / step), np.floor(control.high / step) + 1)
        far = steps[np.abs(steps * step - value) >= LEAST_CHANGE * wide]
        return float(rng.choice(far) * step)


class ChatPerturber(Perturber):
    """Asks a chat model for a plausible but worse edit, as RetouchIQ does.

    Args:
        backend: The model.
        toolset: The recipes' toolset.
        attempts: How often an answer is asked for at most.
    """

    def __init__(self, backend: Backend, toolset: str | Toolset = "iea", attempts: int = 2) -> None:
        self.backend = backend
        self.toolset = get_toolset(toolset)
        self.attempts = attempts

    def perturb(
        self, recipes: Sequence[Recipe], instructions: Sequence[str], rng: np.random.Generator
    ) -> list[Recipe | None]:
        """See `Perturber.perturb`. None where no answer held a recipe that differs."""
        seeds = rng.integers(2**31, size=len(recipes)).tolist()
        requests = [
            ChatRequest(self._messages(recipe, instruction), max_tokens=512, temperature=0.8, seed=seed)
            for recipe, instruction, seed in zip(recipes, instructions, seeds, strict=True)
        ]
        asked = ask(self.backend, requests, lambda n, reply: self._read(recipes[n], reply), attempts=self.attempts)
        return [answer.result for answer in asked]

    def _messages(self, recipe: Recipe, instruction: str) -> list[dict[str, Any]]:
        controls = self.toolset.controls.values()
        ranges = ", ".join(f"{control.name} {control.low:g}..{control.high:g}" for control in controls)
        system = (
            "You make training data for a judge of photo edits. You are given a request and the parameters of a good "
            "edit. Write parameters of a worse edit that a hasty editor might have made: leave a key parameter out, or "
            "set it too weak, too strong or to the wrong side; change as little else as possible. Answer with one JSON "
            f"object of parameter to number and nothing else. Parameters and ranges: {ranges}. {DATA_RULE}"
        )
        text = f"REQUEST: {quote(instruction)}\nGOOD EDIT: {quote(write_json(dict(recipe.controls)))}"
        return [system_message(system), user_message(text)]

    def _read(self, strong: Recipe, reply: ChatReply) -> Recipe:
        try:
            found = read_json(reply.text, "the answer")
            if not isinstance(found, dict):
                raise VerdictError(f"The answer is {str(found)[:40]!r}; expected an object of parameter to number.")
            weak = _plain(strong, found).check(self.toolset)
        except (ToolError, RetouchError) as error:
            raise VerdictError(str(error)) from None
        if weak == strong:
            raise VerdictError("The parameters are those of the good edit.")
        return weak


def _plain(strong: Recipe, controls: Mapping[str, Any]) -> Recipe:
    set_ones = {name: value for name, value in controls.items() if value != 0}
    return Recipe(strong.toolset, set_ones, strong.seed, strong.curves, strong.crop, strong.locals)


def _with(recipe: Recipe, name: str, value: float) -> Recipe:
    if not value:
        return recipe.without(name)
    controls = {**recipe.controls, name: value}
    return Recipe(recipe.toolset, controls, recipe.seed, recipe.curves, recipe.crop, recipe.locals)
