"""EditScore and its relatives: vision-language models tuned to answer VIEScore's questions on a scale of 0..25."""

from __future__ import annotations

from retouch_gym.errors import ConfigurationError
from retouch_reward_models.backends.base import Backend, ChatReply
from retouch_reward_models.judges.answers import read_object, read_scores, read_words
from retouch_reward_models.judges.base import Sampling
from retouch_reward_models.judges.edit_judge import FIELD, TOP, Questions, SubScores, TwoQuestionJudge
from retouch_reward_models.quoting import DATA_RULE

SCALE = 25.0
"""Largest score that these models were taught to give."""


def list_questions(scale: float = SCALE) -> Questions:
    """Our words for VIEScore's two questions, with answers as ``{"reasoning": str, "score": [first, second]}``.

    Args:
        scale: Largest score.
    """
    form = 'Answer with one JSON object and nothing else, reasoning first: {"reasoning": "short", "score": [0, 0]}'
    return Questions(
        comparison=(
            "You rate edited photos as a professional. The first photo is the original, the second was edited by "
            f"instruction; the two may look the same if the edit failed. {DATA_RULE}\n"
            f"Give two scores from 0 to {scale:g}. score[0], success of the edit: 0 if the instruction was not "
            f"followed at all, {scale:g} if it was followed perfectly. score[1], over-editing: 0 if the photo became "
            f"another one altogether, {scale:g} if nothing was changed beyond what the instruction needs.\n"
            f"EDITING INSTRUCTION: {FIELD}\n{form}"
        ),
        quality=(
            f"You rate photos as a professional. {DATA_RULE}\n"
            f"Give two scores from 0 to {scale:g}. score[0], naturalness: 0 if light, shadow or distance look wrong, "
            f"{scale:g} if the photo looks natural. score[1], artefacts: 0 if distortion, watermarks, scratches, blur "
            f"or parts that do not belong together fill the photo, {scale:g} if there are none.\n{form}"
        ),
    )


class EditScore(TwoQuestionJudge):
    """EditScore (arXiv 2509.23909) behind any backend: a server's model, or one loaded from a folder.

    Known from the public repository VectorSpaceLab/EditScore: the models are vision-language models that are prompted
    as in VIEScore, with the reasoning before the scores; each answer is JSON with ``reasoning`` and ``score``, a list
    of two numbers on 0..25; scores are divided by 2.5; SC and PQ are the minima, O = √(SC · PQ); several passes at
    temperature 0.7 with following seeds are averaged ("self-ensembling"). That is
    ``Ensemble(EditScore(backend), samples=4)`` here. Its benchmark's dimensions ``prompt_following`` and
    ``consistency`` are the components ``success`` and ``restraint``.

    Assumed: that a released model answers our wording of the questions as it does its own; for the numbers of the
    paper pass the repository's wording as `questions`. Different on purpose: there an unreadable or out-of-range
    answer becomes a middling score; here it is asked for again and then an error.

    Args:
        backend: Who answers.
        questions: What is asked.
        scale: Largest score in the answers.
        sampling: How answers are drawn.
        attempts: How often an answer that cannot be read is asked for at most.
        max_tokens: Most tokens of an answer.

    Raises:
        ConfigurationError: If the scale is not above 0.
    """

    name = "editscore"

    def __init__(
        self,
        backend: Backend,
        questions: Questions | None = None,
        *,
        scale: float = SCALE,
        sampling: Sampling | None = None,
        attempts: int = 2,
        max_tokens: int = 512,
    ) -> None:
        if scale <= 0:
            raise ConfigurationError(f"scale is {scale}, expected above 0.")
        asked = questions or list_questions(scale)
        super().__init__(backend, asked, sampling=sampling, attempts=attempts, max_tokens=max_tokens)
        self.scale = scale

    def read_comparison(self, reply: ChatReply) -> SubScores:
        """See `TwoQuestionJudge.read_comparison`."""
        return self._read(reply)

    def read_quality(self, reply: ChatReply) -> SubScores:
        """See `TwoQuestionJudge.read_quality`."""
        return self._read(reply)

    def _read(self, reply: ChatReply) -> SubScores:
        found = read_object(reply, ("reasoning", "score"))
        first, second = read_scores(found["score"], "score", 2, 0.0, self.scale)
        rationale = read_words(found["reasoning"], "reasoning")
        return SubScores(first * TOP / self.scale, second * TOP / self.scale, rationale)
