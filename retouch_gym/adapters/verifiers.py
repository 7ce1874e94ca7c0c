r"""A taskset for verifiers (its v1 API), with the harness and the environment that play it.

verifiers finds plug-ins as modules at the top level. Put one beside your config, for instance ``retouch.py``::

    from retouch_gym.adapters.verifiers import *
    from retouch_gym.adapters.verifiers import __all__

and give its name wherever verifiers asks for a taskset::

    import verifiers.v1 as vf

    config = {
        "taskset": {"id": "retouch", "task": {"environment": {"dataset": "folder:photos/", "max_turns": 4}}},
        "agent": {
            "model": "Qwen/Qwen2.5-VL-7B-Instruct",
            "client": {"type": "eval", "base_url": "http://localhost:8000/v1"},
        },
    }
    env = vf.load_environment(vf.resolve_env_config(config))

or on the command line (``--no-push``, because ``vf-eval`` uploads its results otherwise)::

    vf-eval retouch --env.taskset.task.environment '{"dataset": "folder:photos/", "max_turns": 4}' \
        --model Qwen/Qwen2.5-VL-7B-Instruct --client.base-url http://localhost:8000/v1 --no-push

Every option of `retouch_gym.envs.retouch.RetouchEnv` goes into ``environment``. The harness runs inside the
verifiers process and needs no box: the environment exported here asks for the ``subprocess`` runtime, in
place of verifiers' default, a cloud.

How an episode becomes a rollout: the first message shows the photo, as a PNG data URL, and the request; each
answer of the model is one turn, and all its tool calls are one plan, applied together or not at all; the last
tool result of a turn carries what came of it and the photo as it is now. An answer that calls nothing costs
a turn as well. The reward is the environment's, its components are metrics. A rollout that verifiers cuts off
is scored as if the model did nothing in the turns it had left. A reward or a renderer that fails becomes a
`TaskError` on the trace, with the reward unscored, and never a 0. ``vf-replay`` plays the calls of a saved
trace again and scores them with the reward that it is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pydantic
import verifiers.v1 as vf
from openai import AsyncOpenAI

from retouch_gym.adapters.rollout import Message, Rollout
from retouch_gym.adapters.sharing import env_factory
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.errors import ConfigurationError

# verifiers takes from here the one Taskset, the one Harness and the one Env.
__all__ = [
    "RetouchData",
    "RetouchHarness",
    "RetouchSingleEnv",
    "RetouchSingleEnvConfig",
    "RetouchState",
    "RetouchTask",
    "RetouchTaskConfig",
    "RetouchTaskset",
    "RetouchTasksetConfig",
]

SYSTEM_PROMPT = (
    "You retouch photos by calling tools. Look at the photo, call the tools that carry out the request, and look "
    "at the result. A later value of a slider replaces the earlier one. The calls of one message are applied "
    "together, or not at all if one of them is refused. Each message is one turn, and turns are limited."
)
"""What the model is told before everything else; verifiers' own ``system_prompt`` option replaces it."""


class RetouchTaskConfig(vf.TaskConfig):
    """What a rollout needs beside the task's id.

    Attributes:
        environment: Arguments of `RetouchEnv`: JSON-able for the command line, objects too in Python.
        seed: Seed of each episode.
    """

    environment: dict[str, Any] = pydantic.Field(default_factory=dict)
    seed: int = 0
    _make: Callable[[], RetouchEnv] | None = pydantic.PrivateAttr(default=None)

    def make_env(self) -> RetouchEnv:
        """A new environment; dataset, reward and renderer are built once and shared.

        Raises:
            ConfigurationError: If an option is not known or the options do not go together.
            DatasetError: If the dataset cannot be found or is empty.
        """
        if self._make is None:
            self._make = env_factory(**self.environment)
        return self._make()


class RetouchTasksetConfig(vf.TasksetConfig):
    """The taskset's config: all there is to say concerns the task."""

    task: RetouchTaskConfig = RetouchTaskConfig()


class RetouchData(vf.TaskData):
    """A task as it travels: its id in the dataset and its request, no pixels.

    Attributes:
        kind: Class of task, for breakdowns.
    """

    kind: str = ""


class RetouchState(vf.State):
    """What a rollout holds in memory: the episode in progress."""

    _rollout: Rollout | None = pydantic.PrivateAttr(default=None)

    @property
    def rollout(self) -> Rollout | None:
        """The episode; None before the task was set up, after it was scored, and in a trace read from a file."""
        return self._rollout

    @rollout.setter
    def rollout(self, rollout: Rollout | None) -> None:
        self._rollout = rollout


