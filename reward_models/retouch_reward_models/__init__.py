"""Learned rewards: generalist reward models, judges, their training and their serving.

Importing this package registers ``Retouch/Judge-v0`` and loads no framework: what needs one is loaded when it is asked
for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from retouch_reward_models.backends.endpoint import OpenAICompatible
    from retouch_reward_models.grm.reward import GeneralistReward, load_generalist

__all__ = ["GeneralistReward", "OpenAICompatible", "load_generalist"]

JUDGE_ENV = "Retouch/Judge-v0"

_HOMES = {
    "GeneralistReward": "retouch_reward_models.grm.reward",
    "OpenAICompatible": "retouch_reward_models.backends.endpoint",
    "load_generalist": "retouch_reward_models.grm.reward",
}

if JUDGE_ENV not in gymnasium.registry:
    gymnasium.register(JUDGE_ENV, entry_point="retouch_reward_models.training.judge_env:JudgeEnv")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
