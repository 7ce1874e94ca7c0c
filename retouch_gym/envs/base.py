"""What the environments have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, Unpack

import gymnasium
from gymnasium import logger

from retouch_gym.datasets.base import Dataset
from retouch_gym.envs.drawing import as_picture, as_text
from retouch_gym.envs.engine import one_of
from retouch_gym.envs.options import EnvOptions, make_engine
from retouch_gym.envs.session import Session
from retouch_gym.envs.slots import Outcome, Slot, running
from retouch_gym.envs.state import dump_slot, load_slot
from retouch_gym.envs.view import View
from retouch_gym.errors import ConfigurationError
from retouch_gym.renderers.base import Renderer
from retouch_gym.rewards.base import Reward
from retouch_gym.tasks import Episode
from retouch_gym.tools.toolset import Toolset
from retouch_gym.types import JSON

Env = TypeVar("Env", bound="BaseRetouchEnv")

METADATA: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 2}
"""What Gymnasium wants to know about rendering."""


class BaseRetouchEnv(gymnasium.Env[Any, Any]):
    """What the environments have in common; they differ in their `View`. See `RetouchEnv` for the arguments."""

    metadata = METADATA

    def __init__(self, view: View, **options: Unpack[EnvOptions]) -> None:
        self.render_mode = options.get("render_mode")
        one_of("render_mode", self.render_mode, (None, *METADATA["render_modes"]))
        self.engine = make_engine(view, options)
        self.action_space = self.engine.view.action_space()
        self.observation_space = self.engine.view.observation_space()
        self._slot = Slot(self.np_random)

    @property
    def toolset(self) -> Toolset:
        """What may be called in an editing task."""
        return self.engine.toolset

    @property
    def dataset(self) -> Dataset:
        """Where the tasks come from."""
        return self.engine.dataset

    @property
    def reward(self) -> Reward:
        """What scores."""
        return self.engine.reward

    @property
    def renderer(self) -> Renderer:
        """What renders."""
        return self.engine.renderer

    @property
    def max_turns(self) -> int:
        """Turns of an episode."""
        return self.engine.max_turns

    @property
    def observation(self) -> Any:
        """What the agent sees now, as `reset` and `step` return it.

        Raises:
            ResetNeeded: Before the first reset.
        """
        self._started("observe")
        return self.engine.observe(self._slot)

    @property
    def episode(self) -> Episode:
        """The episode so far, as a reward sees it.

        Raises:
            ResetNeeded: Before the first reset.
        """
        return self._started("read the episode").episode(self.renderer)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Seed of the environment's generator; None goes on with the one there is.
            options: ``{"task_id": str}`` or ``{"index": int}`` to choose the task; None or empty draws one.

        Returns:
            The observation, and an info with ``task_id``, ``kind`` and ``tool_error`` (None).

        Raises:
            ConfigurationError: For an unknown option, a task without the reference that the reward needs, or a reward
                that ranks groups, of which a single environment sees one episode.
            DatasetError: If there is no such task.
            ImageError: If its photo cannot be read.
            RendererError: If the photo cannot be rendered.
        """
        if self.reward.scope == "group":
            raise ConfigurationError(
                f"Reward {self.reward.name!r} ranks the episodes of a task, and a single environment plays one. Use "
                "gymnasium.make_vec(…, num_envs=8, group_size=8), or GRPO's runner, which scores groups whole."
            )
        self._begin(seed, options or {})
        return self.engine.observe(self._slot), self.engine.info(self._slot)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one turn.

        Args:
            action: See "Action Space". Anything that is no valid action costs a turn and becomes feedback.

        Returns:
            Observation, reward, terminated, truncated, info.

        Raises:
            ResetNeeded: Before the first reset, or after the episode ended.
            RendererError: If the renderer fails and `on_reward_error` is ``"raise"``.
            RewardError: If the reward fails and `on_reward_error` is ``"raise"``.
        """
        outcome = self.engine.advance([self._slot], [action])[0]
        observation = self.engine.observe(self._slot)
        return observation, outcome.reward, outcome.terminated, outcome.truncated, outcome.info

    def get_state(self) -> dict[str, JSON]:
        """The episode in progress and the generator of the tasks, JSON-able. See `retouch_gym.envs.state`.

        The action space's own generator, which only `action_space.sample` uses, is not part of it.
        """
        return dump_slot(self.engine, self._slot)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where an environment with the same arguments was, in this or another process.

        Raises:
            StateError: If the state does not fit this environment; it then stays as it was.
        """
        self._slot = load_slot(self.engine, state)
        self.np_random = self._slot.rng

    def spawn(self: Env, *, same_state: bool = False) -> Env:
        """Another environment with the same dataset, reward, renderer and cached photos, to branch off.

        Args:
            same_state: Whether it goes on from here; otherwise it has to be reset.
        """
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__dict__)
        # Not the generator: it would be shared.
        copy._np_random, copy._np_random_seed = None, None
        copy._slot = self._slot.branch() if same_state else Slot(copy.np_random)
        if same_state:
            copy.np_random = copy._slot.rng
        return copy

    def spawn_group(
        self: Env, count: int, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> list[Env]:
        """Environments that all stand at the beginning of the same episode, to be played with `step_together`.

        Args:
            count: How many.
            seed: See `reset`, as for `options`; each would begin the same episode if it were reset with it.
            options: Which task.

        Raises:
            ConfigurationError: For an unknown option, or a task without the reference that the reward needs.
            DatasetError: If there is no such task.
            ImageError: If its photo cannot be read.
            RendererError: If the photo cannot be rendered.
        """
        first = self.spawn()
        first._begin(seed, options or {})
        first._slot.group = object()
        return [first, *(first.spawn(same_state=True) for _ in range(count - 1))]

    def render(self) -> Any:
        """The episode as the render mode says.

        Returns:
            ``"rgb_array"``: uint8 (H + 22, W, 3), before, after and reference (where there is one) side by side,
            each under its caption. ``"ansi"``: text. None without a render mode.

        Raises:
            ResetNeeded: Before the first reset.
        """
        if self.render_mode is None:
            logger.warn(
                "render() was called on an environment without a render mode. Pass "
                'render_mode="rgb_array" or "ansi" to gymnasium.make().'
            )
            return None
        session = self._started("render")
        return as_text(session) if self.render_mode == "ansi" else as_picture(session)

    def close(self) -> None:
        """Drop cached photos."""
        self.engine.close()

    def _begin(self, seed: int | None, options: Mapping[str, Any]) -> None:
        super().reset(seed=seed)
        self._slot.rng = self.np_random
        self.engine.begin([self._slot], [self.engine.choose(self._slot, options)])

    def _started(self, purpose: str) -> Session:
        return running(self._slot, ended=True, purpose=purpose)


def step_together(envs: Sequence[BaseRetouchEnv], actions: Sequence[Any]) -> list[Outcome]:
    """Take one turn in each of several environments: one batched render and one batched reward.

    Each comes to exactly what its own `step` would, but for failures, which do not raise: an episode that could not be
    rendered or scored is truncated, its ``info["reward_valid"]`` False, and its neighbours keep their rewards.

    Args:
        envs: Environments that were spawned from one another.
        actions: One for each.

    Returns:
        Reward, terminated, truncated and info of each; what the agent sees then is its `observation`.

    Raises:
        ConfigurationError: If the environments do not belong together.
        ResetNeeded: Before the first reset, or after an episode ended.
    """
    if len(envs) != len(actions) or any(env.engine is not envs[0].engine for env in envs):
        raise ConfigurationError(
            f"step_together got {len(envs)} environments and {len(actions)} actions; expected one action for each, and "
            "environments that share one engine. Make them with spawn or spawn_group."
        )
    return envs[0].engine.attempt([env._slot for env in envs], actions)[0] if envs else []
