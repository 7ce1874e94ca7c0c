"""RetouchIQ's generalist reward model: it writes criteria for the case at hand, then scores them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from retouch_gym.errors import ConfigurationError, ImageError, RewardError
from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.tasks import Episode
from retouch_gym.types import JSON
from retouch_reward_models.asking import Asked, ask
from retouch_reward_models.backends.base import Backend, ChatReply, ChatRequest
from retouch_reward_models.backends.local import TransformersBackend
from retouch_reward_models.cases import Case, case_of
from retouch_reward_models.errors import BackendError, VerdictError
from retouch_reward_models.grm.files import load_judge_prompt
from retouch_reward_models.grm.formats import VerdictFormat, get_verdict_format
from retouch_reward_models.grm.prompts import JudgePrompt
from retouch_reward_models.grm.scoring import expected_total, greedy_total
from retouch_reward_models.grm.verdict import BEST, Criterion, Verdict, check_same

CACHED_CRITERIA = 4096
"""Sets of shared criteria that are kept."""

TOP_LOGPROBS = 20
"""Alternatives of a token that expected scores look at; the most that OpenAI's API gives."""


Key: TypeAlias = tuple[str, str, str]
"""What shared criteria are kept by: task, instruction, and the backend's name."""


@dataclass(frozen=True)
class Judged:
    """A verdict and its numbers.

    Args:
        verdict: Criteria and scores.
        totals: The weighted sum for each candidate, 0..10, greedy or expected.
    """

    verdict: Verdict
    totals: tuple[float, ...]


