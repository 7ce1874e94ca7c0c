"""Rewards: rules that score a batch of episodes. Learned judges live in `retouch_reward_models`."""

from retouch_gym.rewards.base import REWARDS, Reward, RewardOutput, get_reward, score_batch, score_one
from retouch_gym.rewards.combination import ByMode, WeightedSum
from retouch_gym.rewards.distance import pixel_distance, pixel_distances
from retouch_gym.rewards.format import FormatReward
from retouch_gym.rewards.likeness import Likeness, PixelDistance
from retouch_gym.rewards.refine import RefineReward
from retouch_gym.rewards.summary import SummaryReward
from retouch_gym.rewards.usefulness import EditReward, Usefulness

__all__ = [
    "REWARDS",
    "ByMode",
    "EditReward",
    "FormatReward",
    "Likeness",
    "PixelDistance",
    "RefineReward",
    "Reward",
    "RewardOutput",
    "SummaryReward",
    "Usefulness",
    "WeightedSum",
    "get_reward",
    "pixel_distance",
    "pixel_distances",
    "score_batch",
    "score_one",
]
