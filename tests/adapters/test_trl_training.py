"""TRL's own trainer on the environment: a tiny Qwen3-VL calls tools and sees the photos that they return."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trl")

import torch

from retouch_gym.adapters.trl import episode_of, reward_function, task_rows, tool_environment
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.rewards.base import Reward, RewardOutput, get_reward
from retouch_gym.tasks import Episode
from retouch_gym.testing import TinyDataset, TinyRenderer

ENV: dict[str, Any] = {"dataset": TinyDataset(), "renderer": TinyRenderer(), "max_turns": 4}
RECIPES = ({"exposure": 20}, {"temperature": -30}, {"exposure": 40, "temperature": -15})
GROUP, BATCH, TOKENS = 4, 8, 192


class Patchy(Reward):
    """Likeness that fails for every third episode of a batch."""

    name = "patchy"
    range = (-1.0, 1.0)
    components = get_reward("likeness").components
    needs_reference = True

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        scored = get_reward("likeness").score(episodes)
        return [RewardOutput(None, error="judge") if n % 3 == 0 else output for n, output in enumerate(scored)]


class Run:
    """Two steps of GRPO with everything that is of interest written down."""

    def __init__(self, example: Any, model: Any, processor: Any, out: Path, monkeypatch: Any, reward: Any) -> None:
        self.rollouts: list[dict[str, Any]] = []
        self.sampled: list[int] = []
        self.trained: list[int] = []
        monkeypatch.setattr(example, "reward_function", self.witness)
        hook = model.model.visual.register_forward_pre_hook(self.watch, with_kwargs=True)
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        self.trainer = example.make_trainer(
            model,
            processor,
            tool_environment(reward=reward, **ENV),
            task_rows(TinyDataset()),
            output_dir=str(out),
            max_steps=2,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            num_generations=GROUP,
            per_device_train_batch_size=BATCH,
            max_completion_length=TOKENS,
            max_tool_calling_iterations=5,
            use_cpu=True,
            seed=3,
        )
        self.trainer.train()
        hook.remove()
        self.logs = [row for row in self.trainer.state.log_history if "reward" in row]
        self.still = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]

    def witness(self, prompts: Any, completions: Any, environments: Any, **rest: Any) -> list[float | None]:
        rewards = reward_function(environments, **rest)
        for prompt, messages, environment, reward in zip(prompts, completions, environments, rewards, strict=True):
            found = {"prompt": prompt, "messages": messages, "episode": episode_of(environment), "reward": reward}
            self.rollouts.append(found)
        return rewards

    def watch(self, vision: Any, args: Any, inputs: dict[str, Any]) -> None:
        """Count the photos that reach the vision encoder: when a turn is sampled, and in the loss."""
        assert len(args[0]) == int(inputs["grid_thw"].prod(dim=1).sum())
        (self.trained if torch.is_grad_enabled() else self.sampled).append(len(inputs["grid_thw"]))


def photos(messages: list[dict[str, Any]]) -> list[Any]:
    blocks = [block for message in messages if isinstance(message["content"], list) for block in message["content"]]
    return [block["image"] for block in blocks if block["type"] == "image"]


@pytest.fixture(scope="module")
def example() -> Any:
    """The example as a module: its model, demonstrations and trainer are under test here."""
    path = Path(__file__).parents[2] / "examples" / "train_trl.py"
    spec = importlib.util.spec_from_file_location("train_trl", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def caller(example: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A tiny model that was shown how tools are called, and its processor."""
    torch.manual_seed(0)
    size = example.TinySize(hidden=64, layers=2, heads=2, vision_hidden=32, vision_layers=1, image_side=32)
    model, processor = example.build_tool_caller(tmp_path_factory.mktemp("tiny"), size)
    factory = tool_environment(**ENV)
    shown = [example.demonstration(factory, row, recipe) for row in task_rows(TinyDataset()) for recipe in RECIPES]
    losses = example.warm_up(model, processor, shown, 150)
    assert np.mean(losses[-12:]) < 0.4 < losses[0]
    return model, processor


@pytest.fixture(scope="module")
def run(example: Any, caller: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Run(example, *caller, tmp_path_factory.mktemp("run"), monkeypatch, "likeness")


def test_tools_are_called_and_never_fail(run: Run) -> None:
    assert len(run.rollouts) == 2 * BATCH
    assert all(row["tools/call_frequency"] > 0.5 and row["tools/failure_frequency"] == 0 for row in run.logs)
    turns = [len(rollout["episode"].turns) for rollout in run.rollouts]
    assert max(turns) > 1
    assert any(rollout["episode"].finished for rollout in run.rollouts)


def test_rollouts_of_a_group_share_photo_and_request(run: Run) -> None:
    for start in range(0, len(run.rollouts), GROUP):
        group = run.rollouts[start : start + GROUP]
        assert len({rollout["episode"].task.id for rollout in group}) == 1
        assert all(rollout["prompt"] == group[0]["prompt"] for rollout in group)
        (photo,) = photos(group[0]["prompt"])
        assert np.array_equal(np.asarray(photo), group[0]["episode"].source)
        assert "Cooler and brighter" in group[0]["prompt"][-1]["content"][-1]["text"]


def test_photos_that_tools_return_reach_the_model(run: Run) -> None:
    returned = [len(photos(rollout["messages"])) for rollout in run.rollouts]
    assert sum(returned) > 0
    # When a turn is sampled: a photo for each prompt at first, then those that tools returned as well.
    assert run.sampled[0] == BATCH
    assert max(run.sampled) > BATCH
    # In the loss: every photo, the prompts' and the tools'.
    assert run.trained == [BATCH + sum(returned[start : start + BATCH]) for start in (0, BATCH)]
    for rollout in run.rollouts:
        for image in photos(rollout["messages"]):
            assert not np.array_equal(np.asarray(image), rollout["episode"].source)


def test_rewards_are_the_environments(run: Run) -> None:
    env = RetouchEnv(**ENV)
    for rollout in run.rollouts:
        env.reset(options={"task_id": rollout["episode"].task.id})
        reward, over = 0.0, False
        for turn in rollout["episode"].turns:
            _, reward, over, _, _ = env.step(turn.calls)
        while not over:
            _, reward, over, _, _ = env.step(())
        assert rollout["reward"] == reward
    rewards = np.array([rollout["reward"] for rollout in run.rollouts]).reshape(2, BATCH)
    assert [row["reward"] for row in run.logs] == pytest.approx(rewards.mean(axis=1).tolist(), abs=1e-4)
    assert rewards.std() > 0


def test_every_parameter_moves(run: Run) -> None:
    assert all(row["grad_norm"] > 0 for row in run.logs)
    assert run.still == []


def test_a_failed_judge_is_masked(example: Any, caller: tuple[Any, Any], tmp_path: Path, monkeypatch: Any) -> None:
    run = Run(example, *caller, tmp_path, monkeypatch, Patchy())
    scored = [rollout["reward"] for rollout in run.rollouts[:BATCH]]
    assert [reward is None for reward in scored] == [number % 3 == 0 for number in range(BATCH)]
    assert run.logs[0]["reward"] == pytest.approx(
        np.mean([reward for reward in scored if reward is not None]), abs=1e-4
    )
    assert run.logs[0]["retouch/unscored"] == pytest.approx(3 / 8)


def test_the_example_runs(example: Any, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    small = ["--warm-up", "60", "--steps", "2", "--prompts", "1", "--group-size", "2", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["train_trl.py", *small])
    example.main()
    printed = capsys.readouterr().out
    assert printed.count("reward ") == 2
    assert (tmp_path / "policy" / "model.safetensors").is_file()
