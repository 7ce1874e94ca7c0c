"""The rules of one episode, apart from rendering and scoring.

`Engine` drives one session (`RetouchEnv`) or many (`RetouchVectorEnv`), an evaluation drives its own, so that
renders and rewards can be batched without a second copy of the rules.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from retouch_gym.chat.describing import describe_effects
from retouch_gym.errors import DatasetError, ToolError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import Renderer
from retouch_gym.tasks import Episode, Memo, Task, Turn
from retouch_gym.tools.base import Effect, show
from retouch_gym.tools.toolset import SUMMARY, Toolset
from retouch_gym.types import Image, ToolCall, Unparsable

MAX_INSTRUCTION = 65_536
"""Most characters of an instruction."""

MAX_FEEDBACK = 2_000
"""Most characters of feedback; the rest is cut, so that a bad answer cannot flood the next prompt."""


@dataclass(frozen=True)
class Moment:
    """What the agent saw before a turn, apart from pixels.

    Args:
        recipe: The edit as it was.
        feedback: What came of the turn before, in words; empty at the start.
        requests: How many requests had been made.
    """

    recipe: Recipe
    feedback: str = ""
    requests: int = 1


@dataclass
class Session:
    """One episode in progress.

    The order of use: `start`, `show` the rendered recipe, then for each turn `act`, `show` when it returned
    True, and, where a user takes part, `hear` what the user says, until `over`.

    Args:
        toolset: What may be called in an editing task.
        max_turns: Turns until the episode ends by itself.
        task: The task.
        source: Photo before any edit, uint8 (H, W, 3). Never written to.
        image: Photo as it is now, same shape. Never written to.
        moments: What the agent saw before the first turn and after each turn.
        requests: What the user asked for, the last request last.
        turns: What was done, refused turns included.
        finished: Whether the agent or a satisfied user ended the episode.
        answer: What the agent said (summary).
        changes: The recipes that `undo` goes back through, the last one first taken.
        photos: The photo at each moment, for views that show the whole conversation; empty where none does.
        keep_photos: Whether `photos` is kept.
        memo: See `Episode.memo`.
    """

    toolset: Toolset
    max_turns: int
    task: Task
    source: Image
    image: Image
    moments: list[Moment]
    requests: list[str]
    turns: list[Turn] = field(default_factory=list)
    finished: bool = False
    answer: str | None = None
    changes: list[Recipe] = field(default_factory=list)
    photos: list[Image] = field(default_factory=list)
    keep_photos: bool = False
    memo: Memo = field(default_factory=dict)

    @classmethod
    def start(
        cls,
        toolset: Toolset,
        max_turns: int,
        task: Task,
        source: Image | None = None,
        *,
        keep_photos: bool = False,
        memo: Memo | None = None,
    ) -> Session:
        """Begin with the task's first recipe; `show` its rendering before observing.

        Args:
            toolset: What may be called.
            max_turns: Turns until the episode ends by itself.
            task: The task.
            source: The task's photo, if it is loaded already; None loads it.
            keep_photos: Whether to keep the photo of every turn.
            memo: What other episodes of the task remember. See `Episode.memo`.

        Raises:
            ImageError: If the photo cannot be read.
            DatasetError: If the instruction is too long.
            RecipeError: If the task begins with a recipe of another toolset.
        """
        if len(task.instruction) > MAX_INSTRUCTION:
            raise DatasetError(
                f"The instruction of task {task.id!r} has {len(task.instruction)} characters; "
                f"at most {MAX_INSTRUCTION} are allowed. Shorten it in the dataset."
            )
        recipe = Recipe(toolset.name) if task.start is None else task.start.check(toolset)
        photo = task.photo.load() if source is None else source
        first, requests = Moment(recipe), [task.instruction]
        session = cls(toolset, max_turns, task, photo, photo, [first], requests, keep_photos=keep_photos)
        session.memo = {} if memo is None else memo
        return session

    @property
    def tools(self) -> Toolset:
        """What may be called in this task."""
        return SUMMARY if self.task.mode == "summary" else self.toolset

    @property
    def recipe(self) -> Recipe:
        """The edit so far."""
        return self.moments[-1].recipe

    @property
    def feedback(self) -> str:
        """What came of the last turn, in words."""
        return self.moments[-1].feedback

    @property
    def turns_left(self) -> int:
        """Turns until the episode ends by itself, 0..max_turns."""
        return self.max_turns - len(self.turns)

    @property
    def over(self) -> bool:
        """Whether the episode was ended or its turns are used up."""
        return self.finished or self.turns_left <= 0

    @property
    def tool_error(self) -> str | None:
        """Why the last turn was refused; None if it was not, or there was none yet."""
        return self.turns[-1].error if self.turns else None

    @property
    def history(self) -> tuple[str, ...]:
        """Earlier requests, the oldest first."""
        return (*self.task.history, *self.requests[:-1])

    def act(self, action: object, text: str | None = None) -> bool:
        """Take one action: validate, fold it into the recipe, note the turn and its feedback.

        What is wrong with an action is feedback and never raises; a refused action changes nothing.

        Args:
            action: A `ToolCall`, a list or tuple of them (all or nothing; an empty one does nothing),
                or `Unparsable`. Anything else is refused.
            text: The answer as written, where the agent writes text.

        Returns:
            Whether the recipe changed, so that the photo is to be rendered again.
        """
        calls = tuple(call for call in _as_plan(action) if isinstance(call, ToolCall))
        before = self.recipe
        try:
            effects = self._parse(action)
            recipe, changes = self._fold(effects)
        except ToolError as error:
            problem = clip(str(error))
            plain = tuple(_plain(call) for call in calls)
            self.turns.append(Turn(plain, problem, text, not isinstance(action, Unparsable)))
            recipe, feedback = before, f"Refused, nothing was changed: {problem}"
        else:
            self.changes = changes
            self.finished = any(effect.finish for effect in effects)
            self.answer = next((effect.text for effect in effects if effect.text is not None), self.answer)
            self.turns.append(Turn(calls, None, text))
            feedback = _describe(effects)
        self.moments.append(Moment(recipe, clip(feedback), len(self.requests)))
        changed = recipe != before
        if self.keep_photos and not changed:
            self.photos.append(self.image)
        return changed

    def show(self, image: Image) -> None:
        """Take the rendering of `recipe` as the photo as it is now."""
        self.image = image
        if self.keep_photos:
            self.photos.append(image)

    def hear(self, request: str | None) -> None:
        """Take what the user says of the last turn: a next request, or None when content."""
        self.finished = request is None
        if request is not None:
            self.requests.append(clip(request, MAX_INSTRUCTION))
            self.moments[-1] = replace(self.moments[-1], requests=len(self.requests))

    def _parse(self, action: object) -> list[Effect]:
        if isinstance(action, Unparsable):
            reason = action.reason if isinstance(action.reason, str) else show(action.reason)
            raise ToolError(reason or "no tool call could be read from the answer")
        return self.tools.parse_plan(_as_plan(action))

    def _fold(self, effects: Sequence[Effect]) -> tuple[Recipe, list[Recipe]]:
        """The recipe after a plan, and what can be undone then."""
        recipe, changes = self.recipe, list(self.changes)
        for undone, run in itertools.groupby(effects, key=lambda effect: effect.undo):
            if not undone:
                # What one plan sets is taken back as one change.
                after = recipe.apply(run, self.toolset)
                changes += [recipe] if after != recipe else []
                recipe = after
                continue
            for _ in run:
                if not changes:
                    raise ToolError("undo: there is nothing to take back")
                recipe = changes.pop()
        return recipe, changes

    def branch(self) -> Session:
        """The same episode once more, to go on from here differently. Photos are shared: nobody writes to them."""
        return replace(
            self,
            moments=list(self.moments),
            requests=list(self.requests),
            turns=list(self.turns),
            changes=list(self.changes),
            photos=list(self.photos),
        )

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
            requests=tuple(self.requests),
            answer=self.answer,
            memo=self.memo,
        )


def clip(text: str, limit: int = MAX_FEEDBACK) -> str:
    """Cut a text to `limit` characters and replace what UTF-8 cannot hold."""
    clean = text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def _as_plan(action: object) -> Sequence[object]:
    return action if isinstance(action, list | tuple) else (action,)


def _plain(call: ToolCall) -> ToolCall:
    """The call as JSON holds it, so that every turn can be written down; what JSON cannot hold is told in words."""
    try:
        written = json.dumps([call.name, call.arguments], allow_nan=False)
        held = [str(call.name), dict(call.arguments)]
        if len(written) <= MAX_FEEDBACK and json.loads(written) == held:
            return call
    except (TypeError, ValueError, RecursionError):
        pass
    name = clip(call.name, 60) if isinstance(call.name, str) else show(call.name)
    return ToolCall(name, {"unreadable": clip(show(call.arguments))})


def _describe(effects: Sequence[Effect]) -> str:
    applied = describe_effects(effects)
    parts = [f"Applied {applied}."] if applied else []
    undone = sum(effect.undo for effect in effects)
    if undone:
        parts.insert(0, "Took back the last change." if undone == 1 else f"Took back the last {undone} changes.")
    if any(effect.finish for effect in effects):
        parts.append("Finished.")
    return " ".join(parts) or "Nothing was called; call finish when the photo is as requested."
