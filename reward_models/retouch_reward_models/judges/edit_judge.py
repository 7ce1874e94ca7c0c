"""Semantic consistency and perceptual quality, two questions a case, in the manner of VIEScore."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from retouch_gym.chat import Message, system_message, user_message
from retouch_gym.errors import ConfigurationError, ImageError
from retouch_gym.rewards.base import RewardOutput
from retouch_gym.types import JSON, Image
from retouch_reward_models.asking import Asked, ask
from retouch_reward_models.backends.base import Backend, ChatReply, ChatRequest
from retouch_reward_models.cases import Case
from retouch_reward_models.judges.answers import read_number, read_object, read_words
from retouch_reward_models.judges.base import CaseJudge, Sampling, check_positive, settled
from retouch_reward_models.quoting import DATA_RULE, quote

TOP = 10.0
"""Largest value of a judge's components and of its overall score; the smallest is 0."""

FIELD = "{instruction}"
"""Where the quoted instruction goes in a question."""


@dataclass(frozen=True)
class Questions:
    """What a judge is asked.

    Args:
        comparison: Asks for the edit's success and its restraint, beside the photo before and the photo after.
            `FIELD` stands where the instruction goes, as quoted data.
        quality: Asks for naturalness and freedom from artefacts, beside the photo after alone.
        system: The system turn of both; none if empty.
    """

    comparison: str
    quality: str
    system: str = ""

    def __post_init__(self) -> None:
        if self.comparison.count(FIELD) != 1:
            found = self.comparison.count(FIELD)
            raise ConfigurationError(f"Questions.comparison names {FIELD} {found} times, expected once.")


@dataclass(frozen=True)
class SubScores:
    """What one answer says.

    Args:
        first: First sub-score, 0..`TOP`.
        second: Second sub-score, 0..`TOP`.
        rationale: Why, in the judge's words.
    """

    first: float
    second: float
    rationale: str


class TwoQuestionJudge(CaseJudge):
    r"""Asks two questions about every edit and combines the answers as VIEScore does (arXiv 2312.14867).

    The photo before, the photo after and the instruction give two sub-scores, success and restraint (10: nothing was
    changed that need not be); the photo after alone gives naturalness and freedom from artefacts. With
    SC = min(success, restraint) and PQ = min(naturalness, artefacts) the value is O = √(SC · PQ), 0..10.

    Both questions of all cases go to the backend in one call of `complete` for each attempt.

    Components: ``sc``, ``pq``, ``overall`` (the value), and the sub-scores ``success``, ``restraint``, ``naturalness``
    and ``artefacts``, all 0..10 where 10 is best. Details: ``rationale`` for each question, ``attempts`` and
    ``seconds`` over both.

    Args:
        backend: Who answers.
        questions: What is asked.
        sampling: How answers are drawn unless `judge` is told otherwise.
        attempts: How often an answer that cannot be read is asked for at most.
        max_tokens: Most tokens of an answer.
    """

    range = (0.0, TOP)
    components = ("sc", "pq", "overall", "success", "restraint", "naturalness", "artefacts")

    def __init__(
        self,
        backend: Backend,
        questions: Questions,
        *,
        sampling: Sampling | None = None,
        attempts: int = 2,
        max_tokens: int = 512,
    ) -> None:
        self.backend = backend
        self.questions = questions
        self.sampling = sampling or Sampling()
        self.attempts = check_positive("attempts", attempts)
        self.max_tokens = check_positive("max_tokens", max_tokens)

    @abstractmethod
    def read_comparison(self, reply: ChatReply) -> SubScores:
        """Success and restraint from an answer to the first question.

        Raises:
            VerdictError: If there is no valid verdict in it.
        """

    @abstractmethod
    def read_quality(self, reply: ChatReply) -> SubScores:
        """Naturalness and freedom from artefacts from an answer to the second question.

        Raises:
            VerdictError: If there is no valid verdict in it.
        """

    def judge(self, cases: Sequence[Case], samplings: Sequence[Sampling] | None = None) -> list[RewardOutput]:
        """See `CaseJudge.judge`."""
        chosen = samplings if samplings is not None else [self.sampling] * len(cases)
        requests: list[ChatRequest] = []
        readers: list[Callable[[ChatReply], SubScores]] = []
        problems: dict[int, str] = {}
        for number, (case, sampling) in enumerate(zip(cases, chosen, strict=True)):
            try:
                drawn = settled(sampling, case)
                requests += [self._request(messages, drawn) for messages in self._conversations(case)]
            except ImageError as error:
                problems[number] = str(error)
            else:
                readers += [self.read_comparison, self.read_quality]
        asked = ask(self.backend, requests, lambda number, reply: readers[number](reply), attempts=self.attempts)
        answers = zip(asked[::2], asked[1::2], strict=True)
        return [
            RewardOutput(None, error=problems[number]) if number in problems else combine(*next(answers))
            for number in range(len(cases))
        ]

    def _conversations(self, case: Case) -> tuple[list[Message], list[Message]]:
        after = _only(case)
        system = [system_message(self.questions.system)] if self.questions.system else []
        comparison = self.questions.comparison.replace(FIELD, quote(case.instruction))
        return (
            [*system, user_message(comparison, [case.before, after])],
            [*system, user_message(self.questions.quality, [after])],
        )

    def _request(self, messages: Sequence[Message], sampling: Sampling) -> ChatRequest:
        return ChatRequest(messages, self.max_tokens, sampling.temperature, sampling.seed)


