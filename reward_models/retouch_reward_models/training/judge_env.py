"""`Retouch/Judge-v0`: judging as a task of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

from retouch_gym.chat import Message
from retouch_gym.errors import ConfigurationError
from retouch_gym.renderers.base import Renderer, get_renderer
from retouch_gym.spaces import MessagesSpace, TextSpace
from retouch_reward_models.errors import VerdictError
from retouch_reward_models.grm.formats import MAX_VERDICT, VerdictFormat, get_verdict_format
from retouch_reward_models.grm.prompts import JudgePrompt
from retouch_reward_models.training.demonstrations import render_case
from retouch_reward_models.training.pairs import Pair, Pairs, get_pairs

METADATA: dict[str, Any] = {"render_modes": []}
"""What Gymnasium wants to know about rendering."""

MAX_PROMPT = 65_536
"""Most characters of a text block of the conversation."""


class JudgeEnv(gymnasium.Env[tuple[Message, ...], str]):
    """Judge two edits of a photo: criteria and scores as text, paid when the better edit is scored higher.

    ## Description
    RetouchIQ's second stage of training its generalist reward model (arXiv 2602.17558): a pair of edits, of which one
    is known to be better, and a reward r = 1[total(better) > total(worse)] + r_format. The pairs come from a perturber
    or from the policy itself; alternating the two trainings is PGRT. The judge is an agent like any other, so that
    whatever trains a policy trains it too.

    ## Action Space
    `TextSpace`: a verdict about two candidates in the verdict format, read strictly (see
    `retouch_reward_models.grm.VerdictFormat`).

    ## Observation Space
    `MessagesSpace`: a conversation with the photo before, both edits as A and B, the instruction as quoted data, and
    how to answer; as `Retouch/Chat-v0` shows it.

    ## Rewards
    1 if the better edit's total is above the worse one's (a tie pays 0), plus `format_weight` if the verdict could be
    read. ``info["reward_components"]``: ``preference`` and ``format``, each 0 or 1; ``info["margin"]``: the difference
    of the totals, −10..10 (absent if the verdict could not be read).

    ## Starting State
    A drawn pair, or that of ``options={"index": int}``. In half of the episodes the better edit is A, in the others B.

    ## Episode End
    Always after one answer. What cannot be read ends the episode too: ``info["tool_error"]`` says why.

    ## Arguments
    >>> import gymnasium, retouch_reward_models
    >>> env = gymnasium.make("Retouch/Judge-v0", verdict_format="lines")
    >>> messages, info = env.reset(seed=1, options={"index": 0})
    >>> _, reward, terminated, _, info = env.step("natural look|100|=3|=8")
    >>> terminated, reward in (0.1, 1.1)
    (True, True)

    Args:
        pairs: `Pairs`, ``"perturbed"`` or ``"module:attribute"``.
        pairs_kwargs: Options of named pairs.
        verdict_format: How to answer: ``"json"``, ``"lines"``, ``"module:attribute"`` or a `VerdictFormat`.
        prompt: What is shown and told: a `JudgePrompt` or its fields.
        format_weight: What a verdict that can be read is worth.
        renderer: What renders the edits.

    Raises:
        ConfigurationError: If an argument is not known.
        DatasetError: If there are no pairs.

    ## Version History
    * v0: first release.
    """

    metadata = METADATA

    max_turns = 1

    def __init__(
        self,
        pairs: str | Pairs = "perturbed",
        pairs_kwargs: Mapping[str, Any] | None = None,
        verdict_format: str | VerdictFormat = "json",
        prompt: JudgePrompt | Mapping[str, Any] | None = None,
        format_weight: float = 0.1,
        renderer: str | Renderer = "native",
    ) -> None:
        self.dataset = get_pairs(pairs, **(pairs_kwargs or {}))
        if not len(self.dataset):
            raise ConfigurationError("There are no pairs to judge; gather some first.")
        self.format = get_verdict_format(verdict_format)
        self.prompt = prompt if isinstance(prompt, JudgePrompt) else JudgePrompt.from_dict(prompt or {})
        self.format_weight = float(format_weight)
        self.renderer = get_renderer(renderer)
        self.observation_space = MessagesSpace(MAX_PROMPT)
        self.action_space = TextSpace(MAX_VERDICT)
        self._pair: Pair | None = None
        self._swapped = False
        self._messages: tuple[Message, ...] = ()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[tuple[Message, ...], dict[str, Any]]:
        """Show a pair.

        Args:
            seed: Seed of the pair and of the order of its edits.
            options: ``{"index": int}`` chooses the pair.

        Raises:
            ConfigurationError: For an unknown option or an index that is not there.
        """
        super().reset(seed=seed)
        given = dict(options or {})
        index = int(given.pop("index", self.np_random.integers(len(self.dataset))))
        if given or not 0 <= index < len(self.dataset):
            raise ConfigurationError(f"reset options {options!r}: expected {{'index': 0..{len(self.dataset) - 1}}}.")
        self._pair = self.dataset[index]
        self._swapped = bool(self.np_random.random() < 0.5)
        edits = (self._pair.better, self._pair.worse)
        case = render_case(self._pair.task, edits[::-1] if self._swapped else edits, self.renderer)
        self._messages = tuple(self.prompt.verdict(case, self.format))
        return self._messages, self._info()

    def step(self, action: str) -> tuple[tuple[Message, ...], float, bool, bool, dict[str, Any]]:
        """Take the verdict. Anything that is none pays nothing.

        Raises:
            ResetNeeded: Before a reset.
        """
        if self._pair is None:
            raise gymnasium.error.ResetNeeded("Call reset() before step(); an episode is one answer.")
        info = self._info()
        preferred = readable = 0.0
        try:
            verdict = self.format.parse(action if isinstance(action, str) else repr(action)[:100], 2)
        except VerdictError as error:
            info["tool_error"] = str(error)
        else:
            totals = (verdict.total(0), verdict.total(1))
            margin = totals[1] - totals[0] if self._swapped else totals[0] - totals[1]
            preferred, readable = float(margin > 0), 1.0
            info["margin"] = margin
        info |= {"reward_components": {"preference": preferred, "format": readable}, "reward_valid": True}
        self._pair = None
        return self._messages, preferred + self.format_weight * readable, True, False, info

    def _info(self) -> dict[str, Any]:
        assert self._pair is not None
        return {
            "task_id": self._pair.id,
            "kind": self._pair.origin,
            "swapped": self._swapped,
            "tool_error": None,
        }
