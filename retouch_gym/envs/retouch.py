"""The environment: retouch one photo by instruction, call by call."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import logger, spaces

from retouch_gym.datasets.base import Dataset, get_dataset
from retouch_gym.envs.drawing import side_by_side
from retouch_gym.envs.session import MAX_FEEDBACK, MAX_INSTRUCTION, Session
from retouch_gym.errors import ConfigurationError, DatasetError, RendererError, RewardError
from retouch_gym.renderers.base import Renderer, get_renderer
from retouch_gym.rewards.base import Reward, RewardOutput, get_reward, score_one
from retouch_gym.spaces import ImageSpace, PlanSpace, TextSpace
from retouch_gym.tasks import Episode
from retouch_gym.tools.toolset import Toolset, get_toolset
from retouch_gym.types import Action, Image

RESET_OPTIONS = ("task_id", "index")
"""Options that `RetouchEnv.reset` takes."""

METADATA: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 2}
"""What Gymnasium wants to know about rendering."""

MAX_RECIPE = 16_384
"""Most characters of the recipe's JSON in an observation."""


class RetouchEnv(gymnasium.Env[dict[str, Any], Action]):
    """Retouch a photo by instruction with tools that set sliders.

    ## Description
    The agent sees a photo and a request, such as "make it warmer and a little brighter". In each turn
    it calls tools of a toolset. The calls fold into a recipe: a later value of a slider replaces the
    earlier one, nothing is applied twice, and the photo is always rendered anew from the original. When
    the agent calls ``finish``, or its turns are used up, the result is scored. With ``max_turns=1`` the
    task is single-shot: one plan, one reward.

    ## Action Space
    `PlanSpace(toolset)`: a structured action, no text and no vector.

    | Action | Meaning |
    |---|---|
    | `ToolCall(name, arguments)` | one call |
    | list or tuple of `ToolCall` | a plan of at most 64 calls, applied together or not at all; one turn |
    | `Unparsable(reason, text)` | the agent's answer held no call; `reason` becomes feedback |

    With ``toolset="iea"`` there are 16 sliders that take ``{"value": int}``, −100..100 with 0 = untouched
    (fade and grain 0..100), and ``finish``. An unknown tool, a bad argument, or anything that is no action
    at all is never an exception: it costs a turn, changes nothing, and is explained in ``feedback`` and
    ``info["tool_error"]``.

    ## Observation Space
    A `Dict` of:

    | Key | Space | Meaning |
    |---|---|---|
    | image | uint8 (H, W, 3) | the photo as it is now, sRGB, 0..255 |
    | original | uint8 (H, W, 3) | the photo before any edit |
    | instruction | text | what the user asks for |
    | feedback | text, ≤ 2000 characters | what came of the last turn; empty at the start |
    | recipe | text | the sliders that are set, as a JSON object of name to value |
    | turns_left | 0..max_turns | turns until the episode ends by itself |

    H and W are the photo's and differ from task to task. The arrays are read-only views; copy them before
    writing. The task's reference and known recipe are hidden.

    ## Rewards
    0.0 before the end. At the end the value of the `Reward`, whose range depends on the reward: with
    ``"likeness"`` −1..1, 0 for the untouched photo and 1 for the reference exactly. A reward that fails
    raises `RewardError`; with ``on_reward_error="truncate"`` the step returns 0.0, truncated, and
    ``info["reward_valid"]`` is False: that 0.0 is a placeholder which a trainer has to mask.

    ``info`` always has ``task_id``, ``kind`` and ``tool_error`` (None or a text); at the end also
    ``finished``, ``recipe`` (a `Recipe`), ``reward_valid``, ``reward_components``, and, if the reward
    failed, ``reward_error``.

    ## Starting State
    A task drawn uniformly from the dataset by the environment's generator, with an empty recipe. The same
    seed gives the same episode bit for bit, in any process. ``reset(options={"task_id": "…"})`` or
    ``{"index": 3}`` chooses the task, so that a group of episodes can share one.

    ## Episode End
    Termination: the agent called ``finish`` (alone or in a plan), or no turns are left. The limit is part
    of the task and observed, so reaching it terminates and does not truncate; ``info["finished"]`` tells
    the two apart. Truncation: only for a reward or renderer that failed with
    ``on_reward_error="truncate"``.

    ## Arguments
    >>> import gymnasium, retouch_gym
    >>> from retouch_gym import ToolCall
    >>> env = gymnasium.make("Retouch/Retouch-v0", dataset="samples", reward="likeness", max_turns=4)
    >>> obs, info = env.reset(seed=0)
    >>> obs, reward, terminated, truncated, info = env.step(ToolCall("exposure", {"value": 400}))
    >>> info["tool_error"]
    'exposure: value = 400 should be less than or equal to 100'
    >>> obs, reward, terminated, truncated, info = env.step(
    ...     [ToolCall("exposure", {"value": 40}), ToolCall("temperature", {"value": -10})]
    ... )
    >>> obs["recipe"], obs["turns_left"]
    ('{"exposure": 40, "temperature": -10}', 2)
    >>> obs, reward, terminated, truncated, info = env.step(ToolCall("finish"))
    >>> terminated, info["finished"], -1 <= reward <= 1
    (True, True, True)

    Args:
        toolset: Name or `Toolset`.
        dataset: Name such as ``"samples"`` or ``"folder:photos/"``, ``"module:attribute"``, or a `Dataset`.
        dataset_kwargs: Options for a dataset given by name.
        reward: Name, ``"module:attribute"`` or a `Reward`.
        reward_kwargs: Options for a reward given by name.
        renderer: Name, ``"module:attribute"`` or a `Renderer`.
        max_turns: Turns of an episode, 1 or more.
        on_reward_error: ``"raise"``, or ``"truncate"`` to go on and mask.
        render_mode: None, ``"rgb_array"`` (before, after and reference side by side) or ``"ansi"``.

    Raises:
        ConfigurationError: If an argument is not known or the arguments do not go together.
        DatasetError: If the dataset cannot be found or is empty.

    ## Version History
    * v0: first release.
    """

    metadata = METADATA

    def __init__(
        self,
        toolset: str | Toolset = "iea",
        dataset: str | Dataset = "samples",
        dataset_kwargs: Mapping[str, Any] | None = None,
        reward: str | Reward = "likeness",
        reward_kwargs: Mapping[str, Any] | None = None,
        renderer: str | Renderer = "native",
        max_turns: int = 8,
        on_reward_error: Literal["raise", "truncate"] = "raise",
        render_mode: str | None = None,
    ) -> None:
        if not isinstance(max_turns, int) or max_turns < 1:
            raise ConfigurationError(f"max_turns is {max_turns!r}; expected a whole number of at least 1.")
        _one_of("on_reward_error", on_reward_error, ("raise", "truncate"))
        _one_of("render_mode", render_mode, (None, *METADATA["render_modes"]))
        self.toolset = get_toolset(toolset)
        self.renderer = get_renderer(renderer)
        self.reward = get_reward(reward, **(reward_kwargs or {}))
        self.dataset = get_dataset(dataset, **(dataset_kwargs or {}))
        self.max_turns = max_turns
        self.on_reward_error = on_reward_error
        self.render_mode = render_mode
        if self.toolset.name not in self.renderer.toolsets:
            raise ConfigurationError(
                f"Renderer {self.renderer.name!r} cannot render toolset {self.toolset.name!r}; "
                f"it renders {', '.join(sorted(self.renderer.toolsets))}."
            )
        if len(self.dataset) == 0:
            raise DatasetError(f"Dataset {self.dataset.name!r} (split {self.dataset.split!r}) has no tasks.")
        self.action_space = PlanSpace(self.toolset)
        self.observation_space = spaces.Dict(
            {
                "image": ImageSpace(),
                "original": ImageSpace(),
                "instruction": TextSpace(MAX_INSTRUCTION),
                "feedback": TextSpace(MAX_FEEDBACK),
                "recipe": TextSpace(MAX_RECIPE),
                "turns_left": spaces.Discrete(max_turns + 1),
            }
        )
        self._session: Session | None = None
        self._index = -1
        self._over = False

    @property
    def episode(self) -> Episode:
        """The episode so far, as a reward sees it.

        Raises:
            ResetNeeded: Before the first reset.
        """
        return self._started("read the episode").episode(self.renderer)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Seed of the environment's generator; None goes on with the one there is.
            options: ``{"task_id": str}`` or ``{"index": int}`` to choose the task; None or empty draws one.

        Returns:
            The observation, and an info with ``task_id``, ``kind`` and ``tool_error`` (None).

        Raises:
            ConfigurationError: For an unknown option, or a task without the reference that the reward needs.
            DatasetError: If there is no such task.
            ImageError: If its photo cannot be read.
            RendererError: If the photo cannot be rendered.
        """
        super().reset(seed=seed)
        index = self._choose(options or {})
        # Groups of episodes on one task follow each other: the photo is loaded once for all of them.
        last = self._session if index == self._index else None
        task = self.dataset[index] if last is None else last.task
        if task.reference is None and self.reward.needs_reference and self.on_reward_error == "raise":
            raise ConfigurationError(
                f"Reward {self.reward.name!r} compares with a reference, and task {task.id!r} has none. Choose a "
                "dataset with references, a reward that needs none, or on_reward_error='truncate'."
            )
        session = Session.start(self.toolset, self.max_turns, task, None if last is None else last.source)
        session.show(self._rendered(session))
        self._session, self._index, self._over = session, index, False
        return session.observation(), self._info(session)

    def step(self, action: Action) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Take one turn.

        Args:
            action: See "Action Space". Anything that is no valid action costs a turn and becomes feedback.

        Returns:
            Observation, reward (0.0 before the end), terminated, truncated, info.

        Raises:
            ResetNeeded: Before the first reset, or after the episode ended.
            RendererError: If the renderer fails and `on_reward_error` is ``"raise"``.
            RewardError: If the reward fails and `on_reward_error` is ``"raise"``.
        """
        session = self._started("step")
        if self._over:
            raise gymnasium.error.ResetNeeded("The episode is over. Call env.reset() to start the next one.")
        try:
            if session.act(action):
                session.show(self._rendered(session))
            output = score_one(self.reward, session.episode(self.renderer)) if session.over else None
        except (RewardError, RendererError) as error:
            # Raised or truncated, there is no way on from here: the photo no longer matches the recipe.
            self._over = True
            if self.on_reward_error == "raise":
                raise
            output = RewardOutput(None, error=str(error))
        info = self._info(session)
        if output is None:
            return session.observation(), 0.0, False, False, info
        self._over = True
        info |= self._outcome(session, output)
        reward = 0.0 if output.value is None else float(output.value)
        return session.observation(), reward, output.valid, not output.valid, info

    def render(self) -> Any:
        """Show the episode as `render_mode` says.

        Returns:
            ``"rgb_array"``: uint8 (H + 22, W', 3), before | after (| reference, if the task has one).
            ``"ansi"``: a text. None without a render mode.

        Raises:
            ResetNeeded: Before the first reset.
        """
        if self.render_mode is None:
            logger.warn(
                "render() was called without a render mode. "
                f'Use gymnasium.make("{self.spec.id if self.spec else "Retouch/Retouch-v0"}", render_mode="rgb_array").'
            )
            return None
        session = self._started("render")
        return self._picture(session) if self.render_mode == "rgb_array" else _text(session)

    def _picture(self, session: Session) -> Image:
        photos = [("before", session.source), ("after", session.image)]
        if session.task.reference is not None:
            photos.append(("reference", session.task.reference.load()))
        return side_by_side(photos)

    def _started(self, purpose: str) -> Session:
        if self._session is None:
            raise gymnasium.error.ResetNeeded(f"Cannot {purpose} before the first reset. Call env.reset() first.")
        return self._session

    def _choose(self, options: Mapping[str, Any]) -> int:
        for name in options:
            _one_of("reset option", name, RESET_OPTIONS)
        if len(options) > 1:
            raise ConfigurationError(f"reset options {dict(options)!r}: give either 'task_id' or 'index', not both.")
        if "task_id" in options:
            if not isinstance(options["task_id"], str):
                raise DatasetError(f"reset option 'task_id' is {options['task_id']!r}; expected a string.")
            return self.dataset.index_of(options["task_id"])
        count = len(self.dataset)
        index = options["index"] if "index" in options else self.np_random.integers(count)
        if not isinstance(index, int | np.integer) or not 0 <= index < count:
            raise DatasetError(f"reset option 'index' is {index!r}; {self.dataset.name!r} has tasks 0..{count - 1}.")
        return int(index)

    def _rendered(self, session: Session) -> Image:
        return self.renderer.render([session.source], [session.recipe])[0]

    def _info(self, session: Session) -> dict[str, Any]:
        return {"task_id": session.task.id, "kind": session.task.kind, "tool_error": session.tool_error}

    def _outcome(self, session: Session, output: RewardOutput) -> dict[str, Any]:
        outcome: dict[str, Any] = {
            "finished": session.finished,
            "recipe": session.recipe,
            "reward_valid": output.valid,
            "reward_components": dict(output.components),
        }
        return outcome if output.error is None else {**outcome, "reward_error": output.error}


def _one_of(name: str, value: object, known: Iterable[object]) -> None:
    choices = list(known)
    if value in choices:
        return
    close = difflib.get_close_matches(str(value), [choice for choice in choices if isinstance(choice, str)], n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ConfigurationError(f"Unknown {name} {value!r}.{hint} Known: {', '.join(map(repr, choices))}.")


def _text(session: Session) -> str:
    lines = [
        f"Task {session.task.id} ({session.task.kind}): {session.task.instruction}",
        f"Turn {len(session.turns)} of {session.max_turns}" + (", finished" if session.finished else ""),
        f"Recipe: {session.recipe.to_json()}",
        f"Feedback: {session.feedback or 'none yet'}",
    ]
    return "\n".join(lines) + "\n"
