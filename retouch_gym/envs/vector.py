"""The vector environments: many episodes, one batched render and one batched reward per step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from numpy.typing import NDArray

from retouch_gym.envs.base import METADATA
from retouch_gym.envs.drawing import as_picture, as_text
from retouch_gym.envs.engine import one_of
from retouch_gym.envs.options import EnvOptions, make_engine
from retouch_gym.envs.slots import Outcome, Slot, running
from retouch_gym.envs.state import dump_slot, load_slot
from retouch_gym.envs.view import StructuredView, View
from retouch_gym.errors import ConfigurationError, StateError
from retouch_gym.tasks import Episode
from retouch_gym.types import JSON

VECTOR_OPTIONS = ("autoreset_mode", "group_size", "threads", "prefetch")
"""Arguments that only vector environments take."""

Step = tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class BaseRetouchVectorEnv(VectorEnv[Any, Any, Any]):
    """What the vector environments have in common; they differ in their `View`. See `RetouchVectorEnv`."""

    def __init__(
        self,
        view: View,
        num_envs: int = 1,
        *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        group_size: int = 1,
        threads: int = 1,
        prefetch: bool = True,
        **options: Unpack[EnvOptions],
    ) -> None:
        self.closed = True  # nothing to close should this not get to its end
        for name, value in (("num_envs", num_envs), ("group_size", group_size)):
            if not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"{name} is {value!r}; expected a whole number of at least 1.")
        if num_envs % group_size:
            raise ConfigurationError(f"num_envs = {num_envs} is no multiple of group_size = {group_size}.")
        modes = {mode.value: mode for mode in AutoresetMode}
        wanted = autoreset_mode.value if isinstance(autoreset_mode, AutoresetMode) else autoreset_mode
        one_of("autoreset_mode", wanted, modes)
        self.render_mode = options.get("render_mode")
        one_of("render_mode", self.render_mode, (None, *METADATA["render_modes"]))
        self.num_envs = num_envs
        self.group_size = group_size
        self.autoreset_mode = modes[wanted]
        self.metadata = {**METADATA, "autoreset_mode": self.autoreset_mode}
        self.engine = make_engine(view, options, prefetch=prefetch, threads=threads)
        self.single_action_space = self.engine.view.action_space()
        self.single_observation_space = self.engine.view.observation_space()
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        if self.engine.reward.scope == "group" and group_size == 1:
            raise ConfigurationError(
                f"Reward {self.engine.reward.name!r} ranks the episodes of a task: give a group_size of at least 2."
            )
        self._slots = [Slot(rng, group=n // group_size) for n, rng in enumerate(self._generators(None))]
        self._observations: list[Any] = [None] * num_envs
        self.closed = False

    @property
    def episodes(self) -> list[Episode]:
        """The episode of each environment so far, as a reward sees it.

        Raises:
            ResetNeeded: Before the first reset.
        """
        sessions = [running(slot, ended=True, purpose="read the episodes") for slot in self._slots]
        return [session.episode(self.engine.renderer) for session in sessions]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in each environment.

        Args:
            seed: An integer s seeds group k with s + k (so environment k where group_size is 1), as
                Gymnasium's vector environments do; a sequence gives each environment its own; None goes on
                with the generators there are.
            options: ``"index"`` or ``"task_id"`` choose the tasks, one for all or a sequence with one for each
                environment. ``"reset_mask"``, a bool array (num_envs,), leaves the others as they are.

        Returns:
            Batched observations and infos.

        Raises:
            ConfigurationError: For an unknown option, or a task without the reference that the reward needs.
            DatasetError: If there is no such task.
            ImageError: If a photo cannot be read.
            RendererError: If a photo cannot be rendered.
        """
        super().reset(seed=None)
        given = dict(options or {})
        mask = self._mask(given.pop("reset_mask", None))
        if seed is not None:
            for slot, number, rng in zip(self._slots, range(self.num_envs), self._generators(seed), strict=True):
                if mask[number] and rng is not None:
                    slot.rng = rng
        chosen = [number for number in range(self.num_envs) if mask[number]]
        self._begin(chosen, given)
        infos: dict[str, Any] = {}
        for number in chosen:
            infos = self._add_info(infos, self.engine.info(self._slots[number]), number)
        return self._batched(), infos

    def step(self, actions: Any) -> Step:
        """Take one turn in each environment.

        An episode that is over begins anew as `autoreset_mode` says: in the next step, whose action is then
        ignored and whose reward is 0; in the same step, with the last observation and info in
        ``infos["final_obs"]`` and ``infos["final_info"]``; or only by ``reset(options={"reset_mask": …})``.

        Args:
            actions: One action for each environment. See "Action Space".

        Returns:
            Batched observations, rewards float64 (num_envs,), terminations and truncations bool (num_envs,), infos.

        Raises:
            ResetNeeded: Before the first reset, or if episodes are over and there is no autoreset.
            RendererError: If a render fails and `on_reward_error` is ``"raise"``: reset before going on.
            RewardError: Likewise for the reward.
        """
        given = self._one_each(actions)
        ended = [number for number, slot in enumerate(self._slots) if slot.over]
        if ended and self.autoreset_mode is not AutoresetMode.NEXT_STEP:
            raise gymnasium.error.ResetNeeded(
                f'The episodes of environments {ended} are over. Call reset(options={{"reset_mask": mask}}) first.'
            )
        live = [number for number, slot in enumerate(self._slots) if not slot.over]
        outcomes = self.engine.advance([self._slots[n] for n in live], [given[n] for n in live])
        results = [Outcome() for _ in self._slots]
        for number, outcome in zip(live, outcomes, strict=True):
            results[number] = outcome
            self._observations[number] = self.engine.observe(self._slots[number])
        infos: dict[str, Any] = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            ended = [number for number, slot in enumerate(self._slots) if slot.over]
            for number in ended:
                final = {"final_obs": self._observations[number], "final_info": results[number].info}
                infos = self._add_info(infos, final, number)
        if ended:
            self._begin(ended, {})
            for number in ended:
                results[number].info = self.engine.info(self._slots[number])
        for number, result in enumerate(results):
            infos = self._add_info(infos, result.info, number)
        rewards = np.array([result.reward for result in results], dtype=np.float64)
        terminations = np.array([result.terminated for result in results], dtype=np.bool_)
        truncations = np.array([result.truncated for result in results], dtype=np.bool_)
        return self._batched(), rewards, terminations, truncations, infos

    def render(self) -> tuple[Any, ...] | None:
        """One frame (or text) for each environment; None without a render mode.

        Raises:
            ResetNeeded: Before the first reset.
        """
        if self.render_mode is None:
            return None
        draw = as_text if self.render_mode == "ansi" else as_picture
        return tuple(draw(running(slot, ended=True, purpose="render")) for slot in self._slots)

    def get_state(self) -> list[dict[str, JSON]]:
        """The state of each environment, JSON-able; each fits a single environment as well."""
        return [dump_slot(self.engine, slot) for slot in self._slots]

    def set_state(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Go on exactly where a vector environment with the same arguments was.

        Raises:
            StateError: If the states do not fit; everything then stays as it was.
        """
        if len(states) != self.num_envs:
            raise StateError(f"Got {len(states)} states for {self.num_envs} environments.")
        self._slots = [load_slot(self.engine, state) for state in states]
        for number, slot in enumerate(self._slots):
            slot.group = number // self.group_size
        self._observations = [self.engine.observe(slot) if slot.session else None for slot in self._slots]

    def close_extras(self, **kwargs: Any) -> None:
        """Stop background threads and drop cached photos."""
        self.engine.close()

    def _begin(self, numbers: Sequence[int], options: Mapping[str, Any]) -> None:
        slots = [self._slots[number] for number in numbers]
        each = [{name: self._for_one(name, value, number) for name, value in options.items()} for number in numbers]
        self.engine.begin(slots, [self.engine.choose(slot, own) for slot, own in zip(slots, each, strict=True)])
        for number in numbers:
            self._observations[number] = self.engine.observe(self._slots[number])
        self.engine.expect_next(self._slots)

    def _for_one(self, name: str, value: Any, number: int) -> Any:
        if isinstance(value, str | int | np.integer):
            return value
        if not isinstance(value, Sequence | np.ndarray) or len(value) != self.num_envs:
            raise ConfigurationError(f"reset option {name!r} is {value!r}; expected one value or {self.num_envs}.")
        return value[number]

    def _mask(self, mask: Any) -> NDArray[np.bool_]:
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        array = np.asarray(mask)
        if array.dtype != np.bool_ or array.shape != (self.num_envs,) or not array.any():
            raise ConfigurationError(f"reset_mask is {mask!r}; expected {self.num_envs} bools, not all False.")
        groups = array.reshape(-1, self.group_size)
        if self.engine.reward.scope == "group" and (groups.any(axis=1) != groups.all(axis=1)).any():
            raise ConfigurationError(
                f"reset_mask cuts a group of {self.group_size}, which reward {self.engine.reward.name!r} has to score "
                "whole. Reset all environments of a group or none."
            )
        return array

    def _generators(self, seed: int | Sequence[int | None] | None) -> Iterator[Any]:
        """A generator for each environment; None where a sequence leaves one as it is."""
        if isinstance(seed, Sequence):
            if len(seed) != self.num_envs:
                raise ConfigurationError(f"Got {len(seed)} seeds for {self.num_envs} environments.")
            return iter([None if own is None else seeding.np_random(own)[0] for own in seed])
        groups = range(self.num_envs // self.group_size)
        # Members of a group draw the same tasks because their generators are equal, not because they share one.
        seeds = [seeding.np_random(None if seed is None else seed + group)[1] for group in groups]
        return iter([seeding.np_random(seeds[n // self.group_size])[0] for n in range(self.num_envs)])

    def _one_each(self, actions: Any) -> list[Any]:
        given = list(iterate(self.action_space, actions))
        if len(given) != self.num_envs:
            raise ConfigurationError(f"Got {len(given)} actions for {self.num_envs} environments.")
        return given

    def _batched(self) -> Any:
        empty = create_empty_array(self.single_observation_space, self.num_envs)
        return concatenate(self.single_observation_space, self._observations, empty)


class RetouchVectorEnv(BaseRetouchVectorEnv):
    """Many `RetouchEnv` in one: ``gymnasium.make_vec("Retouch/Retouch-v0", num_envs=16)``.

    Environment i plays exactly what a single `RetouchEnv` reset with its seed would, bit for bit; but a step
    renders all photos in one batch and scores all finished episodes in one batch, so that a GPU renderer or
    a judge behind HTTP works at its best. Observations are batched as `gymnasium.vector.SyncVectorEnv` does:
    tuples for photos and texts, arrays for numbers; photos are read-only views, nothing is copied.

    Args:
        num_envs: Number of environments.
        autoreset_mode: When an episode that is over begins anew. See `step`.
        group_size: Environments k·G … k·G + G − 1 get the same tasks in the same order, for group-relative
            advantages (GRPO). With ``reset(seed=s)`` group k is seeded with s + k.
        threads: Threads that render, and score where the reward `splits`; 1 calls the renderer once with the whole
            batch.
        prefetch: Whether the photos of the next tasks are read in a background thread.
        options: The arguments of `RetouchEnv`.

    Raises:
        ConfigurationError: If an argument is not known or the arguments do not go together.
        DatasetError: If the dataset cannot be found or is empty.

    Example:
        >>> import gymnasium, retouch_gym
        >>> from retouch_gym import ToolCall
        >>> envs = gymnasium.make_vec("Retouch/Retouch-v0", num_envs=4, group_size=2, max_turns=1)
        >>> observations, infos = envs.reset(seed=0)
        >>> infos["task_id"][0] == infos["task_id"][1] != infos["task_id"][2]
        True
        >>> plans = [ToolCall("exposure", {"value": value}) for value in (-20, 0, 20, 40)]
        >>> observations, rewards, terminations, truncations, infos = envs.step(plans)
        >>> rewards.shape, terminations.all().item()
        ((4,), True)
    """

    def __init__(self, num_envs: int = 1, **options: Any) -> None:
        super().__init__(StructuredView(), num_envs, **options)
