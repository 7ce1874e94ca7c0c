"""Policy-guided reward training: policy and judge are trained in turn, the judge on the policy's own edits.

RetouchIQ, arXiv 2602.17558: perturbations damage one parameter, a policy errs in several at once, so a reward model
trained on perturbations alone meets edits that it has never seen. Each round gathers the policy's edits into a buffer
of pairs, trains the judge on them with GRPO in `Retouch/Judge-v0`, and then the policy with the new judge as reward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from retouch_agents.metrics_log import MetricsLog
from retouch_agents.pipelines.edits import decided_pairs, sample_edits
from retouch_agents.reinforce import GRPOStage, reinforce
from retouch_gym.datasets.base import get_dataset
from retouch_reward_models.grm.files import load_judge_prompt
from retouch_reward_models.training.pairs import PairBuffer

JUDGE_ENV = "retouch_reward_models:Retouch/Judge-v0"
"""Id of the judge's environment, with the module that registers it."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class PGRTConfig:
    """Settings of policy-guided reward training.

    Args:
        dataset: The policy's training tasks.
        dataset_kwargs: Options of a named dataset.
        rounds: Alternations.
        tasks: Tasks a round whose edits are gathered.
        answers: Answers to each.
        buffer: Most pairs that are kept, the newest.
        share: Share of the judge's pairs that are the policy's own, 0..1; the others are perturbed, so that it does
            not forget them. 0 trains on perturbations alone: the control.
        perturbed: Options of `PerturbedPairs`.
        judge: GRPO of the judge, a round.
        policy: GRPO of the policy, a round. None leaves the policy as it is.
        margin: Least difference of the right totals at which a pair of the policy's edits is kept, 0..10.
        seed: Seed of everything.
    """

    dataset: str = "samples"
    dataset_kwargs: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 2
    tasks: int = 512
    answers: int = 4
    buffer: int = 5000
    share: float = 0.5
    perturbed: Mapping[str, Any] = field(default_factory=dict)
    judge: GRPOStage = field(default_factory=lambda: GRPOStage({}, 40, learning_rate=1e-4, max_new_tokens=48))
    policy: GRPOStage | None = field(default_factory=lambda: GRPOStage({}, 30))
    margin: float = 1.0
    seed: int = 0


def train_judge(judge: Path, output: Path, stage: GRPOStage, pairs: Any, metrics: MetricsLog, say: Say) -> None:
    """One stage of GRPO in `Retouch/Judge-v0`.

    Args:
        judge: Folder of the judge to start from.
        output: Folder of the trained one.
        stage: Settings; the environment's are filled in.
        pairs: See `retouch_reward_models.training.pairs.get_pairs`.
        metrics: Receives a row per iteration.
        say: Receives a short text per iteration.
    """
    prompt, spoken = load_judge_prompt(judge)
    config = {"pairs": pairs, "prompt": prompt.to_dict(), "verdict_format": spoken.name, **stage.env_config}
    reinforce(judge, output, replace(stage, env=JUDGE_ENV, env_config=config), metrics, lambda n, text: say(text))


def train_policy(policy: Path, output: Path, stage: GRPOStage, judge: Path, metrics: MetricsLog, say: Say) -> None:
    """One stage of GRPO of a policy, paid by a judge.

    Args:
        policy: Folder of the policy to start from.
        output: Folder of the trained one.
        stage: Settings. If its environment names a reward of its own, for instance a pool that serves the judge, that
            one pays.
        judge: Folder of the judge that every env runner loads otherwise.
        metrics: Receives a row per iteration.
        say: Receives a short text per iteration.
    """
    own = {"folder": str(judge.resolve()), "version": judge.name, "batch_size": 128, "max_tokens": 48}
    paid = {"reward": "retouch_reward_models:load_generalist", "reward_kwargs": own}
    config = {**paid, **stage.env_config, "on_reward_error": "truncate", "max_turns": 1}
    reinforce(policy, output, replace(stage, env_config=config), metrics, lambda n, text: say(text))


def alternate(
    policy: Path,
    judge: Path,
    out: Path,
    config: PGRTConfig,
    say: Say = print,
    publish: Callable[[Path], None] | None = None,
) -> tuple[Path, Path]:
    """Run policy-guided reward training. What is finished in `out` is not done again.

    Args:
        policy: Folder of the policy to start from.
        judge: Folder of the judge to start from.
        out: Folder of the rounds: ``judge-1``, ``policy-1``, …, ``pairs.jsonl``, ``metrics.jsonl``. All are kept.
        config: Settings.
        say: Receives what is being done.
        publish: Called with the folder of every new judge before the policy is trained with it, for instance to have a
            running pool go over to it: ``lambda folder: pool.load(folder.name, {"folder": str(folder)})``.

    Returns:
        The folders of the last policy and the last judge.
    """
    out.mkdir(parents=True, exist_ok=True)
    metrics = MetricsLog(out / "metrics.jsonl")
    options = dict(config.dataset_kwargs)
    for number in range(1, config.rounds + 1):
        next_judge, next_policy = out / f"judge-{number}", out / f"policy-{number}"
        if not next_judge.is_dir():
            say(f"round {number}: judge")
            stage = replace(config.judge, name=f"judge-{number}", seed=config.seed * 100 + number)
            pairs = ["perturbed", {"dataset": config.dataset, "dataset_kwargs": options, **config.perturbed}]
            if config.share > 0:
                buffer = _gather(policy, out, config, number)
                kept = {"path": str(buffer.path.resolve()), "capacity": config.buffer}
                own = ["buffer", {"dataset": config.dataset, "dataset_kwargs": options, **kept}]
                parts = [[own, config.share], [pairs, 1 - config.share]]
                pairs = ["mixed", {"parts": parts, "seed": stage.seed}]
            train_judge(judge, next_judge, stage, pairs, metrics, say)
        judge = next_judge
        if publish is not None:
            publish(judge)
        if config.policy is None:
            continue
        if not next_policy.is_dir():
            say(f"round {number}: policy")
            tasks = {"dataset": config.dataset, "dataset_kwargs": options, **config.policy.env_config}
            stage = replace(config.policy, env_config=tasks, name=f"policy-{number}", seed=config.seed * 100 + number)
            train_policy(policy, next_policy, stage, judge, metrics, say)
        policy = next_policy
    return policy, judge


def _gather(policy: Path, out: Path, config: PGRTConfig, number: int) -> PairBuffer:
    """Add the policy's edits of this round to the buffer, once."""
    dataset = get_dataset(config.dataset, **config.dataset_kwargs)
    buffer = PairBuffer(out / "pairs.jsonl", dataset, capacity=config.buffer)
    done = out / f"gathered-{number}"
    if not done.exists():
        rng = np.random.default_rng([config.seed, number])
        indices = rng.choice(len(dataset), config.tasks, replace=False)
        edits = sample_edits(policy, dataset, indices.tolist(), answers=config.answers, seed=config.seed)
        buffer.extend(decided_pairs(edits, config.margin, salt=str(number)))
        done.touch()
    return buffer
