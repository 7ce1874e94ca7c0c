"""Answers of an episode as one piece of text, so that it passes through the model once and not once a turn."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from retouch_agents.encoding import Prompt
from retouch_agents.rllib.rollouts import Rollout
from retouch_agents.scoring import Continuation, Scores


@dataclass(frozen=True, eq=False)
class Episode:
    """Successive answers of an episode, each of whose prompts continues the one before.

    Args:
        key: What all pieces with the same prompt have in common.
        prompt: The prompt of the first answer.
        continuation: The answers, and what was shown between them.
        answers: For each answer the row of its rollout, and where in the continuation it begins and ends.
    """

    key: Hashable
    prompt: Prompt
    continuation: Continuation
    answers: tuple[tuple[int, int, int], ...]


def episodes_of(rollouts: Sequence[Rollout]) -> list[Episode]:
    """Put the answers of episodes together.

    An answer whose prompt does not continue the last one (a conversation that was cut to fit, or shows only the last
    photo; or the answer before is not in this batch) begins a piece of its own: the scores are the same, the forward
    pass is longer.

    Args:
        rollouts: In any order; the turns of an episode one after the other.
    """
    found: list[Episode] = []
    row = 0
    while row < len(rollouts):
        first = rollouts[row]
        tokens, sampled = Prompt(first.token_ids), [np.ones(len(first.token_ids), dtype=np.bool_)]
        answers = [(row, 0, len(first.token_ids))]
        while row + 1 < len(rollouts) and _continues(rollouts[row], rollouts[row + 1]):
            shown = rollouts[row + 1].prompt.after(rollouts[row].prompt.then(rollouts[row].token_ids))
            if shown is None:
                break
            row += 1
            answer = rollouts[row].token_ids
            start = len(tokens.input_ids) + len(shown.input_ids)
            tokens = tokens.joined(shown).then(answer)
            sampled += [np.zeros(len(shown.input_ids), dtype=np.bool_), np.ones(len(answer), dtype=np.bool_)]
            answers.append((row, start, start + len(answer)))
        # Members of a group share the first prompt; later ones are their own.
        key = (first.group,) if first.turn == 0 else (first.group, first.member, first.turn)
        found.append(Episode(key, first.prompt, Continuation(tokens, np.concatenate(sampled)), tuple(answers)))
        row += 1
    return found


def answers_of(scores: Scores, pieces: Sequence[Episode]) -> Scores:
    """Scores with a row for every answer, from scores with a row for every piece; states before each first token."""
    if all(len(piece.answers) == 1 for piece in pieces):
        return scores
    places = sorted(
        (row, number, start, end) for number, piece in enumerate(pieces) for row, start, end in piece.answers
    )

    def cut(values: torch.Tensor) -> torch.Tensor:
        rows = [values[number, start:end] for _, number, start, end in places]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)

    states = None
    if scores.states is not None:
        states = torch.stack([scores.states[number, start] for _, number, start, _ in places])[:, None]
    return Scores(cut(scores.logprobs), cut(scores.entropy), cut(scores.mask), states)


def _continues(one: Rollout, other: Rollout) -> bool:
    return (one.group, one.member, one.turn + 1) == (other.group, other.member, other.turn)
