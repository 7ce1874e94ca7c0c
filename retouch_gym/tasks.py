"""Tasks (what is to be done) and episodes (what was done about it)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import Renderer
from retouch_gym.types import JSON, Image, Photo, ToolCall


@dataclass(frozen=True, eq=False)
class Task:
    """One photo with one request. Holds no pixels: photos are loaded or rendered when asked for.

    Args:
        id: Unique in its dataset, stable across releases of the same dataset version.
        photo: The photo to retouch.
        instruction: What the user asks for.
        kind: Class of task, for breakdowns in evaluations, for instance ``"instruct"`` or ``"restore"``.
        reference: The photo as a good editor leaves it; hidden from the agent. None if there is none.
        recipe: A recipe known to lead (nearly) to the reference; hidden from the agent. None if unknown.
        reasoning: Short reasoning that leads to the recipe, for supervised training. May be empty.
        metadata: Anything else, JSON-able.
    """

    id: str
    photo: Photo
    instruction: str
    kind: str = "edit"
    reference: Photo | None = None
    recipe: Recipe | None = None
    reasoning: str = ""
    metadata: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    """One action of the agent: the calls it made, or why they were refused (then nothing was applied)."""

    calls: tuple[ToolCall, ...] = ()
    error: str | None = None


@dataclass(frozen=True, eq=False)
class Episode:
    """What a reward sees: the task, the photo before and after, the recipe, and every turn.

    Args:
        task: The task.
        source: Photo before any edit, uint8 (H, W, 3).
        image: Photo as it is now, uint8 of the same shape.
        recipe: The edit as it is now.
        renderer: The renderer that made `image`, for rewards that need to render again.
        turns: Every turn, refused ones included.
        finished: Whether the agent called ``finish`` (as against running out of turns).
    """

    task: Task
    source: Image
    image: Image
    recipe: Recipe
    renderer: Renderer
    turns: tuple[Turn, ...] = ()
    finished: bool = False

    @cached_property
    def reference(self) -> Image | None:
        """The reference photo, uint8 (H, W, 3), loaded once; None if the task has none."""
        return None if self.task.reference is None else self.task.reference.load()
