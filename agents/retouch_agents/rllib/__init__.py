"""GRPO for multimodal agents as an algorithm of Ray RLlib (new API stack)."""

from retouch_agents.rllib.cluster import start_ray
from retouch_agents.rllib.grpo import GRPO, GRPOConfig

__all__ = ["GRPO", "GRPOConfig", "start_ray"]
