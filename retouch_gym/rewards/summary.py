"""The reward of saying what an edit was meant to do."""

from __future__ import annotations

import re
from collections.abc import Sequence

from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.tasks import Episode


def tokens(text: str) -> list[str]:
    """Runs of a–z and 0–9 of the lower-cased text: the tokens of the ``rouge-score`` package, without stemming."""
    return re.findall(r"[a-z0-9]+", text.lower())


def common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    Bit-parallel: one addition of a len(a)-bit number per element of `b` (H. Hyyrö, "Bit-parallel LCS-length
    computation revisited", 2004).
    """
    places: dict[str, int] = {}
    for place, token in enumerate(a):
        places[token] = places.get(token, 0) | 1 << place
    every = (1 << len(a)) - 1
    unmatched = every
    for token in b:
        matched = unmatched & places.get(token, 0)
        unmatched = (unmatched + matched | unmatched - matched) & every
    return len(a) - unmatched.bit_count()


def rouge_l(target: str, answer: str) -> tuple[float, float, float]:
    """ROUGE-L of two texts: the longest common subsequence of their tokens (C.-Y. Lin, "ROUGE", 2004).

    Args:
        target: The words that are asked for.
        answer: The words that were said.

    Returns:
        F1, precision (share of the answer) and recall (share of the target), each 0..1; all 0 where either
        text has no token.
    """
    wanted, said = tokens(target), tokens(answer)
    common = common_subsequence(wanted, said)
    if not common:
        return 0.0, 0.0, 0.0
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall), precision, recall


class SummaryReward(Reward):
    """ROUGE-L (F1) between what was said and the words that were asked for, 0..1.

    Nothing said is worth 0. A task without an answer, or with one that has no Latin letter and no digit (ROUGE
    sees no others), cannot be scored.
    """

    name = "summary"
    range = (0.0, 1.0)
    components = ("rouge_l", "precision", "recall")

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order."""
        return [self._score_one(episode) for episode in episodes]

    def _score_one(self, episode: Episode) -> RewardOutput:
        task = episode.task
        if not tokens(task.answer):
            what = f"an answer without a letter a-z or a digit: {task.answer[:60]!r}" if task.answer else "no answer"
            problem = f"task {task.id!r} has {what} to compare with; use summary tasks or another reward"
            return RewardOutput(None, error=problem)
        values = rouge_l(task.answer, episode.answer or "")
        return RewardOutput(values[0], dict(zip(self.components, values, strict=True)))