class GeneralistReward(Reward):
    """A reward model that writes case-specific criteria and scores them (RetouchIQ, arXiv 2602.17558).

    Given the photo before, the photo after and the instruction, the model writes weighted criteria for this case and
    scores each from 0 to 10; the value is the weighted sum. Answers are read strictly (`VerdictFormat.parse`); one that
    holds no valid verdict is asked for again, and after `attempts` the episode has no value.

    Args:
        backend: The model.
        criteria: ``"own"``: every episode's criteria are written with its scores. ``"shared"``: criteria are written
            once for a task, from the instruction and the photo before alone, and used for every episode of it, so that
            a group of rollouts is measured with one yardstick; they are kept by task, instruction and `Backend.name`.
        verdict_format: ``"json"``, ``"lines"``, ``"module:attribute"`` or a `VerdictFormat`.
        prompt: What it is told and shown.
        scoring: ``"greedy"`` takes scores as written; ``"expected"`` takes their expectation where the backend gives
            log-probabilities (`expected_total`).
        attempts: How often an answer is asked for at most.
        max_tokens: Most tokens of an answer.

    Raises:
        ConfigurationError: If an option has no meaning.
    """

    name = "generalist"
    range = (0.0, BEST)
    components = ("criteria", "attempts")

    def __init__(
        self,
        backend: Backend,
        *,
        criteria: Literal["own", "shared"] = "own",
        verdict_format: str | VerdictFormat = "json",
        prompt: JudgePrompt | Mapping[str, Any] | None = None,
        scoring: Literal["greedy", "expected"] = "greedy",
        attempts: int = 2,
        max_tokens: int = 1024,
    ) -> None:
        if criteria not in ("own", "shared"):
            raise ConfigurationError(f"criteria = {criteria!r} should be 'own' or 'shared'.")
        if scoring not in ("greedy", "expected"):
            raise ConfigurationError(f"scoring = {scoring!r} should be 'greedy' or 'expected'.")
        if attempts < 1 or max_tokens < 1:
            raise ConfigurationError(f"attempts = {attempts} and max_tokens = {max_tokens} should be at least 1.")
        self.backend = backend
        self.criteria = criteria
        self.format = get_verdict_format(verdict_format)
        self.prompt = prompt if isinstance(prompt, JudgePrompt) else JudgePrompt.from_dict(prompt or {})
        self.scoring = scoring
        self.attempts = attempts
        self.max_tokens = max_tokens
        self._shared: OrderedDict[Key, tuple[Criterion, ...]] = OrderedDict()

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, version: str = "", batch_size: int = 64, **options: Any
    ) -> GeneralistReward:
        """The reward model in a folder, with the prompt and the format that it was trained with.

        JSON can hold the arguments, so that a config can name it:
        ``reward="retouch_reward_models:load_generalist", reward_kwargs={"folder": …}``.

        Args:
            folder: A folder written by `save_judge_prompt` and `save_pretrained`.
            version: What this state of the weights is called.
            batch_size: Conversations per forward pass.
            options: Of the constructor; they go before what the folder says.

        Raises:
            BackendError: If there is no such model.
        """
        prompt, spoken = load_judge_prompt(folder)
        backend = TransformersBackend(folder, version=version, batch_size=batch_size)
        return cls(backend, **{"prompt": prompt, "verdict_format": spoken, "scoring": "expected", **options})

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order; one call of the backend per attempt.

        Raises:
            RewardError: If the backend cannot be used at all.
        """
        try:
            judged = self.judge([case_of(episode) for episode in episodes])
        except BackendError as error:
            raise RewardError(f"Reward {self.name!r} cannot reach its judge: {error}") from error
        return [_output(asked) for asked in judged]

    def judge(self, cases: Sequence[Case]) -> list[Asked[Judged]]:
        """Judge cases with one or several candidates each, in order.

        A case that cannot be shown or whose answers hold no valid verdict comes back with its `problem`, and leaves
        its neighbours alone. An answer that was cut off by the limit of tokens is none: in lines, a score of 10 that is
        cut off reads 1.

        Raises:
            BackendError: If the backend cannot be used at all.
        """
        if not cases:
            return []
        problems: dict[int, Asked[Judged]] = {}
        given: list[tuple[Criterion, ...]] = [()] * len(cases)
        if self.criteria == "shared":
            for number, asked in enumerate(self._criteria(cases)):
                if asked.result is None:
                    problem = f"no criteria: {asked.problem}"
                    problems[number] = Asked(None, problem, asked.replies, asked.attempts, asked.seconds)
                else:
                    given[number] = asked.result
        requests: dict[int, ChatRequest] = {}
        for number in range(len(cases)):
            if number not in problems:
                try:
                    requests[number] = self._request(
                        self.prompt.verdict(cases[number], self.format, given[number]), True
                    )
                except ImageError as error:
                    problems[number] = Asked(None, str(error), attempts=0)
        numbers = list(requests)

        def read(place: int, reply: ChatReply) -> Judged:
            number = numbers[place]
            verdict = self.format.parse(_whole(reply), len(cases[number].candidates))
            if given[number]:
                check_same(given[number], verdict.criteria)
            return Judged(verdict, self._totals(verdict, reply))

        answers = ask(self.backend, list(requests.values()), read, attempts=self.attempts)
        found = dict(zip(numbers, answers, strict=True))
        return [found.get(number) or problems[number] for number in range(len(cases))]

    def _criteria(self, cases: Sequence[Case]) -> list[Asked[tuple[Criterion, ...]]]:
        """The shared criteria of each case; each task is asked for once."""
        keys = [(case.task_id, case.instruction, self.backend.name) for case in cases]
        new = {key: case for key, case in zip(keys, cases, strict=True) if key not in self._shared}
        fresh: dict[Key, Asked[tuple[Criterion, ...]]] = {}
        requests: dict[Key, ChatRequest] = {}
        for key, case in new.items():
            try:
                requests[key] = self._request(self.prompt.ask_criteria(case, self.format), False)
            except ImageError as error:
                fresh[key] = Asked(None, str(error), attempts=0)
        asked = ask(
            self.backend,
            list(requests.values()),
            lambda _, reply: self.format.parse_criteria(_whole(reply)),
            attempts=self.attempts,
        )
        fresh |= dict(zip(requests, asked, strict=True))
        for key, answer in fresh.items():
            if answer.result is not None:
                self._shared[key] = answer.result
        found = [
            fresh[key] if key in fresh and fresh[key].result is None else Asked(self._shared[key], None) for key in keys
        ]
        while len(self._shared) > CACHED_CRITERIA:
            self._shared.popitem(last=False)
        return found

    def _request(self, messages: Sequence[Any], scores: bool) -> ChatRequest:
        wanted = TOP_LOGPROBS if scores and self.scoring == "expected" else 0
        return ChatRequest(messages, max_tokens=self.max_tokens, top_logprobs=wanted)

    def _totals(self, verdict: Verdict, reply: ChatReply) -> tuple[float, ...]:
        places = range(verdict.candidates)
        if self.scoring == "expected":
            return tuple(expected_total(verdict, reply, place) for place in places)
        return tuple(greedy_total(verdict, place) for place in places)


def load_generalist(folder: str, **options: Any) -> GeneralistReward:
    """`GeneralistReward.from_pretrained`, as a factory that a config can name."""
    return GeneralistReward.from_pretrained(folder, **options)


def _whole(reply: ChatReply) -> str:
    if not reply.complete:
        raise VerdictError(f"The answer was cut off by the limit of tokens after {reply.text[-40:]!r}.")
    return reply.text


def _output(asked: Asked[Judged]) -> RewardOutput:
    effort: dict[str, JSON] = {"attempts": asked.attempts, "seconds": round(asked.seconds, 4)}
    if asked.result is None:
        last = asked.replies[-1].text[:500] if asked.replies else ""
        return RewardOutput(None, error=asked.problem, details={**effort, "answer": last})
    verdict = asked.result.verdict
    numbers = {"criteria": float(len(verdict.scored)), "attempts": float(asked.attempts)}
    return RewardOutput(asked.result.totals[0], numbers, details={**verdict.to_json(), **effort})
