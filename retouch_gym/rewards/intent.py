"""The reward of having understood an edit: right effects, right directions, right strengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.rewards.effects import KEYWORDS, read_effects
from retouch_gym.rewards.summary import tokens
from retouch_gym.tasks import Episode

EFFECTS_WEIGHT: Final = 0.8
"""Share of the agreement on effects in the value; the rest is agreement on words."""

FILLER_WEIGHT: Final = 0.1
"""What a word counts that nearly every request has; other words count 1."""

_FILLER: Final = frozenset(
    tokens(
        "a an and are as at be been but by can could do for from had has have i in is it its like look looks make "
        "made me my of on or photo picture image please should so some that the them then there these they this "
        "those to was want wanted wants we were what when which will with would you your user"
    )
)


def effect_agreement(wanted: Mapping[str, int], said: Mapping[str, int]) -> float:
    """Agreement of two readings of `retouch_gym.rewards.effects.read_effects`, −1..1.

    A signed Dice coefficient, 2 Σ c / (|wanted| + |said|): an effect of both texts has c = 1 − |difference of the
    strengths| / 6 where the directions agree, between 1 and ½, and c = −1 where they do not; an effect of one text
    only makes the sum of the sizes longer. 0 where either names nothing.
    """
    credit = 0.0
    for effect, value in said.items():
        if effect in wanted:
            same = (value > 0) == (wanted[effect] > 0)
            credit += 1 - abs(value - wanted[effect]) / 6 if same else -1.0
    return 2 * credit / (len(wanted) + len(said)) if credit else 0.0


def word_agreement(wanted: Sequence[str], said: Sequence[str]) -> float:
    """Dice coefficient of two bags of words, 0..1, where filler ("make", "it", "the") counts a tenth."""
    first, second = Counter(wanted), Counter(said)
    total = _weight(first) + _weight(second)
    return 2 * _weight(first & second) / total if total else 0.0


class IntentReward(Reward):
    """How well what was said agrees with the words that were asked for, effect by effect.

    value = .8 `effect_agreement` + .2 `word_agreement`, in −.8..1. Where any effect is named in the wrong
    direction the words count nothing, so that naming only opposites is always worth less than naming nothing,
    which is never below 0. Where the words that are asked for name no effect that is known, the value is
    `word_agreement` alone.

    Unlike ROUGE-L (`SummaryReward`) it does not care for order and hardly for filler: "make it warmer" and "make it
    cooler" share most of their words and are opposites here. It reads English by a word list and can be deceived by
    what it does not know; a learned judge knows more.

    A task without an answer, or with one that has no Latin letter and no digit, cannot be scored. Components:
    `effects` and `words` are the two agreements, `opposites` the number of effects in the wrong direction.
    """

    name = "intent"
    range = (-EFFECTS_WEIGHT, 1.0)
    components = ("effects", "words", "opposites")
    splits = True

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order."""
        return [self._score_one(episode) for episode in episodes]

    def _score_one(self, episode: Episode) -> RewardOutput:
        task = episode.task
        target, answer = tokens(task.answer), tokens(episode.answer or "")
        if not target:
            what = f"an answer without a letter a-z or a digit: {task.answer[:60]!r}" if task.answer else "no answer"
            problem = f"task {task.id!r} has {what} to compare with; use summary tasks or another reward"
            return RewardOutput(None, error=problem)
        wanted, said = read_effects(target), read_effects(answer)
        opposites = sum(effect in wanted and (value > 0) != (wanted[effect] > 0) for effect, value in said.items())
        words = 0.0 if opposites else word_agreement(target, answer)
        effects = effect_agreement(wanted, said)
        value = EFFECTS_WEIGHT * effects + (1 - EFFECTS_WEIGHT) * words if wanted else words
        return RewardOutput(value, {"effects": effects, "words": words, "opposites": float(opposites)})


def _weight(words: Counter[str]) -> float:
    return sum(
        count * (FILLER_WEIGHT if word in _FILLER and word not in KEYWORDS else 1.0) for word, count in words.items()
    )