def combine(comparison: Asked[SubScores], quality: Asked[SubScores]) -> RewardOutput:
    """SC, PQ and O = √(SC · PQ) from what came of the two questions; an error if either could not be read."""
    details: dict[str, JSON] = {
        "attempts": comparison.attempts + quality.attempts,
        "seconds": comparison.seconds + quality.seconds,
    }
    if comparison.result is None or quality.result is None:
        parts = (("comparison", comparison.problem), ("quality", quality.problem))
        error = "; ".join(f"{name}: {problem}" for name, problem in parts if problem is not None)
        return RewardOutput(None, error=error, details=details)
    edit, look = comparison.result, quality.result
    sc, pq = min(edit.first, edit.second), min(look.first, look.second)
    overall = math.sqrt(sc * pq)
    values = (sc, pq, overall, edit.first, edit.second, look.first, look.second)
    rationale: dict[str, JSON] = {"sc": edit.rationale, "pq": look.rationale}
    components = dict(zip(TwoQuestionJudge.components, values, strict=True))
    return RewardOutput(overall, components, details={"rationale": rationale, **details})


def _only(case: Case) -> Image:
    if len(case.candidates) != 1:
        raise ImageError(f"The case has {len(case.candidates)} candidates, expected one photo after the edit.")
    return case.candidates[0]


QUESTIONS = Questions(
    system=(
        "You judge how photos were retouched. Look closely, compare soberly, and use the whole of the scale. "
        f"{DATA_RULE} Answer with one JSON object and nothing else."
    ),
    comparison=(
        "The first photo is the original, the second is what a retoucher made of it.\n"
        f"REQUEST: {FIELD}\n"
        "Give two scores from 0 to 10; decimals are allowed.\n"
        "edit_success: 10 if all that was requested is done, to the degree that was meant; 5 if part of it is, or too "
        "weakly or too strongly; 0 if none of it is, or the opposite. Two photos that look the same did nothing.\n"
        "restraint: 10 if nothing was changed beyond what the request needs; 5 if other tones, colours or parts of the "
        "photo shifted noticeably; 0 if the photo was made over.\n"
        'Form: {"rationale": "one or two sentences", "edit_success": 0, "restraint": 0}'
    ),
    quality=(
        "Judge this photo by itself.\n"
        "Give two scores from 0 to 10; decimals are allowed.\n"
        "naturalness: 10 if light, shadow, colour and depth look as a camera or an eye would see them; 0 if they look "
        "wrong throughout.\n"
        "artefacts: 10 if there are none; lower the more there is of clipped or posterised tones, halos, noise, "
        "smearing, seams, distortion or watermarks; 0 if they spoil the photo.\n"
        'Form: {"rationale": "one or two sentences", "naturalness": 0, "artefacts": 0}'
    ),
)
"""The words of `EditJudge`, ours."""


class EditJudge(TwoQuestionJudge):
    """A vision-language model as judge: SC, PQ and O = √(SC · PQ), each 0..10. See `TwoQuestionJudge`.

    Both answers are single JSON objects with a rationale and two named scores; anything else is asked for again
    (`attempts`) and then an error.

    Known from VIEScore's paper and repository (arXiv 2312.14867): which photos each question shows, two sub-scores a
    question, the minimum of each pair, the geometric mean. Ours: the wording, the JSON keys, the system turn, and that
    an unreadable answer is an error where the original guesses.

    Args:
        backend: Who answers.
        questions: What is asked; answers have to keep to the form that `QUESTIONS` states.
        sampling: How answers are drawn; greedily by default. See `retouch_reward_models.judges.Ensemble` for several.
        attempts: How often an answer that cannot be read is asked for at most.
        max_tokens: Most tokens of an answer.
    """

    name = "edit-judge"

    def __init__(
        self,
        backend: Backend,
        questions: Questions = QUESTIONS,
        *,
        sampling: Sampling | None = None,
        attempts: int = 2,
        max_tokens: int = 512,
    ) -> None:
        super().__init__(backend, questions, sampling=sampling, attempts=attempts, max_tokens=max_tokens)

    def read_comparison(self, reply: ChatReply) -> SubScores:
        """See `TwoQuestionJudge.read_comparison`."""
        return _named(reply, "edit_success", "restraint")

    def read_quality(self, reply: ChatReply) -> SubScores:
        """See `TwoQuestionJudge.read_quality`."""
        return _named(reply, "naturalness", "artefacts")


def _named(reply: ChatReply, first: str, second: str) -> SubScores:
    found = read_object(reply, ("rationale", first, second))
    one, other = (read_number(found[name], name, 0.0, TOP) for name in (first, second))
    return SubScores(one, other, read_words(found["rationale"], "rationale"))
