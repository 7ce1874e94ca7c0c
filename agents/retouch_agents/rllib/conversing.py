"""Conversations between a policy and an environment: what is shown, what is answered, what it earned, turn by turn."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from retouch_agents.encoding import Prompt
from retouch_agents.generation import Completion, Generator
from retouch_agents.rllib.playing import Episodes, Key, Player, Step
from retouch_agents.rllib.rollouts import GroupRequest, Rollout, SampleResult
from retouch_agents.serving.http import GenerationError
from retouch_gym.types import ToolCall, Unparsable


class Chat(Protocol):
    """What stands between observations and tokens; `retouch_agents.chat.ChatFormat` is one."""

    @property
    def pad_id(self) -> int:
        """Token id of padding."""
        ...

    @property
    def eos_id(self) -> int:
        """Token id that ends an answer."""
        ...

    def encode(self, observation: Mapping[str, Any]) -> Prompt:
        """Turn an observation into a prompt."""
        ...

    def decode(self, token_ids: NDArray[np.int64]) -> str:
        """Turn sampled tokens into text."""
        ...

    def parse(self, text: str) -> Any:
        """Turn text into an action, or an `Unparsable`."""
        ...


@runtime_checkable
class Conversing(Protocol):
    """A chat format that goes on from a prompt and its answer; one that is not encodes every observation anew."""

    def next_prompt(self, prompt: Prompt, token_ids: NDArray[np.int64], before: Any, after: Any) -> Prompt:
        """See `retouch_agents.chat.ConversationFormat.next_prompt`."""
        ...


@dataclass(frozen=True)
class Drawing:
    """How answers are drawn.

    Args:
        group_size: G, episodes per request.
        temperature: Of sampling.
        max_new_tokens: Most tokens of an answer.
        max_turns: Most turns of an episode; one that goes on is cut there and keeps what it has earned.
    """

    group_size: int
    temperature: float
    max_new_tokens: int
    max_turns: int


@dataclass
class _Talk:
    """An episode in progress: its turns so far, and where it stands."""

    turns: list[tuple[Prompt, Completion, Any, Step]]
    prompt: Prompt
    observation: Any


def converse(
    chat: Chat,
    generator: Generator,
    player: Player,
    requests: Sequence[GroupRequest],
    drawing: Drawing,
    aside: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> SampleResult:
    """Play every request G times.

    The first prompt of a group is encoded once and answered G times. After that each episode goes its own way; the
    answers of all that are still running are drawn together.

    Args:
        chat: Between observations and tokens.
        generator: What answers are drawn with.
        player: What plays them.
        requests: The groups.
        drawing: How answers are drawn.
        aside: Entered while answers are played, when neither chat format nor generator is in use.

    Returns:
        Rollouts ordered by group, member and turn. A group whose environment or chat format raised is in `failures`;
        an episode whose reward or rendering failed has rollouts with `valid` False. If the generator fails, all groups
        that were waiting for it are in `failures`.
    """
    clock = _Clock()
    episodes = player.begin(requests, drawing.group_size)
    clock.lap("play_seconds")
    seeds = {request.group: request.seed for request in requests}
    talks = _open(chat, episodes)
    clock.lap("encode_seconds")
    tokens = 0
    for turn in range(drawing.max_turns):
        keys = episodes.running()
        if not keys:
            break
        try:
            answers = _answers(generator, talks, keys, seeds, drawing, turn)
        except GenerationError:
            # A server that stays away after every attempt; what it was asked for is lost, and training says so.
            for group in dict.fromkeys(group for group, _ in keys):
                episodes.drop(group, traceback.format_exc())
            break
        clock.lap("generate_seconds")
        tokens += sum(len(answer.token_ids) for answer in answers.values())
        actions = _actions(chat, answers, episodes)
        with aside():
            steps = episodes.step(actions)
            clock.lap("play_seconds")
        clock.skip()
        for key, step in steps.items():
            talks[key].turns.append((talks[key].prompt, answers[key], actions[key], step))
        if turn + 1 < drawing.max_turns:
            _go_on(chat, episodes, talks)
            clock.lap("encode_seconds")
    return SampleResult(_all_rollouts(talks, episodes), dict(episodes.failures), tokens, clock.seconds)


class _Clock:
    """Where the time goes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """Add the time since the last lap to a part."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now

    def skip(self) -> None:
        """Add the time since the last lap to nothing: somebody else worked."""
        self._since = time.perf_counter()


def _open(chat: Chat, episodes: Episodes) -> dict[Key, _Talk]:
    """The members of a group begin alike, so that one of them is looked at."""
    talks: dict[Key, _Talk] = {}
    first: dict[int, tuple[Prompt, Any]] = {}
    for key in episodes.running():
        group = key[0]
        try:
            if group not in first:
                observation = episodes.observe(key)
                first[group] = (chat.encode(observation), observation)
            talks[key] = _Talk([], *first[group])
        except Exception:  # a user's environment may raise anything; its neighbours go on
            if group not in episodes.failures:
                episodes.drop(group, traceback.format_exc())
    return talks


def _answers(
    generator: Generator,
    talks: Mapping[Key, _Talk],
    keys: Sequence[Key],
    seeds: Mapping[int, int],
    drawing: Drawing,
    turn: int,
) -> dict[Key, Completion]:
    limits: dict[str, Any] = {"temperature": drawing.temperature, "max_new_tokens": drawing.max_new_tokens}
    if turn == 0:
        groups = list(dict.fromkeys(group for group, _ in keys))
        found = generator.generate(
            [talks[(group, 0)].prompt for group in groups],
            group_size=drawing.group_size,
            seeds=[seeds[group] for group in groups],
            **limits,
        )
    else:
        chosen = [turn_seed(seeds[group], member, turn) for group, member in keys]
        found = generator.generate([talks[key].prompt for key in keys], seeds=chosen, **limits)
    return dict(zip(keys, found, strict=True))


def _actions(chat: Chat, answers: Mapping[Key, Completion], episodes: Episodes) -> dict[Key, Any]:
    actions: dict[Key, Any] = {}
    for key, answer in answers.items():
        try:
            actions[key] = chat.parse(chat.decode(answer.token_ids))
        except Exception:  # as may a user's chat format
            if key[0] not in episodes.failures:
                episodes.drop(key[0], traceback.format_exc())
    return {key: action for key, action in actions.items() if key[0] not in episodes.failures}


def _go_on(chat: Chat, episodes: Episodes, talks: Mapping[Key, _Talk]) -> None:
    """Show every episode that goes on what its answer came to."""
    for key in episodes.running():
        if key[0] in episodes.failures:
            continue
        talk = talks[key]
        try:
            observation = episodes.observe(key)
            answer = talk.turns[-1][1].token_ids
            if isinstance(chat, Conversing):
                talk.prompt = chat.next_prompt(talk.prompt, answer, talk.observation, observation)
            else:
                talk.prompt = chat.encode(observation)
            talk.observation = observation
        except Exception:  # a prompt that does not fit, or anything that a user's code raises
            episodes.drop(key[0], traceback.format_exc())


def turn_seed(seed: int, member: int, turn: int) -> int:
    """Seed of one answer after the first turn: of its group's seed and its place alone."""
    return int(np.random.SeedSequence([seed, member, turn]).generate_state(1, np.uint64)[0] >> 1)


