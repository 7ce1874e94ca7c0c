"""Right answers for environments that write the conversation themselves."""

from __future__ import annotations

from typing import Any

from retouch_agents.sft import Demonstration
from retouch_agents.training.config import EnvironmentConfig
from retouch_agents.training.start import open_environment
from retouch_gym.chat.messages import assistant_message
from retouch_gym.envs.chat import ChatEnv, ChatView
from retouch_gym.errors import ConfigurationError, DatasetError
from retouch_gym.recipes import plan_of
from retouch_gym.tasks import Task
from retouch_gym.tools.base import Effect
from retouch_gym.tools.toolset import Toolset
from retouch_gym.types import ToolCall


class ChatDemonstrations:
    """Conversations of `Retouch/Chat-v0` with what the model should say next, from what the tasks know.

    To edit, match or transfer that is a plan that sets the task's recipe, to refine one that turns the start into it,
    in a summary its answer. Where an episode has several turns, the plan is carried out, its photo is shown, and the
    right answer to that is to finish; both answers are learned.

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
        return self._count

    def __getitem__(self, index: int) -> Demonstration:
        env = self._opened()
        messages, _ = env.reset(options={"index": index})
        task = env.episode.task
        view = env.engine.view
        assert isinstance(view, ChatView)
        write = view.answer_format.write
        finish = write("", [ToolCall("finish")])
        calls = right_calls(task, env.toolset)
        answer = write(task.reasoning, calls) if calls else finish
        if self.environment.max_turns == 1 or not calls or task.mode == "summary":
            return messages, answer
        messages, _, over, _, info = env.step(answer)
        if over or info["tool_error"] is not None:
            raise DatasetError(f"Task {task.id!r}: its own recipe was not taken ({info['tool_error']}).")
        return [*messages, assistant_message(finish)]

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


def right_calls(task: Task, toolset: Toolset) -> list[ToolCall]:
    """The calls that solve a task.

    Raises:
        DatasetError: If the task does not know them.
    """
    if task.mode == "summary":
        return [ToolCall("summarize", {"text": task.answer})]
    if task.recipe is None:
        raise DatasetError(f"Task {task.id!r} has no recipe to learn from; SFT needs a dataset with recipes.")
    if task.start is None:
        return list(plan_of(task.recipe, toolset))
    old, new = task.start, task.recipe
    if (old.curves, old.crop, old.locals) != (new.curves, new.crop, new.locals):
        raise DatasetError(f"Task {task.id!r} changes more than sliders; there is no plan to learn from for that yet.")
    changed = {name: new[name] for name in toolset.controls if new[name] != old[name]}
    return [ToolCall(tool.name, given) for tool in toolset.tools for given in tool.express(Effect(changed))]
