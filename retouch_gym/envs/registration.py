"""The environment ids that `import retouch_gym` adds to Gymnasium's registry."""

from __future__ import annotations

import gymnasium

ENV_IDS = ("Retouch/Retouch-v0",)
"""Every id registered by this package."""


def register_envs() -> None:
    """Register every id; harmless when called again."""
    if "Retouch/Retouch-v0" not in gymnasium.registry:
        gymnasium.register("Retouch/Retouch-v0", entry_point="retouch_gym.envs.retouch:RetouchEnv")
