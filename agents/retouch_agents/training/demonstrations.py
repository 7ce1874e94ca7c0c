"""Right answers for environments that write the conversation themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retouch_agents.training.config import EnvironmentConfig
from retouch_agents.training.start import open_environment
from retouch_gym.chat import AnswerFormat, Message
from retouch_gym.envs.chat import ChatEnv, ChatView
from retouch_gym.errors import ConfigurationError, DatasetError
from retouch_gym.recipes import plan_of
from retouch_gym.types import ToolCall


class ChatDemonstrations:
    """Conversations of `Retouch/Chat-v0` with what the model should say next, from the recipes of the tasks.

    A single-shot episode is one plan. In one of several turns, every other example shows the second turn: the plan has
    been carried out, its photo is seen, and the right answer is to finish.

    Args:
        environment: The environment; its dataset has recipes.

    Raises:
        ConfigurationError: If it is not a `Retouch/Chat-v0`.
    """

    def __init__(self, environment: EnvironmentConfig) -> None:
        self.environment = environment
        self._env: ChatEnv | None = None
        self._count = len(self._opened().dataset)

    def __len__(self) -> int:
        return self._count * min(2, self.environment.max_turns)

    def __getitem__(self, index: int) -> tuple[Sequence[Message], str]:
        env = self._opened()
        turns = min(2, self.environment.max_turns)
        task_index, turn = divmod(index, turns)
        messages, _ = env.reset(options={"index": task_index})
        task = env.episode.task
        if task.recipe is None:
            raise DatasetError(f"Task {task.id!r} has no recipe to learn from; SFT needs a dataset with recipes.")
        spoken = _format_of(env)
        plan = list(plan_of(task.recipe, env.toolset))
        answer = spoken.write(task.reasoning, plan) if plan else spoken.write("", [ToolCall("finish")])
        if turn == 0 or not plan:
            return messages, answer
        messages, _, over, _, info = env.step(answer)
        if over or info["tool_error"] is not None:
            raise DatasetError(f"Task {task.id!r}: its own recipe was not taken ({info['tool_error']}).")
        return messages, spoken.write("", [ToolCall("finish")])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_env": None}

    def _opened(self) -> ChatEnv:
        if self._env is None:
            env = open_environment(self.environment).unwrapped
            if not isinstance(env, ChatEnv):
                raise ConfigurationError(
                    f"There are no right answers to learn from in {self.environment.id!r}; supervised stages know "
                    "Retouch/Retouch-v0 and Retouch/Chat-v0."
                )
            self._env = env
        return self._env


def _format_of(env: ChatEnv) -> AnswerFormat:
    view = env.engine.view
    assert isinstance(view, ChatView)
    return view.answer_format
