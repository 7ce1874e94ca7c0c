"""When an environment asks its reward, of which episodes at once, and what a step is paid for the answer."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import partial
from typing import Literal, TypeAlias

from retouch_gym.envs.session import Session
from retouch_gym.envs.slots import Slot, running
from retouch_gym.envs.workers import Workers
from retouch_gym.errors import ConfigurationError, RetouchError, RewardError
from retouch_gym.renderers.base import Renderer
from retouch_gym.rewards.base import Reward, RewardOutput, score_batch
from retouch_gym.tasks import Episode

RewardMode: TypeAlias = Literal["final", "delta"]

REWARD_MODES: tuple[RewardMode, ...] = ("final", "delta")
"""What `RetouchEnv` calls ``reward_mode``."""


class Scorer:
    """Scores sessions at their end (``"final"``), or after every turn (``"delta"``).

    With ``"delta"`` a turn from state s to s' is paid γΦ(s') − Φ(s), the potential-based shaping of Ng, Harada &
    Russell (1999) with the reward as the potential Φ and nothing else, so that the return Σ γᵗ rₜ of an episode of T
    turns is γᵀΦ(s_T) − Φ(s₀).

    Args:
        reward: The reward.
        renderer: What renders, for rewards that render again.
        mode: ``"final"`` or ``"delta"``.
        discount: γ, 0..1. Only with ``"delta"``.
        max_turns: Turns of an episode.
        workers: What scores, where the reward `splits`.

    Raises:
        ConfigurationError: If the arguments do not go together, or the reward ranks groups that end at different turns.
    """

    def __init__(
        self, reward: Reward, renderer: Renderer, mode: RewardMode, discount: float, max_turns: int, workers: Workers
    ) -> None:
        if isinstance(discount, bool) or not isinstance(discount, int | float) or not 0 <= discount <= 1:
            raise ConfigurationError(f"discount is {discount!r}; expected a number 0..1.")
        if mode == "final" and discount != 1:
            raise ConfigurationError(
                f"discount = {discount} needs reward_mode='delta'; a reward at the end is discounted by the trainer."
            )
        if reward.scope == "group" and (mode == "delta" or max_turns > 1):
            found = "reward_mode = 'delta'" if mode == "delta" else f"max_turns = {max_turns}"
            raise ConfigurationError(
                f"Reward {reward.name!r} ranks the episodes of a task, which have to be scored together; with {found} "
                "they are not. Set reward_mode='final' and max_turns=1, and use gymnasium.make_vec(…, group_size=8) "
                "or GRPO's runner."
            )
        self.reward, self.renderer, self.mode, self.discount = reward, renderer, mode, float(discount)
        self.workers = workers

    def first_values(self, sessions: Sequence[Session], *, strict: bool) -> list[float | None]:
        """The potential of each session at its start, None where it has none; 0 where no turn is paid.

        Raises:
            RewardError: If one cannot be scored, and the reward is strict.
        """
        if self.mode == "final":
            return [0.0] * len(sessions)
        try:
            outputs = score_batch(self.reward, [session.episode(self.renderer) for session in sessions])
        except RewardError:
            if strict:
                raise
            return [None] * len(sessions)
        for session, output in zip(sessions, outputs, strict=True):
            if output.error is not None and strict:
                raise RewardError(self._blame(session, output.error))
        return [output.value for output in outputs]

    def score(self, slots: Sequence[Slot], failures: dict[int, RetouchError]) -> dict[int, RewardOutput]:
        """The outputs of the slots that are due, by their number; adds those without a value to `failures`."""
        sessions = [running(slot) for slot in slots]
        due = [
            number
            for number, session in enumerate(sessions)
            if number not in failures and (session.over or self.mode == "delta")
        ]
        found: dict[int, RewardOutput] = {}
        for batch in self._batches(due, slots):
            try:
                outputs = self._score([sessions[number].episode(self.renderer) for number in batch])
            except RewardError as error:
                failures.update(dict.fromkeys(batch, error))
                continue
            found.update(zip(batch, outputs, strict=True))
        for number, output in found.items():
            if output.error is not None:
                failures[number] = RewardError(self._blame(sessions[number], output.error))
            elif slots[number].value is None:
                failures[number] = RewardError(self._blame(sessions[number], "the turn before could not be scored"))
        return found

    def pay(self, slot: Slot, output: RewardOutput | None) -> float:
        """What a step earns; notes the value for the next one.

        Args:
            slot: Where the step was taken.
            output: A valid output; None where nothing was due.
        """
        value = 0.0 if output is None or output.value is None else output.value
        if self.mode == "final":
            return value
        before, slot.value = slot.value, value
        return self.discount * value - (math.nan if before is None else before)

    def _score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        if self.reward.splits and self.reward.scope == "episode":
            return self.workers.call(partial(score_batch, self.reward), episodes)
        return score_batch(self.reward, episodes)

    def _batches(self, due: Sequence[int], slots: Sequence[Slot]) -> list[list[int]]:
        """What is scored in one call: everything, unless two groups play the same task and must not meet."""
        if self.reward.scope == "episode":
            return [list(due)] if due else []
        met: dict[str, list[Hashable]] = {}
        batches: dict[int, list[int]] = {}
        for number in due:
            groups = met.setdefault(running(slots[number]).task.id, [])
            if slots[number].group not in groups:
                groups.append(slots[number].group)
            batches.setdefault(groups.index(slots[number].group), []).append(number)
        return list(batches.values())

    def _blame(self, session: Session, error: str) -> str:
        return f"Reward {self.reward.name!r} could not score task {session.task.id!r}: {error}"
