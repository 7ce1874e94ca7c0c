"""Rewards: rules that score a batch of episodes. Learned judges live in `retouch_reward_models`."""

from retouch_gym.rewards.base import REWARDS, Reward, RewardOutput, get_reward, score_batch, score_one
from retouch_gym.rewards.distance import pixel_distance, pixel_distances
from retouch_gym.rewards.likeness import Likeness, PixelDistance
from retouch_gym.rewards.usefulness import EditReward, Usefulness

__all__ = [
    "REWARDS",
    "EditReward",
    "Likeness",
    "PixelDistance",
    "Reward",
    "RewardOutput",
    "Usefulness",
    "get_reward",
    "pixel_distance",
    "pixel_distances",
    "score_batch",
    "score_one",
]
