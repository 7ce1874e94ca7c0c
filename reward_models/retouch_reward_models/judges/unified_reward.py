"""UnifiedReward-Edit: a vision-language model served over vLLM that rates edits or compares two."""

from __future__ import annotations

import re
from typing import Literal

from retouch_reward_models.backends.base import Backend, ChatReply
from retouch_reward_models.errors import VerdictError
from retouch_reward_models.judges.answers import read_text
from retouch_reward_models.judges.base import Sampling
from retouch_reward_models.judges.edit_judge import FIELD
from retouch_reward_models.judges.editscore import EditScore
from retouch_reward_models.judges.pairwise import Choice, PairQuestion, PairwiseJudge
from retouch_reward_models.quoting import DATA_RULE

_MATTERS = (
    "Look at two things. Fidelity to the instruction: is what was asked for there, all of it, and nothing else "
    "changed? Visual quality: are light, perspective and textures plausible, is the photo free from blur, seams and "
    "other flaws, and pleasing as a whole?"
)
_SHOWN = (
    "Three photos are given: the source, edited image 1 and edited image 2, both edited by the same instruction. "
    f"{DATA_RULE} {_MATTERS}"
)

RANK_QUESTION = PairQuestion(
    f"{_SHOWN} Decide which edited image is better and end with one of these lines: Edited image 1 is better. Edited "
    f"image 2 is better. Both edited images are equally good.\nTEXT INSTRUCTION: {FIELD}"
)
"""Asks for a choice in words, ours."""

SCORE_QUESTION = PairQuestion(
    f"{_SHOWN} Give each edited image a score with a decimal point, for image 1 and then for image 2; good edits "
    f"score above zero, bad ones below.\nTEXT INSTRUCTION: {FIELD}"
)
"""Asks for two scores, ours."""

_FIRST = re.compile(r"\b(?:edited )?image 1 is better\b", re.IGNORECASE)
_SECOND = re.compile(r"\b(?:edited )?image 2 is better\b", re.IGNORECASE)
_EQUAL = re.compile(r"\b(?:both )?(?:edited )?images are equally (?:good|bad)\b", re.IGNORECASE)
_DECIMAL = re.compile(r"(?<![\d.])[-−+]?\d+\.\d+(?![\d.]*\d)")

_BROKEN = re.compile(r"[\d.]*\d\.[\d.]*\d[\d.]*")


def read_rank(reply: ChatReply) -> Choice:
    """A choice from the last line of words: which edited image is better, or that they are equally good.

    Raises:
        VerdictError: If the answer is cut off, its last line says none of them or several, or another line is nothing
            but another verdict.
    """
    text = read_text(reply)
    *before, last = text.strip().split("\n")
    verdicts = ((_FIRST, 1.0), (_SECOND, 0.0), (_EQUAL, 0.5))
    found = [value for pattern, value in verdicts if pattern.search(last)]
    if len(found) != 1:
        raise VerdictError(
            f"the last line of the answer names {len(found)} verdicts, expected exactly one of 'Edited image 1 is "
            "better', 'Edited image 2 is better', 'Both edited images are equally good'"
        )
    bare = [line.strip(" \t\r.!*") for line in before]
    if any(pattern.fullmatch(line) and value != found[0] for line in bare for pattern, value in verdicts):
        raise VerdictError("the answer holds two different verdicts, each on a line of its own; expected one")
    return Choice(found[0], text)


def read_pair_scores(reply: ChatReply) -> Choice:
    """A choice from two numbers with a decimal point, the first image's and then the second's, signs counted.

    Raises:
        VerdictError: If the answer is cut off or holds not exactly two such numbers, or a malformed one beside them.
    """
    text = read_text(reply)
    broken = _BROKEN.search(_DECIMAL.sub(" ", text))
    if broken is not None:
        raise VerdictError(f"the answer holds {broken.group()!r}, expected two numbers with a decimal point")
    scores = [float(number.replace("−", "-")) for number in _DECIMAL.findall(text)]
    if len(scores) != 2:
        raise VerdictError(f"the answer holds {len(scores)} numbers with a decimal point, expected two, one an image")
    first = 0.5 if scores[0] == scores[1] else float(scores[0] > scores[1])
    return Choice(first, text)


class UnifiedRewardEdit(EditScore):
    """UnifiedReward-Edit rating one edit: SC, PQ and O = √(SC · PQ), 0..10.

    Known from the public repository CodeGoat24/UnifiedReward (folder UnifiedReward-Edit): the model is served by vLLM;
    pointwise it is asked VIEScore's two questions, each answered by JSON with ``reasoning`` and ``score``, two numbers
    on 0..25: the same form as EditScore's. Assumed: that the two answers are combined as VIEScore and EditScore do,
    which the repository leaves to its user, and that the model answers our wording of the questions.

    Args: as of `EditScore`.
    """

    name = "unified-reward-edit"


class UnifiedRewardEditPairs(PairwiseJudge):
    """UnifiedReward-Edit comparing two edits, asked in both orders.

    Known from the public repository CodeGoat24/UnifiedReward: two pairwise forms, one that asks which edited image is
    better and one that asks for a score of either, which may be negative; the photos come in the order source, image
    1, image 2; the scores are two decimals in the text. A public client reads the first form by the words "Edited
    image 1 is better" and "Edited image 2 is better". Assumed: the words for a tie. Different on purpose: the
    repository's own reader of scores drops their sign; here it counts, and anything but exactly two numbers, or
    exactly one verdict, is asked for again and then an error.

    Args:
        backend: Who answers.
        form: ``"rank"`` for words, ``"score"`` for two numbers.
        question: What is asked; by default `RANK_QUESTION` or `SCORE_QUESTION`.
        sampling: How answers are drawn.
        attempts: How often an answer that cannot be read is asked for at most.
        max_tokens: Most tokens of an answer.
    """

    def __init__(
        self,
        backend: Backend,
        form: Literal["rank", "score"] = "rank",
        question: PairQuestion | None = None,
        *,
        sampling: Sampling | None = None,
        attempts: int = 2,
        max_tokens: int = 1024,
    ) -> None:
        super().__init__(
            backend,
            question or (RANK_QUESTION if form == "rank" else SCORE_QUESTION),
            read_rank if form == "rank" else read_pair_scores,
            sampling=sampling,
            attempts=attempts,
            max_tokens=max_tokens,
            name=f"unified-reward-edit-{form}",
        )