class RetouchTask(vf.Task[RetouchData, RetouchState, RetouchTaskConfig]):
    """One photo with one request."""

    @property
    def key(self) -> str:
        """The task's id in its dataset."""
        return str(self.data.id)

    async def setup(self, trace: vf.Trace, runtime: vf.Runtime) -> None:
        """Load the photo and begin the episode."""
        trace.state.rollout = await self._begin()

    @vf.reward
    async def retouch(self, trace: vf.Trace) -> float:
        """The environment's reward.

        Raises:
            RewardError: If the episode could not be scored.
            RetouchError: Another, if it could not be rendered.
        """
        return (await self._settled(trace)).reward

    @vf.metric
    async def components(self, trace: vf.Trace) -> dict[str, float]:
        """The reward's components, ``finished`` (0 or 1), ``env_turns`` and ``refused_turns``.

        Raises:
            RewardError: If the episode could not be scored.
            RetouchError: Another, if it could not be rendered.
        """
        rollout = await self._settled(trace)
        counts = {"finished": rollout.finished, "env_turns": rollout.turns, "refused_turns": rollout.refused}
        return rollout.components | {name: float(count) for name, count in counts.items()}

    async def _begin(self) -> Rollout:
        # Building the shared parts stays on the event loop, so that it happens once.
        env = self.config.make_env()
        return await asyncio.to_thread(Rollout, env, str(self.data.id), self.config.seed)

    async def _settled(self, trace: vf.Trace) -> Rollout:
        """The finished episode; played again from the transcript if it is no longer in memory."""
        if not isinstance(trace.state, RetouchState):
            # What verifiers reads back has its base class of states.
            trace.state = RetouchState()
        rollout: Rollout | None = trace.state.rollout
        if rollout is None:
            rollout = trace.state.rollout = await self._begin()
            for message in trace.assistant_messages:
                if not rollout.over:
                    await asyncio.to_thread(rollout.answer, _as_sent(message))
        await asyncio.to_thread(rollout.settle)
        return rollout


class RetouchTaskset(vf.Taskset[RetouchTask, RetouchTasksetConfig]):
    """The tasks of a retouch-gym dataset, in its order."""

    def load(self) -> Iterator[RetouchTask]:
        """Yield the tasks one by one; no photo is loaded."""
        for task in self.config.task.make_env().dataset:
            data = RetouchData(
                id=task.id, name=task.id, kind=task.kind, prompt=task.instruction, system_prompt=SYSTEM_PROMPT
            )
            yield RetouchTask(data, self.config.task)


class RetouchHarness(vf.Harness[vf.HarnessConfig]):
    """Plays an episode inside the verifiers process: asks the model, steps the environment, shows the result."""

    APPENDS_SYSTEM_PROMPT = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self,
        ctx: vf.ModelContext,
        trace: vf.Trace,
        runtime: vf.Runtime,
        endpoint: str,
        secret: str,
        mcp_urls: dict[str, str],
        data: vf.TaskData,
    ) -> vf.ProgramResult:
        """Play the episode to its end. See `verifiers.v1.Harness.launch`.

        Raises:
            ConfigurationError: If the task is none of `RetouchTaskset`.
        """
        rollout = trace.state.rollout if isinstance(trace.state, RetouchState) else None
        if rollout is None:
            raise ConfigurationError(
                f"{type(self).__name__} got a {trace.task.type}; it plays tasks of RetouchTaskset only. "
                "Set the taskset's id to the module that exports it."
            )
        system, request = self.resolve_text_prompt(data)
        messages: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        messages.append(rollout.opening(request or ""))
        # verifiers bounds the time of a rollout (``timeout``) and decides what is tried again (``retries``).
        client: Any = AsyncOpenAI(base_url=endpoint, api_key=secret, max_retries=0, timeout=None)
        async with client as model:
            while not rollout.over:
                reply = await model.chat.completions.create(
                    model=ctx.model,
                    messages=messages,
                    tools=rollout.tools,
                )
                answer = reply.choices[0].message.model_dump(exclude_none=True)
                messages += [answer, *await asyncio.to_thread(rollout.answer, answer)]
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")

    async def cleanup(self, trace: vf.Trace, runtime: vf.Runtime) -> None:
        """Let go of the photos: verifiers keeps the traces of a whole run in memory."""
        if isinstance(trace.state, RetouchState):
            trace.state.rollout = None


class RetouchSingleEnvConfig(vf.SingleAgentEnvConfig):
    """One agent, on this machine."""

    agent: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig())


class RetouchSingleEnv(vf.SingleAgentEnv, vf.Env[RetouchSingleEnvConfig]):
    """verifiers' single-agent environment with a runtime that needs no cloud."""


def _as_sent(message: vf.AssistantMessage) -> Message:
    """A message of a trace as the model sent it."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in message.tool_calls or ()
    ]
    return {"role": "assistant", "content": message.content, "tool_calls": calls}
