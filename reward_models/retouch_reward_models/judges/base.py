"""What every judge shares: cases in, outputs out, a batch at a time, and seeds that come from what is judged."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from retouch_gym.errors import ConfigurationError, RewardError
from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.tasks import Episode
from retouch_reward_models.cases import Case, case_of
from retouch_reward_models.errors import BackendError


@dataclass(frozen=True)
class Sampling:
    """How one answer is drawn.

    Args:
        temperature: 0 answers greedily.
        seed: Seed of sampling, where the backend has one. None takes one from the case's content where one is needed.
    """

    temperature: float = 0.0
    seed: int | None = None


class CaseJudge(Reward):
    """A reward that looks at nothing but a case: instruction, photo before, photo after.

    A case that cannot be judged gets an output with `error`; its neighbours are judged all the same.
    """

    @abstractmethod
    def judge(self, cases: Sequence[Case], samplings: Sequence[Sampling] | None = None) -> list[RewardOutput]:
        """Judge each case, in order.

        Args:
            cases: Cases with one candidate each.
            samplings: How the answer to each case is drawn; by default as the judge was made to.

        Raises:
            BackendError: If the backend cannot be used at all.
        """

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """See `Reward.score`."""
        try:
            return self.judge([case_of(episode) for episode in episodes])
        except BackendError as error:
            raise RewardError(f"Reward {self.name!r} cannot reach its judge: {error}") from error


def content_seed(case: Case, sample: int = 0) -> int:
    """A seed in 0..2³¹ − 1 that depends on what is judged alone, not on where in a batch it stands.

    Args:
        case: The case.
        sample: Which sample of it.
    """
    digest = hashlib.sha256(f"{sample}\n{case.instruction}".encode("utf-8", "surrogatepass"))
    for photo in (case.before, *case.candidates):
        digest.update(f"{photo.shape}".encode())
        digest.update(photo.tobytes())
    return int.from_bytes(digest.digest()[:4], "big") >> 1


def settled(sampling: Sampling, case: Case) -> Sampling:
    """A sampling that gives a case the same answer alone and in any batch: without a seed it gets the content's."""
    if sampling.temperature <= 0 or sampling.seed is not None:
        return sampling
    return replace(sampling, seed=content_seed(case))


def check_positive(name: str, value: int) -> int:
    """`value` if it is at least 1.

    Raises:
        ConfigurationError: If it is not.
    """
    if value < 1:
        raise ConfigurationError(f"{name} is {value}, expected at least 1.")
    return value
