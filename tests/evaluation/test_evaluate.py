"""Evaluating policies: the rules of the environment, one turn, in batches."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pytest

from retouch_gym import Recipe, Task, ToolCall, Unparsable
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.errors import ConfigurationError
from retouch_gym.evaluation import EvaluationResult, evaluate
from retouch_gym.testing import TinyDataset, TinyRenderer
from retouch_gym.types import Action

Observations = list[dict[str, Any]]


class TwoKinds(TinyDataset):
    """Every other task is of another kind, and the last has no reference."""

    def __getitem__(self, index: int) -> Task:
        task = dataclasses.replace(super().__getitem__(index), kind=("instruct", "restore")[index % 2])
        return dataclasses.replace(task, reference=None) if index == self.count - 1 else task


class Expert:
    """Writes down the known recipe of every task, in order."""

    def __init__(self, dataset: TinyDataset) -> None:
        self.recipes = [task.recipe or Recipe("iea") for task in dataset]
        self.batches: list[int] = []

    def __call__(self, observations: Observations) -> list[Action]:
        start = sum(self.batches)
        self.batches.append(len(observations))
        recipes = self.recipes[start : start + len(observations)]
        return [tuple(ToolCall(k, {"value": int(v)}) for k, v in recipe.controls.items()) for recipe in recipes]


def run(policy: Any, dataset: TinyDataset | None = None, **kwargs: Any) -> EvaluationResult:
    return evaluate(policy, dataset or TinyDataset(), renderer=TinyRenderer(), **kwargs)


def test_the_expert_reaches_the_reference_in_batches_of_any_size() -> None:
    results = []
    for batch_size in (1, 3, 16):
        expert = Expert(TinyDataset())
        results.append(run(expert, batch_size=batch_size))
        assert max(expert.batches) <= batch_size
    assert results[0] == results[1] == results[2]
    summary = results[0].summary()
    assert (summary.count, summary.scored, summary.valid.mean) == (4, 4, 1.0)
    assert summary.reward == (1.0, 1.0, 1.0)
    assert summary.distance == (0.0, 0.0, 0.0)
    assert summary.gain is not None
    assert summary.gain == summary.untouched_distance


def test_it_scores_as_the_environment_does() -> None:
    actions: list[Action] = [
        ToolCall("exposure", {"value": 30}),
        Unparsable("no answer"),
        [ToolCall("exposure", {"value": 10}), ToolCall("temperature", {"value": 500})],
        [ToolCall("temperature", {"value": -40}), ToolCall("finish")],
    ]
    rows = run(lambda observations: actions, reward="edit").rows
    env = RetouchEnv(dataset=TinyDataset(), renderer=TinyRenderer(), reward="edit", max_turns=1)
    for index, (row, action) in enumerate(zip(rows, actions, strict=True)):
        env.reset(options={"index": index})
        _, reward, _, _, info = env.step(action)
        assert (row.task_id, row.reward, row.tool_error) == (info["task_id"], reward, info["tool_error"])
        assert row.recipe == info["recipe"]
        assert row.components == info["reward_components"]
    assert [row.valid for row in rows] == [True, False, False, True]
    assert rows[1].distance == rows[1].untouched_distance


def test_kinds_are_summarised_apart_and_what_cannot_be_scored_has_no_number() -> None:
    dataset = TwoKinds(5)
    result = run(Expert(dataset), dataset)
    summaries = result.by_kind()
    assert list(summaries) == ["instruct", "restore", "all"]
    assert [summaries[kind].count for kind in summaries] == [3, 2, 5]
    assert [summaries[kind].scored for kind in summaries] == [2, 2, 4]
    last = result.rows[-1]
    assert (last.reward, last.distance, last.untouched_distance) == (None, None, None)
    assert "no reference" in (last.reward_error or "")
    everything = summaries["all"]
    assert everything.reward is not None
    assert everything.reward.mean == 1.0


def test_a_kind_without_any_score_has_no_mean() -> None:
    result = run(Expert(TwoKinds(1)), TwoKinds(1))
    assert result.summary().reward is None
    assert result.summary().gain is None


def test_the_result_is_json() -> None:
    dataset = TwoKinds(3)
    data = json.loads(json.dumps(run(Expert(dataset), dataset).to_dict(), allow_nan=False))
    assert (data["dataset"], data["split"], data["reward"], data["renderer"]) == ("tiny", "train", "likeness", "tiny")
    assert data["summary"]["all"]["valid"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert Recipe.from_dict(data["rows"][0]["recipe"]) == Expert(dataset).recipes[0]
    assert data["rows"][2]["reward"] is None


def test_a_policy_must_answer_every_observation() -> None:
    def lazy(observations: Observations) -> Sequence[Action]:
        return [ToolCall("finish")]

    with pytest.raises(ConfigurationError, match="1 actions for 4"):
        run(lazy)
    with pytest.raises(ConfigurationError, match="batch_size is 0"):
        run(lazy, batch_size=0)
