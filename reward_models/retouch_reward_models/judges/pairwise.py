"""Which of two edits is better, asked in both orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from retouch_gym.chat import Message, system_message, user_message
from retouch_gym.errors import ConfigurationError, ImageError, RewardError
from retouch_gym.rewards.pairwise import Pair, PairwiseReward, Preference
from retouch_gym.tasks import Episode
from retouch_gym.types import JSON, Image
from retouch_reward_models.asking import Asked, ask
from retouch_reward_models.backends.base import Backend, ChatReply, ChatRequest
from retouch_reward_models.cases import Case, case_of
from retouch_reward_models.errors import BackendError
from retouch_reward_models.judges.answers import read_choice, read_object, read_words
from retouch_reward_models.judges.base import Sampling, check_positive, settled
from retouch_reward_models.judges.edit_judge import FIELD
from retouch_reward_models.quoting import DATA_RULE, quote


@dataclass(frozen=True)
class PairQuestion:
    """What a pairwise judge is asked, beside the photo before, the one edit and the other.

    Args:
        text: The question; `FIELD` stands where the instruction goes, as quoted data.
        system: The system turn; none if empty.
    """

    text: str
    system: str = ""

    def __post_init__(self) -> None:
        if self.text.count(FIELD) != 1:
            raise ConfigurationError(f"PairQuestion.text names {FIELD} {self.text.count(FIELD)} times, expected once.")


@dataclass(frozen=True)
class Choice:
    """One answer.

    Args:
        first: 1 if the edit shown first is better, 0 if the other is, 0.5 for a tie.
        rationale: Why, in the judge's words.
    """

    first: float
    rationale: str


PairReader = Callable[[ChatReply], Choice]
"""From an answer to the choice in it; raises `VerdictError` where there is none."""

PAIR_QUESTION = PairQuestion(
    system=(
        "You judge how photos were retouched. Look closely and compare soberly; the order of the photos means nothing. "
        f"{DATA_RULE} Answer with one JSON object and nothing else."
    ),
    text=(
        "The first photo is the original. The second photo is edit A, the third is edit B; both were made for this "
        f"request.\nREQUEST: {FIELD}\n"
        "Which edit follows the request better, without changing more than it needs and without spoiling the photo? "
        'Say "tie" only if neither is better.\n'
        'Form: {"rationale": "one or two sentences", "better": "A"}, where better is "A", "B" or "tie".'
    ),
)
"""The words of `PairwiseJudge`, ours."""

_CHOICES = {"A": 1.0, "B": 0.0, "tie": 0.5}


def read_pair(reply: ChatReply) -> Choice:
    """A choice from ``{"rationale": str, "better": "A" | "B" | "tie"}``.

    Raises:
        VerdictError: If the answer is anything else.
    """
    found = read_object(reply, ("rationale", "better"))
    better = read_choice(found["better"], "better", tuple(_CHOICES))
    return Choice(_CHOICES[better], read_words(found["rationale"], "rationale"))


class PairwiseJudge(PairwiseReward):
    """A vision-language model that says which of two edits follows the instruction better.

    Every pair is asked about in both orders, and the preference is the mean of the two answers, so that a judge that
    likes whatever comes first gains nothing by it: its two answers cancel to 0.5, and ``agree`` is False. All
    questions of a batch go to the backend in one call of `complete` for each attempt. If either order cannot be read,
    the pair is an error: half an answer is a biased one.

    Details: ``orders``, the verdict on the first edit when it was shown first and when it was shown second; ``agree``,
    whether the two are the same; ``rationale`` of both; ``attempts`` and ``seconds`` over both.

    Args:
        backend: Who answers.
        question: What is asked.
        read: Reads an answer; has to fit the question.
        sampling: How answers are drawn.
        attempts: How often an answer that cannot be read is asked for at most.
        max_tokens: Most tokens of an answer.
        name: Short name.
    """

    # Both orders are asked, so swapping a pair turns the verdict round exactly.
    symmetric = True

    def __init__(
        self,
        backend: Backend,
        question: PairQuestion = PAIR_QUESTION,
        read: PairReader = read_pair,
        *,
        sampling: Sampling | None = None,
        attempts: int = 2,
        max_tokens: int = 512,
        name: str = "pairwise-judge",
    ) -> None:
        self.backend = backend
        self.question = question
        self.read = read
        self.sampling = sampling or Sampling()
        self.attempts = check_positive("attempts", attempts)
        self.max_tokens = check_positive("max_tokens", max_tokens)
        self.name = name

    def compare(self, pairs: Sequence[Pair]) -> list[Preference]:
        """See `PairwiseReward.compare`. The instruction and the photo before are the first episode's."""
        try:
            return self.compare_cases([_pair_case(*pair) for pair in pairs])
        except BackendError as error:
            raise RewardError(f"Judge {self.name!r} cannot reach its model: {error}") from error

    def compare_cases(self, cases: Sequence[Case]) -> list[Preference]:
        """Which of two edits is better, for each case, in order.

        Args:
            cases: Cases with two candidates each.

        Raises:
            BackendError: If the backend cannot be used at all.
        """
        requests: list[ChatRequest] = []
        problems: dict[int, str] = {}
        for number, case in enumerate(cases):
            try:
                drawn = settled(self.sampling, case)
                requests += [self._request(messages, drawn) for messages in self._conversations(case)]
            except ImageError as error:
                problems[number] = str(error)
        asked = ask(self.backend, requests, lambda _, reply: self.read(reply), attempts=self.attempts)
        both = zip(asked[::2], asked[1::2], strict=True)
        return [
            Preference(None, problems[number]) if number in problems else merge(*next(both))
            for number in range(len(cases))
        ]

    def _conversations(self, case: Case) -> tuple[list[Message], list[Message]]:
        if len(case.candidates) != 2:
            raise ImageError(f"The case has {len(case.candidates)} candidates, expected two to compare.")
        one, other = case.candidates
        return self._conversation(case, one, other), self._conversation(case, other, one)

    def _conversation(self, case: Case, shown_first: Image, shown_second: Image) -> list[Message]:
        system = [system_message(self.question.system)] if self.question.system else []
        text = self.question.text.replace(FIELD, quote(case.instruction))
        return [*system, user_message(text, [case.before, shown_first, shown_second])]

    def _request(self, messages: Sequence[Message], sampling: Sampling) -> ChatRequest:
        return ChatRequest(messages, self.max_tokens, sampling.temperature, sampling.seed)


def merge(straight: Asked[Choice], swapped: Asked[Choice]) -> Preference:
    """The mean verdict on the first edit over both orders; an error if either order could not be read.

    Args:
        straight: The answer with the first edit shown first.
        swapped: The answer with the first edit shown second.
    """
    details: dict[str, JSON] = {
        "attempts": straight.attempts + swapped.attempts,
        "seconds": straight.seconds + swapped.seconds,
    }
    if straight.result is None or swapped.result is None:
        parts = (("in order", straight.problem), ("swapped", swapped.problem))
        return Preference(None, "; ".join(f"{how}: {problem}" for how, problem in parts if problem), details)
    orders = [straight.result.first, 1.0 - swapped.result.first]
    rationale = [straight.result.rationale, swapped.result.rationale]
    details |= {"orders": orders, "agree": orders[0] == orders[1], "rationale": rationale}
    return Preference(sum(orders) / 2, details=details)


def _pair_case(first: Episode, second: Episode) -> Case:
    case = case_of(first)
    return Case(case.instruction, case.before, (first.image, second.image), case.task_id)
