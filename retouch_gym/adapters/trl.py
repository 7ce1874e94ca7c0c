"""The environment for TRL's `GRPOTrainer(environment_factory=…)`, with photos as tool results.

TRL (1.16) turns every public method of an environment's class into a tool, calls ``reset(**row)`` before a
rollout, appends what it returns to the user's message, and runs the tool calls that the model writes. So
the class here is generated from a toolset: its public methods are the tools and ``reset``, nothing else.

>>> from retouch_gym.adapters.trl import reward_function, task_rows, tool_environment
>>> factory = tool_environment(dataset="samples", reward="likeness", max_turns=4)
>>> environment = factory()
>>> request = environment.reset(**task_rows(factory, limit=1)[0])
>>> [block["type"] for block in request]
['image', 'text']
>>> environment.exposure(value=400)
'Refused, nothing was changed: exposure: value = 400 should be less than or equal to 100 (turns left: 3)'
>>> text, photo = environment.exposure(value=20)
>>> text["text"], photo["image"].size
('Applied exposure = 20. (turns left: 2)', (64, 64))
>>> environment.finish()
'Finished. (the episode is over)'
>>> reward, = reward_function([environment])
>>> -1 <= reward <= 1
True

With TRL and datasets installed (``pip install 'retouch-gym[trl]'``)::

    factory = tool_environment(dataset="samples", max_turns=8)
    trainer = GRPOTrainer(
        model,
        args=GRPOConfig(max_completion_length=2048, max_tool_calling_iterations=8, ...),
        train_dataset=datasets.Dataset.from_list(task_rows(factory)),
        environment_factory=factory,
        reward_funcs=reward_function,
    )

Neither TRL, datasets, torch nor transformers is imported here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np

from retouch_gym.adapters.blocks import Block, BlockView, Content
from retouch_gym.adapters.signatures import as_method
from retouch_gym.datasets.base import Dataset, get_dataset
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.envs.session import clip
from retouch_gym.errors import ConfigurationError, RetouchError, RewardError
from retouch_gym.rewards.base import Reward, RewardOutput, get_reward, score_batch
from retouch_gym.spaces import PlanSpace
from retouch_gym.tasks import Episode
from retouch_gym.types import JSON, ToolCall

__all__ = [
    "SYSTEM",
    "ToolEnvironment",
    "ToolEnvironmentFactory",
    "episode_of",
    "reward_function",
    "score",
    "task_rows",
    "tool_environment",
]

SYSTEM = (
    "You retouch a photo as the user asks. Call one tool at a time, look at the photo that it returns, "
    "correct what is not right yet, and call finish when the photo is as requested."
)
"""Default system message of `task_rows`."""

REFUSAL = "Refused: the episode is over and the photo is handed in. Answer without a tool call."
"""What a tool returns after the end of an episode."""

_LOGGER = logging.getLogger(__name__)
_MAX_RESULT = 400
_RESERVED = frozenset({"reset", "get_reward"})


class _Later(Reward):
    """Holds the reward's place while episodes run, so that all rollouts of a step are scored in one batch."""

    range = (0.0, 0.0)

    def __init__(self, reward: Reward) -> None:
        self.name = reward.name
        self.needs_reference = reward.needs_reference

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Zeros that nobody reads."""
        return [RewardOutput(0.0) for _ in episodes]


class ToolEnvironment:
    """One rollout at a time; what TRL calls an environment. Subclasses are generated and add the tools.

    Every public name is a tool of the toolset or `reset`: TRL offers all public methods to the model. A tool
    takes keywords, costs a turn and never raises because of what the model wrote: an unknown or bad argument
    comes back as a text, and so does any call after the end of the episode (`REFUSAL`). An accepted call
    returns a text and the photo as it is now, a list of two content blocks; the call that ends the episode
    returns a text alone, for there is nothing left to look at.
    """

    def __init__(self, env: RetouchEnv, reward: Reward, view: BlockView, raises: bool, seed: int | None) -> None:
        self._env = env
        self._reward = reward
        self._view = view
        self._raises = raises
        self._seed = seed
        self._asked = ("", "")
        self._over = False
        self._output: RewardOutput | None = None

    def reset(self, task_id: str | None = None, seed: int | None = None, **row: Any) -> list[Block]:
        """Begin an episode.

        Args:
            task_id: The task; None draws one, and then the rollouts of a group do not share it.
            seed: Seed of whatever the task draws; None goes on with the generator there is.
            row: The other columns of the dataset's row; not used.

        Returns:
            Content blocks that TRL appends to the user's message: the photo and the request.

        Raises:
            RetouchError: If the task, its photo or its reference is missing.
        """
        options = None if task_id is None else {"task_id": task_id}
        observation, _ = self._env.reset(seed=self._seed if seed is None else seed, options=options)
        self._seed, self._output, self._over = None, None, False
        self._asked = _asked(observation)
        return self._view.ask(observation)

    def _call(self, name: str, arguments: dict[str, JSON]) -> Content:
        if self._over:
            return REFUSAL
        try:
            observation, _, terminated, truncated, info = self._env.step(ToolCall(name, arguments))
        except RetouchError as error:
            # Not the model's doing: TRL would show the error to it and train on.
            return self._fail(str(error))
        if truncated:
            return self._fail(str(info.get("reward_error")))
        self._over = terminated
        text = clip(observation["feedback"], _MAX_RESULT)
        if terminated:
            return self._view.answer(f"{text} (the episode is over)", None)
        if _asked(observation) != self._asked:
            self._asked = _asked(observation)
            text = f"{text}\nThe user now asks: {clip(observation['instruction'], _MAX_RESULT)}\n"
        image = observation["image"] if info["tool_error"] is None else None
        return self._view.answer(f"{text} (turns left: {observation['turns_left']})", image)

    def _fail(self, reason: str) -> str:
        self._over, self._output = True, RewardOutput(None, error=reason)
        return "The photo could not be rendered; the episode is over. Answer without a tool call."

    def _close(self, output: RewardOutput) -> None:
        # What was scored stays as it was scored.
        self._over, self._output = True, output


def _asked(observation: Mapping[str, Any]) -> tuple[str, str]:
    return observation["instruction"], observation.get("history", "")


class ToolEnvironmentFactory:
    """Makes environments for TRL: call it without arguments. Picklable; made by `tool_environment`.

    Attributes:
        environment_class: The generated class: the tools and ``reset``.
    """

    def __init__(self, view: BlockView, reward: Reward, seed: int | None, options: dict[str, Any]) -> None:
        self._arguments = view, reward, seed, options
        self._env = RetouchEnv(reward=_Later(reward), **options)
        self._built = 0
        toolset = cast(PlanSpace, self._env.action_space).toolset
        methods: dict[str, Any] = {
            spec.name: as_method(spec, ToolEnvironment._call, _RESERVED) for spec in toolset.specs
        }
        methods["__doc__"] = f"The tools of {toolset.name!r} for TRL. See `ToolEnvironment`."
        self.environment_class: type[ToolEnvironment] = type("RetouchTools", (ToolEnvironment,), methods)

    @property
    def dataset(self) -> Dataset:
        """Where the tasks come from."""
        return self._env.dataset

    def __call__(self) -> ToolEnvironment:
        """The next environment; the k-th draws from a generator of its own, from (seed, k)."""
        view, reward, seed, options = self._arguments
        raises = options["on_reward_error"] == "raise"
        if seed is not None:
            seed = int(np.random.SeedSequence((seed, self._built)).generate_state(1)[0])
        self._built += 1
        return self.environment_class(self._env.spawn(), reward, view, raises, seed)

    def __reduce__(self) -> tuple[type[ToolEnvironmentFactory], tuple[Any, ...]]:
        # A class made at run time cannot be pickled by reference; it is made again.
        return (ToolEnvironmentFactory, self._arguments)


def tool_environment(
    *,
    image_feedback: bool = True,
    longest: int | None = 448,
    request: str = "{photos}{history}{recipe}Request: {instruction}",
    special_tokens: Sequence[str] = (),
    seed: int | None = None,
    reward: str | Reward = "likeness",
    reward_kwargs: Mapping[str, Any] | None = None,
    on_reward_error: Literal["raise", "truncate"] = "truncate",
    **options: Any,
) -> ToolEnvironmentFactory:
    """What to hand to ``GRPOTrainer(environment_factory=…)``.

    TRL calls tools one by one, so each call is a turn, also where a model writes several at once. It drops a
    tool result that no longer fits ``max_completion_length`` after the environment has moved on: keep
    `longest` small and the limit generous (a photo of 448×448 is 196 tokens for Qwen3-VL). Set
    ``max_tool_calling_iterations`` to at least `max_turns`.

    Args:
        image_feedback: Whether an accepted call returns the photo as it is now, beside the text.
        longest: Photos are shown with the longer side at most this many pixels, never enlarged; None shows
            them whole. The edit itself and the reward are always of the whole photo.
        request: Text of the user's message behind the photos, with the fields ``{photos}`` (a line that says which
            is which; empty for one), ``{history}`` (a line of earlier requests; empty if there were none),
            ``{recipe}`` (a line of the sliders that are set; empty for none), ``{instruction}`` and ``{turns_left}``.
        special_tokens: Taken out of every text, for instance ``tokenizer.all_special_tokens``, so that neither a
            request nor an echoed argument can end a turn or announce a photo. Anything of the form ``<|…|>``
            is taken out always.
        seed: Seed for tasks that are drawn rather than named by a ``task_id`` column.
        reward: As of `RetouchEnv`. It scores all rollouts of a generation in one batch, in `reward_function`.
        reward_kwargs: Options for a reward given by name.
        on_reward_error: ``"truncate"`` gives a rollout whose reward or renderer failed no reward (None, which
            TRL masks); ``"raise"`` raises in `reward_function`.
        options: Any other argument of `RetouchEnv`: toolset, dataset, max_turns, renderer, user, …

    Raises:
        ConfigurationError: If an argument is not known, or a tool cannot be a method (its name is ``reset``,
            ``get_reward``, private or no Python name).
        DatasetError: If the dataset cannot be found or is empty.
    """
    if options.get("reward_mode", "final") != "final":
        raise ConfigurationError(
            f"reward_mode is {options['reward_mode']!r}; TRL takes one reward for a whole rollout. Leave it at 'final'."
        )
    view = BlockView(image_feedback, longest, request, tuple(special_tokens))
    options["on_reward_error"] = on_reward_error
    return ToolEnvironmentFactory(view, get_reward(reward, **(reward_kwargs or {})), seed, options)


def task_rows(
    source: ToolEnvironmentFactory | str | Dataset, *, system: str = SYSTEM, limit: int | None = None, **options: Any
) -> list[dict[str, Any]]:
    """The rows of TRL's training dataset; ``datasets.Dataset.from_list(rows)`` makes one.

    A row names its task and holds no photo: the environment adds photo and request to the user's message when
    the rollout starts. So rows are small whatever the photos weigh, and nothing is compressed on the way.

    Args:
        source: The environments' factory, whose tasks these are then for sure; or a dataset or its name.
        system: System message; empty for none.
        limit: Only the first tasks; None takes all.
        options: Options for a dataset given by name.

    Returns:
        For every task ``{"prompt": messages, "task_id": str, "seed": int}``. All rollouts of a row start alike.

    Raises:
        ConfigurationError: If the dataset's name or an option is not known.
        DatasetError: If the dataset cannot be found.
    """
    dataset = source.dataset if isinstance(source, ToolEnvironmentFactory) else source
    tasks = get_dataset(dataset, **options)
    count = len(tasks) if limit is None else min(limit, len(tasks))
    opening = [{"role": "system", "content": system}] if system else []
    return [
        {"prompt": [*opening, {"role": "user", "content": ""}], "task_id": tasks.id_of(index), "seed": index}
        for index in range(count)
    ]


def episode_of(environment: ToolEnvironment) -> Episode:
    """The episode of a rollout so far, for reward functions of your own.

    Raises:
        ResetNeeded: Before the first reset.
    """
    return environment._env.episode


def score(environments: Sequence[ToolEnvironment]) -> list[RewardOutput]:
    """Score rollouts, one batched call for each reward; a second call returns the same and costs nothing.

    A rollout in which the model stopped before ``finish`` is scored as the photo is, as when turns run out.

    Returns:
        One output for each, in order. Where the reward or the renderer failed it has an error and no value.

    Raises:
        RewardError: If one failed and `on_reward_error` is ``"raise"``.
        ResetNeeded: Before the first reset.
    """
    waiting: dict[int, list[ToolEnvironment]] = {}
    for environment in environments:
        if environment._output is None:
            waiting.setdefault(id(environment._reward), []).append(environment)
    for group in waiting.values():
        try:
            outputs = score_batch(group[0]._reward, [episode_of(environment) for environment in group])
        except RewardError as error:
            outputs = [RewardOutput(None, error=str(error)) for _ in group]
        for environment, output in zip(group, outputs, strict=True):
            environment._close(output)
    return [_checked(environment) for environment in environments]


def reward_function(
    environments: Sequence[object], log_metric: Callable[[str, float], None] | None = None, **_: Any
) -> list[float | None]:
    """What to hand to ``GRPOTrainer(reward_funcs=…)``.

    Args:
        environments: One for each completion; TRL passes them.
        log_metric: TRL's logger. Gets the means of the reward's components, of ``finished`` and ``unscored``.

    Returns:
        The rewards, None where the environment is not of this adapter or could not be scored: TRL masks these.

    Raises:
        RewardError: If a reward failed and `on_reward_error` is ``"raise"``.
    """
    ours = [environment for environment in environments if isinstance(environment, ToolEnvironment)]
    outputs = score(ours)
    values = {id(environment): output.value for environment, output in zip(ours, outputs, strict=True)}
    if log_metric is not None and ours:
        parts: dict[str, list[float]] = {
            "finished": [float(episode_of(environment).finished) for environment in ours],
            "unscored": [float(not output.valid) for output in outputs],
        }
        for output in outputs:
            for name, value in output.components.items():
                parts.setdefault(name, []).append(value)
        for name, numbers in parts.items():
            log_metric(f"retouch/{name}", float(np.mean(numbers)))
    return [values.get(id(environment)) for environment in environments]


def _checked(environment: ToolEnvironment) -> RewardOutput:
    output = environment._output
    assert output is not None
    if output.error is not None:
        problem = f"Task {episode_of(environment).task.id!r} could not be scored: {output.error}"
        if environment._raises:
            raise RewardError(problem)
        _LOGGER.warning("%s. The rollout is masked.", problem)
    return output
