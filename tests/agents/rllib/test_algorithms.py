"""Every published algorithm as a row of options: what it sets, and one step of each."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ray.rllib.core import DEFAULT_MODULE_ID

from retouch_agents.rllib import GRPO, GRPOConfig
from retouch_agents.rllib.objective import ALGORITHMS, Objective
from retouch_gym.errors import ConfigurationError

Build = Callable[..., GRPO]
PAGE = Path(__file__).parents[3] / "docs" / "algorithms.md"


def _weights(algo: GRPO) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = algo.learner_group._learner.module[DEFAULT_MODULE_ID].get_state()
    return found


def test_the_default_is_grpo() -> None:
    assert GRPOConfig().objective == GRPOConfig().algorithm("grpo").objective == Objective()


def test_the_last_choice_holds() -> None:
    config = GRPOConfig().algorithm("dapo").algorithm("rloo").training(clip=0.3)
    assert config.objective == Objective(advantage="rloo", normalise="constant", kl_estimator="k2", clip=(0.3, 0.3))
    assert not config.dynamic_sampling


def test_a_wrong_name_is_answered_with_the_right_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"algorithm = 'drgrpo' should be one of .*Did you mean 'dr_grpo'\?"):
        GRPOConfig().algorithm("drgrpo")


def test_the_documentation_has_the_same_table() -> None:
    rows = re.findall(r"^\| `(.*)\| \[", PAGE.read_text(encoding="utf-8").replace("`, the default", "`"), re.MULTILINE)
    documented = {}
    for row in rows:
        name, *cells = (cell.strip().strip("`") for cell in row.rstrip("| ").split("|"))
        documented[name] = cells
    shown = {
        name: [
            *(str(options[key]) for key in ("advantage", "normalise", "ratio")),
            "({:.6g}, {:.6g})".format(*options["clip"]),
            f"{options['kl_coeff']:g}",
            options["kl_estimator"],
            "yes" if options["dynamic_sampling"] else "no",
        ]
        for name, options in ALGORITHMS.items()
    }
    assert documented == shown


@pytest.mark.ray
@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_parameter_moves_with_every_algorithm(build: Build, name: str) -> None:
    algo = build(**ALGORITHMS[name])
    before = _weights(algo)
    numbers = algo.train()["grpo"]
    after = _weights(algo)
    policy = [key for key in before if key.startswith("policy.")]
    assert [key for key in policy if np.array_equal(before[key], after[key])] == []
    assert ("kl" in numbers) is (ALGORITHMS[name]["kl_coeff"] > 0)
    assert numbers["clip_fraction_low"] + numbers["clip_fraction_high"] == numbers["clip_fraction"]


@pytest.mark.ray
def test_a_sampler_of_the_same_precision_needs_no_correction(build: Build) -> None:
    numbers = build(importance_cap=2.0, num_updates=2, minibatch_size=8, micro_batch_size=5).train()["grpo"]
    assert numbers["importance_mean"] == pytest.approx(1.0, abs=1e-4)
    assert numbers["importance_max"] == pytest.approx(1.0, abs=1e-3)
    assert numbers["score_seconds"] > 0


@pytest.mark.ray
def test_dynamic_sampling_survives_a_restart(build: Build, tmp_path: Path) -> None:
    algo = build(dynamic_sampling=True, max_extra_rounds=2)
    first = algo.train()["grpo"]
    assert first["answers"] == 4 * (6 + first["extra_groups"])
    assert first["extra_groups"] > 0
    path = algo.save_to_path(tmp_path / "checkpoint")
    expected = algo.train()["grpo"]
    resumed = GRPO.from_checkpoint(path)
    try:
        found = resumed.train()["grpo"]
        for key in ("answers", "extra_groups", "dropped_groups", "reward_mean"):
            assert found[key] == expected[key]
        ours, theirs = _weights(resumed), _weights(algo)
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
    finally:
        resumed.stop()


@pytest.mark.ray
def test_where_nothing_teaches_nothing_is_learned_and_training_goes_on(build: Build) -> None:
    # So cold that a group gives one answer over and over.
    algo = build(dynamic_sampling=True, max_extra_rounds=1, temperature=1e-4)
    before = _weights(algo)
    numbers = algo.train()["grpo"]
    assert numbers["answers"] == 48
    assert numbers["dropped_groups"] == 12
    assert numbers["informative_groups"] == 0.0
    assert "reward_mean" in numbers
    assert "entropy" not in numbers
    after = _weights(algo)
    assert all(np.array_equal(before[key], after[key]) for key in before)