def _all_rollouts(talks: Mapping[Key, _Talk], episodes: Episodes) -> list[Rollout]:
    return [
        rollout
        for key, talk in sorted(talks.items())
        if talk.turns and key[0] not in episodes.failures
        for rollout in _rollouts(key, episodes.task_ids.get(key[0], ""), talk.turns)
    ]


def _rollouts(key: Key, task_id: str, turns: Sequence[tuple[Prompt, Completion, Any, Step]]) -> list[Rollout]:
    steps = [step for *_, step in turns]
    valid = all(step.valid for step in steps)
    total = float(sum(step.reward for step in steps))
    components = dict(steps[-1].info.get("reward_components", {}))
    return [
        Rollout(
            group=key[0],
            member=key[1],
            task_id=task_id,
            # A learner reads the features; the photos would travel for nothing.
            prompt=replace(prompt, photos=()),
            token_ids=answer.token_ids,
            logprobs=answer.logprobs,
            reward=total,
            components=components,
            valid=valid,
            well_formed=not isinstance(action, Unparsable) and step.info.get("tool_error") is None,
            finished=answer.finished,
            turn=number,
            last=number + 1 == len(turns),
            step_reward=step.reward,
            tool_calls=_calls(action, step.info),
        )
        for number, (prompt, answer, action, step) in enumerate(turns)
    ]


def _calls(action: Any, info: Mapping[str, Any]) -> int | None:
    if "tool_calls" in info:
        return int(info["tool_calls"])
    if isinstance(action, Unparsable):
        return 0
    if isinstance(action, ToolCall):
        return 1
    return len(action) if isinstance(action, (list, tuple)) else None
