"""Views: how an agent sees a session, and how what it does is read.

The rules, the rendering and the scoring are the same for every view; a view only translates.
"""

from __future__ import annotations

import copy
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, TypeVar

from gymnasium import Space, spaces

from retouch_gym.chat.describing import describe_recipe
from retouch_gym.envs.session import MAX_FEEDBACK, MAX_INSTRUCTION, Session
from retouch_gym.spaces import ImageSpace, PlanSpace, TextSpace
from retouch_gym.tasks import MODES, Mode
from retouch_gym.tools.toolset import SUMMARY, Toolset
from retouch_gym.types import Image

MAX_RECIPE = 1 << 17
"""Most characters of the recipe's JSON in an observation."""

MAX_HISTORY = 1 << 20
"""Most characters of the earlier requests in an observation."""

AnyView = TypeVar("AnyView", bound="View")


@dataclass(frozen=True)
class Rules:
    """What a view has to know of an environment.

    Args:
        toolset: What may be called in an editing task.
        max_turns: Turns of an episode.
        modes: What may be asked of the agent.
    """

    toolset: Toolset
    max_turns: int
    modes: tuple[Mode, ...]

    @property
    def tools(self) -> Toolset:
        """Whatever may be called in any task."""
        if set(self.modes) == {"summary"}:
            return SUMMARY
        extra = SUMMARY.tools if "summary" in self.modes else ()
        return Toolset(self.toolset.name, (*self.toolset.tools, *extra)) if extra else self.toolset


class View(ABC):
    """Translates between a session and what an agent sees and does. Keeps nothing between calls; picklable.

    Attributes:
        rules: The environment's rules, from `bind` on.
        keeps_photos: Whether it shows the photo of every turn.
    """

    rules: Rules
    keeps_photos: bool = False

    def bind(self: AnyView, rules: Rules) -> AnyView:
        """The view of an environment with these rules.

        Raises:
            ConfigurationError: If it cannot show what the rules ask for.
        """
        bound = copy.copy(self)
        bound.rules = rules
        return bound

    @abstractmethod
    def observation_space(self) -> Space[Any]:
        """The space of `observe`."""

    @abstractmethod
    def action_space(self) -> Space[Any]:
        """The space of `read`."""

    @abstractmethod
    def observe(self, session: Session) -> Any:
        """What the agent sees."""

    @abstractmethod
    def read(self, action: Any, session: Session) -> tuple[object, str | None]:
        """The `Action` that the agent's action stands for, and its text where it is one. Never raises.

        What stands for no action becomes `Unparsable`.
        """

    def info(self, session: Session) -> dict[str, Any]:
        """What the view adds to ``info``."""
        return {}


class StructuredView(View):
    """Tool calls as they are, photos at their size: `Retouch/Retouch-v0`."""

    def observation_space(self) -> Space[Any]:
        """A `Dict`; see the manual of `RetouchEnv`."""
        return spaces.Dict(
            {
                "image": ImageSpace(),
                "original": ImageSpace(),
                "context": spaces.Sequence(ImageSpace()),
                "task": TextSpace(max(map(len, MODES))),
                "instruction": TextSpace(MAX_INSTRUCTION),
                "history": TextSpace(MAX_HISTORY),
                "feedback": TextSpace(MAX_FEEDBACK),
                "recipe": TextSpace(MAX_RECIPE),
                "turns_left": spaces.Discrete(self.rules.max_turns + 1),
            }
        )

    def action_space(self) -> Space[Any]:
        """Valid calls and plans."""
        return PlanSpace(self.rules.tools)

    def observe(self, session: Session) -> dict[str, Any]:
        """What the agent sees. The photos are read-only views: copy them before writing into them."""
        return {
            "image": read_only(session.image),
            "original": read_only(session.source),
            "context": tuple(read_only(photo.load()) for photo in session.task.context),
            "task": session.task.mode,
            "instruction": session.requests[-1],
            "history": json.dumps(session.history) if session.history else "[]",
            "feedback": session.feedback,
            "recipe": describe_recipe(session.recipe),
            "turns_left": session.turns_left,
        }

    def read(self, action: Any, session: Session) -> tuple[object, str | None]:
        """The action itself."""
        return action, None


def read_only(image: Image) -> Image:
    """A view of a photo that cannot be written into."""
    view = image.view()
    view.flags.writeable = False
    return view
