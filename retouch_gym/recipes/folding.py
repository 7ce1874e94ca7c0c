"""How calls change the parts of a recipe that are more than a number: its crop and its local adjustments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pydantic

from retouch_gym.adjustments.local import MAX_LOCALS, MAX_PARTS, Crop, LocalAdjustment
from retouch_gym.errors import ToolError
from retouch_gym.tools.base import Effect, LocalChange
from retouch_gym.tools.toolset import Toolset


def change_crop(crop: Crop | None, parts: Mapping[str, float]) -> Crop:
    """The crop with some of its sides, or its angle, set.

    Raises:
        ToolError: If its left side would not be left of the right one, or its top not above its bottom.
    """
    before = Crop() if crop is None else crop
    try:
        return Crop(**{**before.model_dump(), **parts})
    except pydantic.ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ToolError(f"crop: {reason}; sides that are not given stay as they are") from None


def fold_locals(
    adjustments: Sequence[LocalAdjustment], effects: Sequence[Effect], toolset: Toolset
) -> tuple[LocalAdjustment, ...]:
    """Fold effects into local adjustments; the order of those that stay is kept.

    Args:
        adjustments: What the recipe has.
        effects: Effects with `local` or `change`, in order.
        toolset: Whose local controls they set.

    Raises:
        ToolError: If an adjustment is changed that is not there, a mask begins with something other than an
            addition, a new mask is left without anything to do, or there are too many shapes or adjustments.
    """
    found = {adjustment.name: adjustment for adjustment in adjustments}
    begun: list[str] = []
    for effect in effects:
        if effect.local is not None:
            found[effect.local.name] = effect.local
        if effect.change is not None:
            begun += [effect.change.name] if effect.change.name not in found else []
            _change(found, effect.change, toolset)
    for name in begun:
        if name in found and not found[name].controls:
            raise ToolError(
                f"local adjustment {name!r} has a mask and sets nothing; give it at least one control in the same "
                f"plan: {', '.join(control.name for control in toolset.local_controls)}"
            )
    count = sum(bool(adjustment.controls) for adjustment in found.values())
    if count > MAX_LOCALS:
        raise ToolError(f"{count} local adjustments are too many; at most {MAX_LOCALS} are allowed, remove one")
    return tuple(found.values())


def _change(found: dict[str, LocalAdjustment], change: LocalChange, toolset: Toolset) -> None:
    """Carry out one change in `found`."""
    old = found.get(change.name)
    if old is None and (change.remove or change.part is None):
        there = ", ".join(map(repr, found)) or "none"
        raise ToolError(f"there is no local adjustment named {change.name!r} (there are: {there}); begin it by a mask")
    if change.remove:
        del found[change.name]
        return
    if old is None and change.part is not None and change.part.op != "add":
        raise ToolError(
            f"op = {change.part.op!r}: local adjustment {change.name!r} has no mask yet; begin it with op 'replace'"
        )
    values = {**(old.controls if old else {}), **change.controls}
    defaults = {control.name: control.default for control in toolset.local_controls}
    before = () if old is None or change.anew else old.parts
    parts = (*before, change.part) if change.part else before
    if len(parts) > MAX_PARTS:
        raise ToolError(
            f"the mask of local adjustment {change.name!r} would have {len(parts)} shapes; at most {MAX_PARTS} are "
            "allowed, begin it anew with op 'replace'"
        )
    found[change.name] = LocalAdjustment(
        name=change.name,
        parts=parts,
        controls={name: value for name, value in values.items() if value != defaults.get(name)},
        amount=change.amount if change.amount is not None else old.amount if old else 1.0,
    )
