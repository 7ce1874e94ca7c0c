"""Judges: vision-language models that score an edit or compare two, and adapters to published ones."""

from retouch_reward_models.judges.base import CaseJudge, Sampling, content_seed
from retouch_reward_models.judges.edit_judge import EditJudge, Questions, SubScores, TwoQuestionJudge
from retouch_reward_models.judges.edit_reward import Rater, Rating, TigerEditReward
from retouch_reward_models.judges.editscore import EditScore
from retouch_reward_models.judges.ensemble import Ensemble
from retouch_reward_models.judges.pairwise import PairQuestion, PairwiseJudge
from retouch_reward_models.judges.unified_reward import UnifiedRewardEdit, UnifiedRewardEditPairs

__all__ = [
    "CaseJudge",
    "EditJudge",
    "EditScore",
    "Ensemble",
    "PairQuestion",
    "PairwiseJudge",
    "Questions",
    "Rater",
    "Rating",
    "Sampling",
    "SubScores",
    "TigerEditReward",
    "TwoQuestionJudge",
    "UnifiedRewardEdit",
    "UnifiedRewardEditPairs",
    "content_seed",
]
