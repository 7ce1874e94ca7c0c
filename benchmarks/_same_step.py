"""Whether ours and TRL's are one algorithm: both learn from the same answers. `python _same_step.py RUN.json`.

Ours plays one iteration; TRL is handed its answers instead of drawing any, pays them and learns. What both did to the
weights is compared: with the same rewards, advantages, loss, clipping and optimiser they move the same way.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _grpo_run import Run
from _ours_side import algorithm_of
from _trl_side import trainer_of

from retouch_agents.chat import ChatFormat
from retouch_agents.models import load_model
from retouch_agents.rllib.cluster import start_ray
from retouch_agents.rllib.grpo import GRPO
from retouch_agents.rllib.rollouts import Rollout
from retouch_gym.tools.iea import IEA


def weights(model: torch.nn.Module) -> torch.Tensor:
    """All parameters in a row."""
    named = sorted(model.named_parameters())
    return torch.cat([parameter.detach().flatten() for _, parameter in named])


def our_step(run: Run) -> tuple[torch.Tensor, list[Rollout]]:
    """The weights after one iteration of ours, and the answers that it learned from."""
    answers: list[Rollout] = []
    learn = GRPO._learn

    def watched(self: GRPO, lesson: Any) -> dict[str, float]:
        answers.extend(lesson.rollouts)
        return learn(self, lesson)

    GRPO._learn = watched  # type: ignore[method-assign]
    algorithm = algorithm_of(run)
    try:
        algorithm.train()
        algorithm.export_policy(Path(run.out) / "policy")
    finally:
        GRPO._learn = learn  # type: ignore[method-assign]
        algorithm.stop()
    return weights(load_model(Path(run.out) / "policy")), answers


def their_step(run: Run, answers: Sequence[Rollout]) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights after one iteration of TRL's on these answers, and the rewards that it paid."""
    trainer: Any = trainer_of(run, ChatFormat.from_pretrained(run.model, IEA))
    rewards: list[torch.Tensor] = []
    pay = trainer._calculate_rewards

    def paid(*args: Any) -> torch.Tensor:
        rewards.append(pay(*args))
        return rewards[-1]

    given = [[int(token) for token in answer.token_ids] for answer in answers]
    trainer._calculate_rewards = paid
    trainer._generate_single_turn = lambda *_, **__: (given, None)
    trainer.train()
    return weights(trainer.accelerator.unwrap_model(trainer.model)), rewards[0][:, 0]


def main(run: Run) -> None:
    """Compare, and write ``result.json``."""
    torch.set_num_threads(run.threads)
    start_ray(num_cpus=2)
    ours, answers = our_step(run)
    theirs, rewards = their_step(run, answers)
    start = weights(load_model(run.model))
    mine, other = ours - start, theirs - start
    paid = np.array([answer.reward for answer in answers])
    found = {
        "largest difference of a reward": float(np.abs(rewards.numpy() - paid).max()),
        "cosine of the two steps": float(torch.nn.functional.cosine_similarity(mine, other, dim=0)),
        "length, ours / TRL's": float(mine.norm() / other.norm()),
    }
    (Path(run.out) / "result.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Run.read(Path(sys.argv[1])))
