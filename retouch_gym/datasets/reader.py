"""A perfect reader of the grammar's words: what a request asks for, and the recipe of whoever does just that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from retouch_gym.datasets.grammar import ADJECTIVES, STRENGTHS
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.tools.base import Control


def read_request(text: str) -> dict[str, int]:
    """What a perfect reader takes a request for: slider to the change asked for, the middle of its strength.

    Inverse of `draw_request` up to the width of the strengths; empty for a vague request.
    """
    strengths = {adverb: strength for strength in STRENGTHS for adverb in strength.adverbs}
    changes = {}
    for adverb, adjective in _phrase_pattern().findall(text):
        slider, sign = _meanings()[adjective]
        changes[slider] = sign * strengths[adverb].middle
    return changes


@cache
def _meanings() -> Mapping[str, tuple[str, int]]:
    pairs = [
        (slider, sign, text) for slider, texts in ADJECTIVES.items() for sign, text in zip((1, -1), texts, strict=True)
    ]
    return {text: (slider, sign) for slider, sign, text in pairs if text}


@cache
def _phrase_pattern() -> re.Pattern[str]:
    # The longer adjective first: "brighter in the corners" is not "brighter".
    adjectives = "|".join(sorted(_meanings(), key=len, reverse=True))
    adverbs = "|".join(adverb for strength in STRENGTHS for adverb in strength.adverbs if adverb)
    return re.compile(rf"(?:\b({adverbs}) )?\b({adjectives})\b")


def moved(recipe: Recipe, control: Control, change: float) -> Recipe:
    """The recipe with one control moved by `change`, as far as its range allows."""
    value = min(max(recipe.controls.get(control.name, control.default) + change, control.low), control.high)
    if value == control.default:
        return recipe.without(control.name)
    return Recipe(recipe.toolset, {**recipe.controls, control.name: value}, recipe.seed)


def follow(recipe: Recipe, request: str, controls: Mapping[str, Control]) -> Recipe:
    """The recipe of a perfect reader who does what `request` says and starts from `recipe`.

    Args:
        recipe: Where the reader starts.
        request: Words of the grammar; a vague request changes nothing.
        controls: The toolset's controls by name; what it lacks is left out.
    """
    for slider, change in read_request(request).items():
        if slider in controls:
            recipe = moved(recipe, controls[slider], change)
    return recipe
