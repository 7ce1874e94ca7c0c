"""Many episodes at once: one batched render and one batched reward per step.

`RetouchEnv` is a batch of one and `RetouchVectorEnv` a batch of many, so that a vectorised episode is the single
one, bit for bit.
"""

from __future__ import annotations

import difflib
from collections import UserDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from retouch_gym.datasets.base import Dataset
from retouch_gym.envs.scoring import REWARD_MODES, RewardMode, Scorer
from retouch_gym.envs.session import Session
from retouch_gym.envs.slots import Outcome, Slot, peek, running
from retouch_gym.envs.sources import Source, SourceCache
from retouch_gym.envs.view import Rules, View
from retouch_gym.envs.workers import Workers
from retouch_gym.errors import ConfigurationError, DatasetError, ImageError, RendererError, RetouchError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import Renderer
from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.tools.toolset import Toolset
from retouch_gym.types import Image
from retouch_gym.users.base import User

OnError: TypeAlias = Literal["raise", "truncate"]

RESET_OPTIONS = ("task_id", "index")
"""Options that `reset` takes."""


class Engine:
    """Plays episodes in slots. See `RetouchEnv` for the arguments."""

    def __init__(
        self,
        *,
        toolset: Toolset,
        dataset: Dataset,
        reward: Reward,
        renderer: Renderer,
        user: User | None,
        view: View,
        max_turns: int,
        reward_mode: RewardMode,
        discount: float,
        on_reward_error: OnError,
        cache_mb: float,
        prefetch: bool = False,
        threads: int = 1,
    ) -> None:
        if not isinstance(max_turns, int) or max_turns < 1:
            raise ConfigurationError(f"max_turns is {max_turns!r}; expected a whole number of at least 1.")
        one_of("on_reward_error", on_reward_error, ("raise", "truncate"))
        one_of("reward_mode", reward_mode, REWARD_MODES)
        if toolset.name not in renderer.toolsets:
            raise ConfigurationError(
                f"Renderer {renderer.name!r} cannot render toolset {toolset.name!r}; "
                f"it renders {', '.join(sorted(renderer.toolsets))}."
            )
        if len(dataset) == 0:
            raise DatasetError(f"Dataset {dataset.name!r} (split {dataset.split!r}) has no tasks.")
        self.toolset, self.dataset, self.reward, self.renderer = toolset, dataset, reward, renderer
        self.user, self.max_turns, self.on_reward_error = user, max_turns, on_reward_error
        self.workers = Workers(threads)
        self.scorer = Scorer(reward, renderer, reward_mode, discount, max_turns, self.workers)
        self.sources = SourceCache(dataset, round(cache_mb * 2**20), prefetch=prefetch)
        self.view = view.bind(Rules(toolset, max_turns, dataset.modes))

    def choose(self, slot: Slot, options: Mapping[str, Any]) -> int:
        """The index of the task that the options name, or a drawn one.

        Raises:
            ConfigurationError: For an unknown option.
            DatasetError: If there is no such task.
        """
        for name in options:
            one_of("reset option", name, RESET_OPTIONS)
        if len(options) > 1:
            raise ConfigurationError(f"reset options {dict(options)!r}: give either 'task_id' or 'index', not both.")
        if "task_id" in options:
            if not isinstance(options["task_id"], str):
                raise DatasetError(f"reset option 'task_id' is {options['task_id']!r}; expected a string.")
            return self.dataset.index_of(options["task_id"])
        count = len(self.dataset)
        index = options["index"] if "index" in options else slot.rng.integers(count)
        if not isinstance(index, int | np.integer) or not 0 <= index < count:
            raise DatasetError(f"reset option 'index' is {index!r}; {self.dataset.name!r} has tasks 0..{count - 1}.")
        return int(index)

    def begin(self, slots: Sequence[Slot], indices: Sequence[int]) -> None:
        """Begin an episode in each slot; where anything fails, every slot stays as it was.

        Raises:
            ConfigurationError: If a task lacks the reference that the reward needs.
            ImageError: If a photo cannot be read.
            RendererError: If a photo cannot be rendered.
            RewardError: If turns are paid and the untouched photo cannot be scored.
        """
        sessions = [self._open(index) for index in indices]
        images, failures = self._render(sessions)
        for image, session in zip(images, sessions, strict=True):
            if image is None:
                raise next(iter(failures.values()))
            session.show(image)
        values = self.scorer.first_values(sessions, strict=self.on_reward_error == "raise")
        for slot, session, index, value in zip(slots, sessions, indices, values, strict=True):
            slot.session, slot.index, slot.over, slot.value = session, index, False, value
            slot.user_seed = int(slot.rng.integers(2**31)) if self.user is not None else 0

    def expect_next(self, slots: Sequence[Slot]) -> None:
        """Load the tasks that the slots will draw next, meanwhile."""
        if self.sources.prefetch:
            self.sources.expect(peek(slot.rng, len(self.dataset)) for slot in slots)

    def advance(self, slots: Sequence[Slot], actions: Sequence[Any]) -> list[Outcome]:
        """Take one turn in each slot.

        Raises:
            RendererError: If a render fails and errors are raised. Every failed episode is over then.
            RewardError: Likewise for the reward.
        """
        outcomes, failures = self.attempt(slots, actions)
        if failures and self.on_reward_error == "raise":
            raise failures[min(failures)]
        return outcomes

    def attempt(self, slots: Sequence[Slot], actions: Sequence[Any]) -> tuple[list[Outcome], dict[int, RetouchError]]:
        """Take one turn in each slot, whatever `on_reward_error` says.

        Returns:
            What each turn came to, and why those failed that could not be rendered or scored: they are truncated,
            without a reward, and their ``info["reward_valid"]`` is False.
        """
        sessions = [running(slot) for slot in slots]
        changed = [
            session.act(*self.view.read(action, session)) for session, action in zip(sessions, actions, strict=True)
        ]
        moved = [number for number, moves in enumerate(changed) if moves]
        images, failed = self._render([sessions[number] for number in moved])
        failures = {moved[number]: error for number, error in failed.items()}
        for number, image in zip(moved, images, strict=True):
            if image is not None:
                sessions[number].show(image)
        if self.user is not None:
            self._ask_user(self.user, slots, failures)
        outputs = self.scorer.score(slots, failures)
        for number in failures:
            # Raised or truncated, there is no way on from here: the photo no longer matches the recipe.
            slots[number].over = True
        outcomes = [self._outcome(slot, outputs.get(number), failures.get(number)) for number, slot in enumerate(slots)]
        return outcomes, failures

    def info(self, slot: Slot) -> dict[str, Any]:
        """The ``info`` of a running episode."""
        session = running(slot, ended=True)
        info = {"task_id": session.task.id, "kind": session.task.kind, "tool_error": session.tool_error}
        return info | self.view.info(session)

    def observe(self, slot: Slot) -> Any:
        """What the agent sees."""
        return self.view.observe(running(slot, ended=True))

    def close(self) -> None:
        """Stop background threads and drop cached photos."""
        self.sources.close()
        self.workers.close()

    def _open(self, index: int) -> Session:
        source = self.sources.get(index)
        task = source.task
        if task.reference is None and self.reward.needs_reference and self.on_reward_error == "raise":
            raise ConfigurationError(
                f"Reward {self.reward.name!r} compares with a reference, and task {task.id!r} has none. Choose a "
                "dataset with references, a reward that needs none, or on_reward_error='truncate'."
            )
        return self.start(source)

    def start(self, source: Source) -> Session:
        """A new session of a task in memory."""
        keep, photo = self.view.keeps_photos, source.photo
        return Session.start(self.toolset, self.max_turns, source.task, photo, keep_photos=keep, memo=source.memo)

    def _render(self, sessions: Sequence[Session]) -> tuple[list[Image | None], dict[int, RetouchError]]:
        """The photo of each session, None where it failed, and why."""
        return self.render([session.source for session in sessions], [session.recipe for session in sessions])

    def render(
        self, photos: Sequence[Image], recipes: Sequence[Recipe]
    ) -> tuple[list[Image | None], dict[int, RetouchError]]:
        """Render a batch, on several threads if asked to; find out whose fault it is where it fails."""
        try:
            rendered: list[Image] = self.workers.call(self.renderer.render, photos, recipes)
            return [*rendered], {}
        except (RendererError, ImageError):
            pass
        images: list[Image | None] = []
        failures: dict[int, RetouchError] = {}
        for number, (photo, recipe) in enumerate(zip(photos, recipes, strict=True)):
            try:
                images.append(self.renderer.render([photo], [recipe])[0])
            except (RendererError, ImageError) as error:
                images.append(None)
                failures[number] = error
        return images, failures

    def _ask_user(self, user: User, slots: Sequence[Slot], failures: Mapping[int, RetouchError]) -> None:
        asked = []
        for number, slot in enumerate(slots):
            session = running(slot)
            # A refused turn changed nothing: the request stands.
            if number not in failures and session.tool_error is None:
                asked.append((slot, session))
        if not asked:
            return
        episodes = [session.episode(self.renderer) for _, session in asked]
        replies = user.reply(episodes, [slot.user_seed for slot, _ in asked])
        for (_, session), reply in zip(asked, replies, strict=True):
            session.hear(reply)

    def _outcome(self, slot: Slot, output: RewardOutput | None, failure: RetouchError | None) -> Outcome:
        session = running(slot, ended=True)
        info = self.info(slot)
        if failure is not None:
            closing = self._closing(session, output) | {"reward_valid": False, "reward_error": str(failure)}
            return Outcome(0.0, False, True, info | closing)
        reward = self.scorer.pay(slot, output)
        slot.over = session.over
        if session.over and output is not None:
            info |= self._closing(session, output) | {"reward_valid": True}
        return Outcome(reward, session.over, False, info)

    def _closing(self, session: Session, output: RewardOutput | None) -> dict[str, Any]:
        valid = output is not None and output.valid
        return {
            "finished": session.finished,
            "recipe": session.recipe,
            "reward_components": dict(output.components) if output is not None and valid else {},
            # No dict: Gymnasium's vector environments would make an array of every key, whatever its type in each.
            "reward_details": UserDict({} if output is None else output.details),
        }


def one_of(name: str, value: object, known: Iterable[object]) -> None:
    """Refuse a value that is none of the known ones.

    Raises:
        ConfigurationError: With the closest known one.
    """
    choices = list(known)
    if value in choices:
        return
    close = difflib.get_close_matches(str(value), [choice for choice in choices if isinstance(choice, str)], n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ConfigurationError(f"Unknown {name} {value!r}.{hint} Known: {', '.join(map(repr, choices))}.")
