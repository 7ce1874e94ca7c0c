"""Tasks (what is to be done) and episodes (what was done about it)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias, get_args

from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import Renderer
from retouch_gym.types import JSON, Image, Photo, ToolCall

Mode: TypeAlias = Literal["edit", "refine", "summary", "match", "transfer"]
"""What is asked of the agent.

| mode | the agent sees | and is to |
|---|---|---|
| edit | a photo, a request | edit the photo |
| refine | an edited photo, the old request, a new request | change the edit |
| summary | a photo before and after | say what was asked for |
| match | a photo, and the goal | edit the photo until it looks like the goal |
| transfer | a photo, and another photo before and after | edit the photo likewise |
"""

MODES: tuple[Mode, ...] = get_args(Mode)
"""Every mode."""


@dataclass(frozen=True, eq=False)
class Task:
    """One photo with one request. Holds no pixels: photos are loaded or rendered when asked for.

    Args:
        id: Unique in its dataset, stable across releases of the same dataset version.
        photo: The photo to retouch; in a summary the one before.
        instruction: What the user asks for.
        mode: What is asked of the agent. See `Mode`.
        kind: Class of task, for breakdowns in evaluations, for instance ``"instruct"`` or ``"restore"``.
        context: Further photos that the agent sees: the goal (match), an example before and after
            (transfer), the photo after (summary).
        start: The recipe that the episode begins with (refine). None for an empty one.
        history: Earlier requests, the oldest first (refine).
        answer: The words that are asked for (summary); hidden from the agent.
        reference: The photo as a good editor leaves it; hidden from the agent. None if there is none.
        recipe: A recipe known to lead (nearly) to the reference; hidden from the agent. None if unknown.
        reasoning: Short reasoning that leads to the recipe, for supervised training. May be empty.
        metadata: Anything else, JSON-able.
    """

    id: str
    photo: Photo
    instruction: str
    mode: Mode = "edit"
    kind: str = "edit"
    context: tuple[Photo, ...] = ()
    start: Recipe | None = None
    history: tuple[str, ...] = ()
    answer: str = ""
    reference: Photo | None = None
    recipe: Recipe | None = None
    reasoning: str = ""
    metadata: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    """One action of the agent: the calls it made, or why they were refused (then nothing was applied).

    Args:
        calls: The calls, in order. What JSON cannot hold is replaced by words.
        error: Why they were refused; None if they were not.
        text: The answer as written, where the agent writes text.
        parsed: Whether tool calls could be read from the answer. A call that is refused was parsed.
    """

    calls: tuple[ToolCall, ...] = ()
    error: str | None = None
    text: str | None = None
    parsed: bool = True


Memo: TypeAlias = "dict[str, tuple[Task, Image, float]]"
"""What was computed of which task and photo, by name."""


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
        finished: Whether the agent or a satisfied user ended the episode (as against running out of turns).
        requests: What the user asked for, the first request first; one unless a user takes part.
        answer: What the agent said (summary); None if it said nothing.
        memo: What was computed of the task's own photos; shared by all episodes of a task in memory. See
            `remember`.
    """

    task: Task
    source: Image
    image: Image
    recipe: Recipe
    renderer: Renderer
    turns: tuple[Turn, ...] = ()
    finished: bool = False
    requests: tuple[str, ...] = ()
    answer: str | None = None
    memo: Memo = field(default_factory=dict, repr=False)

    def remember(self, name: str, compute: Callable[[], float]) -> float:
        """A number that depends on the task's photos alone, computed once for all episodes of the task.

        Args:
            name: What it is, unique among everything that is remembered.
            compute: Computes it.
        """
        found = self.memo.get(name)
        # An episode made from another by replacing its task or photo brings that one's memo along.
        if found is None or found[0] is not self.task or found[1] is not self.source:
            found = (self.task, self.source, compute())
            self.memo[name] = found
        return found[2]

    @cached_property
    def reference(self) -> Image | None:
        """The reference photo, uint8 (H, W, 3), loaded once; None if the task has none."""
        return None if self.task.reference is None else self.task.reference.load()
