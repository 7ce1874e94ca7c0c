"""What is optimised, as choices by name: an algorithm of the GRPO family, or PPO, is a row of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Literal, get_args

from retouch_agents.rllib.advantages import ADVANTAGES, AdvantageName
from retouch_gym.errors import ConfigurationError

GAE = "gae"
"""The advantage that takes a critic."""

Normalise = Literal["sequence", "token", "constant"]
Ratio = Literal["token", "sequence"]
KLEstimator = Literal["k1", "k2", "k3"]


@dataclass(frozen=True)
class Objective:
    """The (advantage, loss) pair that is optimised. Formulas are in `advantages` and `losses`, and in the docs.

    Args:
        advantage: What an answer's reward is compared with: a key of `advantages.ADVANTAGES`, or ``"gae"`` for what a
            critic expects (PPO): generalised advantage estimation over turns, `turns.gae`, whitened over the batch.
        normalise: What the loss is a mean over: ``"sequence"`` (every answer counts the same), ``"token"`` (every token
            of the batch does) or ``"constant"`` (a token counts 1 / `max_new_tokens`, whatever its answer's length).
        ratio: Whether the probability ratio is that of a ``"token"``, or of the whole ``"sequence"`` per token.
        clip: Distance from 1 at which the ratio is clipped, (low, high).
        kl_coeff: β, weight of the KL penalty to the reference; 0 does without a reference model.
        kl_estimator: How that KL is estimated.
        importance_cap: Where the sampler's probabilities differ from the learner's at the same weights (another
            engine, another precision), tokens are weighted by the truncated ratio of the two, at most this. Costs one
            more forward pass. None trusts the sampler.
        entropy_coeff: Weight of a bonus for the entropy of the tokens' distributions, subtracted from the loss.
        gamma: γ, discount per turn, of GAE.
        lam: λ of GAE.
        value_coeff: Weight of the values' loss; the critic shares the policy's layers.
        value_clip: How far a value may move in an iteration; None for no limit.

    Raises:
        ConfigurationError: With the setting, its value and what is expected.
    """

    advantage: AdvantageName | Literal["gae"] = "grpo"
    normalise: Normalise = "sequence"
    ratio: Ratio = "token"
    clip: tuple[float, float] = (0.2, 0.2)
    kl_coeff: float = 0.04
    kl_estimator: KLEstimator = "k3"
    importance_cap: float | None = None
    entropy_coeff: float = 0.0
    gamma: float = 1.0
    lam: float = 0.95
    value_coeff: float = 0.1
    value_clip: float | None = 0.2

    @property
    def critic(self) -> bool:
        """Whether values are learned, as baselines of the turns."""
        return self.advantage == GAE

    def __post_init__(self) -> None:
        """Check every choice."""
        expected: dict[str, tuple[str, ...]] = {
            "advantage": (*ADVANTAGES, GAE),
            "normalise": get_args(Normalise),
            "ratio": get_args(Ratio),
            "kl_estimator": get_args(KLEstimator),
        }
        for name, names in expected.items():
            _known(name, getattr(self, name), names)
        pair = self.clip if isinstance(self.clip, (tuple, list)) else ()
        if len(pair) != 2 or not 0 < pair[0] < 1 or pair[1] <= 0:
            raise ConfigurationError(f"clip = {self.clip} should be a number in (0, 1), or (low, high).")
        if self.kl_coeff < 0:
            raise ConfigurationError(f"kl_coeff = {self.kl_coeff} should be 0 or more.")
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"{name} = {getattr(self, name)} should be between 0 and 1.")
        for name in ("value_coeff", "entropy_coeff"):
            if getattr(self, name) < 0:
                raise ConfigurationError(f"{name} = {getattr(self, name)} should be 0 or more.")
        if self.value_clip is not None and self.value_clip <= 0:
            raise ConfigurationError(f"value_clip = {self.value_clip} should be above 0, or None for no clip.")
        if self.importance_cap is not None and self.importance_cap < 1:
            raise ConfigurationError(
                f"importance_cap = {self.importance_cap} should be 1 or more (2 is usual), or None for no correction."
            )


_GRPO: Mapping[str, Any] = MappingProxyType(
    {
        "advantage": "grpo",
        "normalise": "sequence",
        "ratio": "token",
        "clip": (0.2, 0.2),
        "kl_coeff": 0.04,
        "kl_estimator": "k3",
        "dynamic_sampling": False,
    }
)

ALGORITHMS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "grpo": _GRPO,
        "dr_grpo": {**_GRPO, "advantage": "dr_grpo", "normalise": "constant", "kl_coeff": 0.0},
        "dapo": {**_GRPO, "normalise": "token", "clip": (0.2, 0.28), "kl_coeff": 0.0, "dynamic_sampling": True},
        "gspo": {**_GRPO, "ratio": "sequence", "clip": (3e-4, 4e-4), "kl_coeff": 0.0},
        "rloo": {**_GRPO, "advantage": "rloo", "normalise": "constant", "kl_estimator": "k2"},
        "reinforce++": {**_GRPO, "advantage": "reinforce++", "normalise": "token", "kl_estimator": "k2"},
        "reinforce++_baseline": {
            **_GRPO,
            "advantage": "reinforce++_baseline",
            "normalise": "token",
            "kl_estimator": "k2",
        },
        "ppo": {**_GRPO, "advantage": GAE, "normalise": "token", "kl_estimator": "k2"},
    }
)
"""Published algorithms as options of `GRPOConfig.training`; each names all, so that the last one chosen holds."""


def algorithm_options(name: str) -> dict[str, Any]:
    """The options that make up a published algorithm.

    Args:
        name: A key of `ALGORITHMS`.

    Raises:
        ConfigurationError: If there is no such algorithm.
    """
    return dict(ALGORITHMS[_known("algorithm", name, tuple(ALGORITHMS))])


def _known(setting: str, value: Any, names: tuple[str, ...]) -> str:
    if isinstance(value, str) and value in names:
        return value
    near = get_close_matches(str(value), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigurationError(f"{setting} = {value!r} should be one of {', '.join(map(repr, names))}.{hint}")
