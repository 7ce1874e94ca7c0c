"""The environment ids that `import retouch_gym` adds to Gymnasium's registry."""

from __future__ import annotations

from collections.abc import Mapping

import gymnasium

ENTRY_POINTS: Mapping[str, tuple[str, str]] = {
    "Retouch/Retouch-v0": ("retouch_gym.envs.retouch:RetouchEnv", "retouch_gym.envs.vector:RetouchVectorEnv"),
    "Retouch/Chat-v0": ("retouch_gym.envs.chat:ChatEnv", "retouch_gym.envs.chat:ChatVectorEnv"),
    "Retouch/Sliders-v0": ("retouch_gym.envs.sliders:SlidersEnv", "retouch_gym.envs.sliders:SlidersVectorEnv"),
}
"""Id to the environment and its vector environment."""

ENV_IDS = tuple(ENTRY_POINTS)
"""Every id registered by this package."""


def register_envs() -> None:
    """Register every id; harmless when called again."""
    for env_id, (single, vector) in ENTRY_POINTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point=single, vector_entry_point=vector)
