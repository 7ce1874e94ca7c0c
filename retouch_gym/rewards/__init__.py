"""Rewards: rules that score a batch of episodes. Learned judges live in `retouch_reward_models`."""

from retouch_gym.rewards.base import REWARDS, Reward, RewardOutput, get_reward, score_batch, score_one
from retouch_gym.rewards.combination import ByMode, GeometricMean, Minimum, WeightedSum
from retouch_gym.rewards.distance import pixel_distance, pixel_distances
from retouch_gym.rewards.format import FormatReward
from retouch_gym.rewards.gate import Gate
from retouch_gym.rewards.intent import IntentReward
from retouch_gym.rewards.likeness import Likeness, PixelDistance
from retouch_gym.rewards.normalise import Normalised
from retouch_gym.rewards.pairwise import PairwiseReward, Preference
from retouch_gym.rewards.quality import L1, L2, PSNR, SSIM, DeltaE, Histogram
from retouch_gym.rewards.ranking import GroupRank, Tournament
from retouch_gym.rewards.refine import RefineReward
from retouch_gym.rewards.statistics import StatisticsReward
from retouch_gym.rewards.summary import SummaryReward
from retouch_gym.rewards.usefulness import EditReward, Usefulness

__all__ = [
    "L1",
    "L2",
    "PSNR",
    "REWARDS",
    "SSIM",
    "ByMode",
    "DeltaE",
    "EditReward",
    "FormatReward",
    "Gate",
    "GeometricMean",
    "GroupRank",
    "Histogram",
    "IntentReward",
    "Likeness",
    "Minimum",
    "Normalised",
    "PairwiseReward",
    "PixelDistance",
    "Preference",
    "RefineReward",
    "Reward",
    "RewardOutput",
    "StatisticsReward",
    "SummaryReward",
    "Tournament",
    "Usefulness",
    "WeightedSum",
    "get_reward",
    "pixel_distance",
    "pixel_distances",
    "score_batch",
    "score_one",
]
