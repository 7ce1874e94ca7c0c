"""The rules of one episode, apart from rendering and scoring.

`RetouchEnv` drives one session, a vector environment or an evaluation many, so that renders and rewards
can be batched without a second copy of the rules.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from retouch_gym.errors import DatasetError, ToolError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import Renderer
from retouch_gym.tasks import Episode, Task, Turn
from retouch_gym.tools.base import Effect, show
from retouch_gym.tools.toolset import Toolset
from retouch_gym.types import Image, ToolCall, Unparsable

MAX_INSTRUCTION = 65_536
"""Most characters of an instruction."""

MAX_FEEDBACK = 2_000
"""Most characters of feedback; the rest is cut, so that a bad answer cannot flood the next prompt."""


@dataclass
class Session:
    """One episode in progress.

    The order of use: `start`, then for each turn `act` followed, when it returns True, by `show` with
    the rendered recipe, until `over`.

    Args:
        toolset: What may be called.
        max_turns: Turns until the episode ends by itself.
        task: The task.
        source: Photo before any edit, uint8 (H, W, 3). Never written to.
        image: Photo as it is now, same shape. Never written to.
        recipe: The edit so far.
        turns: What was done, refused turns included.
        finished: Whether the agent ended the episode.
        feedback: What came of the last turn, in words.
    """

    toolset: Toolset
    max_turns: int
    task: Task
    source: Image
    image: Image
    recipe: Recipe
    turns: list[Turn] = field(default_factory=list)
    finished: bool = False
    feedback: str = ""

    @classmethod
    def start(cls, toolset: Toolset, max_turns: int, task: Task, source: Image | None = None) -> Session:
        """Begin with an empty recipe; `show` its rendering before observing.

        Args:
            toolset: What may be called.
            max_turns: Turns until the episode ends by itself.
            task: The task.
            source: The task's photo, if it is loaded already; None loads it.

        Raises:
            ImageError: If the photo cannot be read.
            DatasetError: If the instruction is too long.
        """
        if len(task.instruction) > MAX_INSTRUCTION:
            raise DatasetError(
                f"The instruction of task {task.id!r} has {len(task.instruction)} characters; "
                f"at most {MAX_INSTRUCTION} are allowed. Shorten it in the dataset."
            )
        photo = task.photo.load() if source is None else source
        return cls(toolset, max_turns, task, photo, photo, Recipe(toolset.name))

    @property
    def turns_left(self) -> int:
        """Turns until the episode ends by itself, 0..max_turns."""
        return self.max_turns - len(self.turns)

    @property
    def over(self) -> bool:
        """Whether the agent finished or its turns are used up."""
        return self.finished or self.turns_left <= 0

    @property
    def tool_error(self) -> str | None:
        """Why the last turn was refused; None if it was not, or there was none yet."""
        return self.turns[-1].error if self.turns else None

    def act(self, action: object) -> bool:
        """Take one action: validate, fold it into the recipe, note the turn and its feedback.

        What is wrong with an action is feedback and never raises; a refused action changes nothing.

        Args:
            action: A `ToolCall`, a list or tuple of them (all or nothing; an empty one does nothing),
                or `Unparsable`. Anything else is refused.

        Returns:
            Whether the recipe changed, so that the photo is to be rendered again.
        """
        calls: tuple[ToolCall, ...] = tuple(call for call in _as_plan(action) if isinstance(call, ToolCall))
        try:
            effects = self._parse(action)
        except ToolError as error:
            problem = clip(str(error))
            self.turns.append(Turn(calls, problem))
            self.feedback = clip(f"Refused, nothing was changed: {problem}")
            return False
        before = self.recipe
        self.recipe = before.apply(effects, self.toolset)
        self.finished = any(effect.finish for effect in effects)
        self.turns.append(Turn(calls))
        self.feedback = clip(_describe(effects))
        return self.recipe != before

    def show(self, image: Image) -> None:
        """Take the rendering of `recipe` as the photo as it is now."""
        self.image = image

    def _parse(self, action: object) -> list[Effect]:
        if isinstance(action, Unparsable):
            reason = action.reason if isinstance(action.reason, str) else show(action.reason)
            raise ToolError(reason or "no tool call could be read from the answer")
        return self.toolset.parse_plan(_as_plan(action))

    def observation(self) -> dict[str, Any]:
        """What the agent sees. The photos are read-only views: copy them before writing into them."""
        return {
            "image": _read_only(self.image),
            "original": _read_only(self.source),
            "instruction": self.task.instruction,
            "feedback": self.feedback,
            "recipe": json.dumps(dict(self.recipe.controls), allow_nan=False),
            "turns_left": self.turns_left,
        }

    def episode(self, renderer: Renderer) -> Episode:
        """What a reward sees."""
        return Episode(
            task=self.task,
            source=self.source,
            image=self.image,
            recipe=self.recipe,
            renderer=renderer,
            turns=tuple(self.turns),
            finished=self.finished,
        )


def clip(text: str, limit: int = MAX_FEEDBACK) -> str:
    """Cut a text to `limit` characters and replace what UTF-8 cannot hold."""
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def _as_plan(action: object) -> Sequence[object]:
    return action if isinstance(action, list | tuple) else (action,)


def _describe(effects: Sequence[Effect]) -> str:
    applied: dict[str, float] = {}
    for effect in effects:
        applied.update(effect.controls)
    parts = [f"Applied {', '.join(f'{name} = {value:g}' for name, value in applied.items())}."] if applied else []
    if any(effect.finish for effect in effects):
        parts.append("Finished.")
    return " ".join(parts) or "Nothing was called; call finish when the photo is as requested."


def _read_only(image: Image) -> Image:
    view = image.view()
    view.flags.writeable = False
    return view
