"""Rewards: rules that score a batch of episodes. Learned judges live in `retouch_reward_models`."""

from retouch_gym.rewards.base import Reward, RewardOutput

__all__ = ["Reward", "RewardOutput"]
