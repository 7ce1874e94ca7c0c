"""What a program can do of the toolset ``lightroom``: a table that renderers obey and the docs print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from retouch_gym.errors import RendererError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.lightroom.settings import DEFAULTS
from retouch_gym.tools.lightroom_controls import CONTROLS, CURVES, ZONES

How: TypeAlias = Literal["exact", "approximate", "none"]
"""Exact: the same formula. Approximate: the same idea, other numbers. None: refused."""

PARTS = (*(control.name for control in CONTROLS), *CURVES, "crop", "straighten", "locals")
"""Everything that a recipe of the toolset can ask for; "straighten" is the angle of a crop."""


@dataclass(frozen=True)
class Support:
    """How a program renders one part of a recipe.

    Args:
        how: Exactly, approximately, or not.
        through: What does it in the program, or why nothing does.
        low: Lowest value that it can take; None is the control's own.
        high: Highest value that it can take; None is the control's own.
    """

    how: How
    through: str
    low: float | None = None
    high: float | None = None

    def takes(self, value: float) -> bool:
        """Whether a value of the control can be rendered."""
        return (
            self.how != "none" and (self.low is None or value >= self.low) and (self.high is None or value <= self.high)
        )


def exact(through: str) -> Support:
    """The program has the same formula."""
    return Support("exact", through)


def approximate(through: str, low: float | None = None, high: float | None = None) -> Support:
    """The program has the same idea with other numbers."""
    return Support("approximate", through, low, high)


SupportTable: TypeAlias = Mapping[str, Support]
"""Part of a recipe (`PARTS`) to how it is rendered."""


def support_table(**given: Support) -> SupportTable:
    """A table of every part; those not given are refused.

    Raises:
        RendererError: If a given part does not exist.
    """
    unknown = set(given) - set(PARTS)
    if unknown:
        raise RendererError(f"Unknown parts {sorted(unknown)}; a recipe has {', '.join(PARTS)}.")
    return {part: given.get(part, Support("none", "no counterpart")) for part in PARTS}


def without_idle(recipe: Recipe) -> Recipe:
    """The recipe without controls that change nothing as things stand: at their default, a radius without an amount."""
    kept = {name: value for name, value in recipe.controls.items() if not _is_idle(name, recipe)}
    return replace(recipe, controls=kept)


def refused(recipe: Recipe, table: SupportTable) -> dict[str, str]:
    """Parts of a recipe that a program cannot render, each with the reason. Give it `without_idle`."""
    reasons: dict[str, str] = {}
    for name, value in recipe.controls.items():
        support = table[name]
        if not support.takes(value):
            reasons[name] = f"{name} = {value:g} ({support.through})"
    asked = [*recipe.curves, *(["crop"] if recipe.crop else [])]
    if recipe.crop and recipe.crop.angle:
        asked.append("straighten")
    for name in asked:
        if table[name].how == "none":
            reasons[name] = f"{name} ({table[name].through})"
    if recipe.locals and table["locals"].how == "none":
        for local in recipe.locals:
            reasons[f"local:{local.name}"] = f"local adjustment {local.name!r} ({table['locals'].through})"
    return reasons


def leave_out(recipe: Recipe, parts: Iterable[str]) -> Recipe:
    """The recipe without the parts that `refused` names."""
    for part in parts:
        if part == "straighten" and recipe.crop:
            recipe = replace(recipe, crop=recipe.crop.model_copy(update={"angle": 0.0}))
        recipe = recipe.without(part)
    return recipe


def _is_idle(name: str, recipe: Recipe) -> bool:
    if recipe[name] == DEFAULTS[name]:
        return True
    group = name.split("_")[0]
    if group in ("sharpening", "vignette", "grain") and name != f"{group}_amount":
        return not recipe[f"{group}_amount"]
    if group == "bw":
        return not recipe["black_and_white"]
    if group == "grading":
        return _grading_is_idle(name, recipe)
    return False


def _grading_is_idle(name: str, recipe: Recipe) -> bool:
    if name.endswith("_hue"):
        return not recipe[name.replace("_hue", "_saturation")]
    if name in ("grading_balance", "grading_blending"):
        return not any(recipe[f"grading_{zone}_{what}"] for zone in ZONES for what in ("saturation", "luminance"))
    return False


def support_rows(tables: Mapping[str, SupportTable]) -> str:
    """Tables of several programs as one Markdown table, a row for each part; parts that all treat alike share one.

    Args:
        tables: Name of the program to its table.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for part in PARTS:
        cells = tuple(_cell(table[part]) for table in tables.values())
        groups.setdefault(cells, []).append(f"`{part}`")
    head = ["| part of a recipe |" + "".join(f" {name} |" for name in tables), "|---" * (1 + len(tables)) + "|"]
    return "\n".join(head + [f"| {', '.join(parts)} | {' | '.join(cells)} |" for cells, parts in groups.items()])


def _cell(support: Support) -> str:
    if support.how == "none":
        return f"none: {support.through}"
    low = "" if support.low is None else f"{support.low:g} and above"
    high = "" if support.high is None else f"{support.high:g} and below"
    bounds = f" ({low or high})" if low or high else ""
    return f"{support.how}{bounds}: {support.through}"
