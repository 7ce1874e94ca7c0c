"""Episodes of several turns: each turn's photo goes back to the model, and only what it sampled carries loss."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from retouch_agents.chat import ConversationFormat
from retouch_agents.generation import TransformersGenerator
from retouch_agents.models import load_model, load_processor
from retouch_agents.rllib import GRPO, GRPOConfig
from retouch_agents.rllib.conversing import Drawing, converse, turn_seed
from retouch_agents.rllib.episodes import answers_of, episodes_of
from retouch_agents.rllib.lanes import play_in_lanes
from retouch_agents.rllib.learner import GRPOLearner
from retouch_agents.rllib.lessons import compared, lesson_of
from retouch_agents.rllib.losses import answer_weights
from retouch_agents.rllib.objective import Objective
from retouch_agents.rllib.playing import Together
from retouch_agents.rllib.rollouts import Rollout, TaskOrder
from retouch_agents.scoring import alike, score
from retouch_agents.serving import GenerationError
from retouch_gym.chat import BARE
from retouch_gym.envs.chat import ChatEnv

pytestmark = pytest.mark.ray

ENV: dict[str, Any] = {
    "dataset": "samples",
    "dataset_kwargs": {"size": 6, "resolution": 32},
    "prompts": BARE,
    "reward": "edit",
    "max_turns": 3,
}
DRAWING = Drawing(group_size=3, temperature=1.0, max_new_tokens=6, max_turns=8)


@pytest.fixture(scope="module")
def chat(tiny: Path) -> ConversationFormat:
    return ConversationFormat(load_processor(tiny))


@pytest.fixture(scope="module")
def generator(tiny: Path, chat: ConversationFormat) -> TransformersGenerator:
    return TransformersGenerator(load_model(tiny), pad_id=chat.pad_id, eos_ids=[chat.eos_id])


@pytest.fixture(scope="module")
def rollouts(chat: ConversationFormat, generator: TransformersGenerator) -> list[Rollout]:
    requests = TaskOrder(6, 0).requests(0, 3)
    found = converse(chat, generator, Together(ChatEnv(**ENV)), requests, DRAWING)
    assert not found.failures
    return list(found.rollouts)


def scores_of(model: Any, chat: ConversationFormat, rollouts: list[Rollout], **options: Any) -> Any:
    pieces = episodes_of(rollouts)
    keys = list(dict.fromkeys(piece.key for piece in pieces))
    prompts = {piece.key: piece.prompt for piece in pieces}
    found = score(
        model,
        list(prompts.values()),
        [keys.index(piece.key) for piece in pieces],
        [piece.continuation for piece in pieces],
        pad_id=chat.pad_id,
        suppressed=TransformersGenerator(model, pad_id=0, eos_ids=[0]).suppressed,
        **options,
    )
    return answers_of(found, pieces)


def test_every_turn_shows_the_photo_as_it_is_then_and_keeps_the_tokens_as_sampled(rollouts: list[Rollout]) -> None:
    assert [(one.group, one.member, one.turn) for one in rollouts] == [
        (group, member, turn) for group in range(3) for member in range(3) for turn in range(3)
    ]
    for before, after in itertools.pairwise(rollouts):
        if after.turn == 0:
            assert before.last
            continue
        assert not before.last
        shown = after.prompt.after(before.prompt.then(before.token_ids))
        assert shown is not None, "the prompt goes on from the sampled tokens"
        assert len(after.prompt.features["image_grid_thw"]) == after.turn + 1
        assert len(shown.features["image_grid_thw"]) == 1
    assert len(episodes_of(rollouts)) == 9


def test_lanes_play_the_same_episodes(
    rollouts: list[Rollout], chat: ConversationFormat, generator: TransformersGenerator
) -> None:
    players = [Together(ChatEnv(**ENV)) for _ in range(2)]
    found = play_in_lanes(chat, generator, players, TaskOrder(6, 0).requests(0, 3), DRAWING).rollouts
    for one, other in zip(found, rollouts, strict=True):
        assert (one.group, one.member, one.turn, one.task_id) == (other.group, other.member, other.turn, other.task_id)
        assert one.token_ids.tolist() == other.token_ids.tolist()
        assert one.reward == pytest.approx(other.reward, abs=1e-6)


def test_an_episode_in_one_piece_scores_as_the_sampler_did_turn_by_turn(
    rollouts: list[Rollout], chat: ConversationFormat, generator: TransformersGenerator
) -> None:
    scores = scores_of(generator.model, chat, rollouts, states=True)
    for row, rollout in enumerate(rollouts):
        found = scores.logprobs[row][scores.mask[row]].detach().numpy()
        np.testing.assert_allclose(found, rollout.logprobs, atol=1e-4)
    # Every answer by itself, after the whole conversation before it.
    alone = [replace(one, turn=0, group=100 + row) for row, one in enumerate(rollouts)]
    assert len(episodes_of(alone)) == len(rollouts)
    separate = scores_of(generator.model, chat, alone, states=True)
    assert torch.allclose(separate.logprobs[separate.mask], scores.logprobs[scores.mask], atol=1e-4)
    assert torch.allclose(separate.entropy[separate.mask], scores.entropy[scores.mask], atol=1e-4)
    assert torch.allclose(separate.states[:, 0], scores.states[:, 0], atol=1e-4)


def test_answers_of_like_length_are_scored_together_and_nothing_else_changes(
    rollouts: list[Rollout], chat: ConversationFormat, generator: TransformersGenerator
) -> None:
    """Enough answers and episodes of several lengths that they are scored in parts, in any order."""
    rng = np.random.default_rng(0)
    tokens = [rng.integers(20, 60, rng.integers(1, 12)) for _ in range(40)]
    singles = [replace(rollouts[0], group=200 + row, token_ids=ids) for row, ids in enumerate(tokens)]
    mixed = [*singles[:20], *rollouts, *singles[20:]]
    pieces = episodes_of(mixed)
    assert len(alike([len(piece.continuation.sampled) for piece in pieces])) > 1
    whole = scores_of(generator.model, chat, mixed, states=True)
    for row in (0, 7, 19, 20, 22, 28, 29, 40, 48):
        mates = rollouts if 20 <= row < 29 else [mixed[row]]
        alone = scores_of(generator.model, chat, mates, states=True)
        place = row - 20 if 20 <= row < 29 else 0
        for one, other in ((whole.logprobs, alone.logprobs), (whole.entropy, alone.entropy)):
            assert torch.allclose(one[row][whole.mask[row]], other[place][alone.mask[place]], atol=1e-4)
        assert whole.mask[row].sum() == len(mixed[row].token_ids)
        assert torch.allclose(whole.states[row, 0], alone.states[place, 0], atol=1e-4)


def test_what_was_shown_gets_no_gradient(
    rollouts: list[Rollout], chat: ConversationFormat, generator: TransformersGenerator
) -> None:
    """The loss does not depend on how likely shown tokens are: the gradient at their logits is exactly 0."""
    episode = rollouts[:3]
    seen: list[torch.Tensor] = []

    def keep(_: Any, __: Any, logits: torch.Tensor) -> None:
        logits.retain_grad()
        seen.append(logits)

    with torch.enable_grad():
        handle = generator.model.get_output_embeddings().register_forward_hook(keep)
        scores = scores_of(generator.model, chat, episode)
        scores.logprobs[scores.mask].sum().backward()
        handle.remove()
    (piece,) = episodes_of(episode)
    gradients = torch.cat([logits.grad[0, -1:] if n == 0 else logits.grad[0] for n, logits in enumerate(seen)])  # type: ignore[index]
    felt = gradients.abs().sum(dim=-1) > 0
    assert felt.tolist() == piece.continuation.sampled.tolist()
    assert 0 < piece.continuation.sampled.sum() == sum(len(one.token_ids) for one in episode)
    generator.model.zero_grad()


def test_the_answers_do_not_depend_on_who_else_is_played(
    rollouts: list[Rollout], chat: ConversationFormat, generator: TransformersGenerator
) -> None:
    """So one runner and two give the same samples."""
    requests = TaskOrder(6, 0).requests(0, 3)
    parts = [converse(chat, generator, Together(ChatEnv(**ENV)), [request], DRAWING).rollouts for request in requests]
    alone = [one for part in parts for one in part]
    assert [one.token_ids.tolist() for one in alone] == [one.token_ids.tolist() for one in rollouts]
    assert [one.reward for one in alone] == [one.reward for one in rollouts]
    assert len({turn_seed(7, member, turn) for member in range(4) for turn in range(4)}) == 16


class Away:
    """A server that answers the first turn, and is gone in the second."""

    def __init__(self, generator: TransformersGenerator) -> None:
        self.generator = generator
        self.calls = 0

    def generate(self, prompts: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls > 1:
            raise GenerationError("http://127.0.0.1:8000 is gone")
        return self.generator.generate(prompts, **options)


def test_a_server_that_goes_away_loses_its_groups_and_says_why(
    chat: ConversationFormat, generator: TransformersGenerator
) -> None:
    requests = TaskOrder(6, 0).requests(0, 2)
    found = converse(chat, Away(generator), Together(ChatEnv(**ENV)), requests, DRAWING)
    assert found.rollouts == []
    assert set(found.failures) == {0, 1}
    assert "is gone" in found.failures[0]


def test_photos_are_never_cut(chat: ConversationFormat, generator: TransformersGenerator) -> None:
    requests = TaskOrder(6, 0).requests(0, 2)
    env = ChatEnv(**{**ENV, "prompts": None})
    whole = converse(chat, generator, Together(env), requests, DRAWING).rollouts
    longest = max(len(one.prompt.input_ids) for one in whole)
    tight = ConversationFormat(chat.processor, max_prompt_tokens=longest // 2)
    found = converse(tight, generator, Together(env), requests, DRAWING)
    assert not found.failures
    assert max(len(one.prompt.input_ids) for one in found.rollouts) <= longest // 2
    placeholder = generator.model.config.image_token_id
    for one, same in zip(found.rollouts, whole, strict=True):
        assert (one.prompt.input_ids == placeholder).sum() == (same.prompt.input_ids == placeholder).sum()
        assert one.prompt.features["pixel_values"].shape == same.prompt.features["pixel_values"].shape
    hopeless = converse(
        ConversationFormat(chat.processor, max_prompt_tokens=30), generator, Together(env), requests, DRAWING
    )
    assert "max_prompt_tokens leaves 30" in hopeless.failures[0]
    assert "show smaller photos" in hopeless.failures[0]


def test_advantages_are_over_episodes_not_over_answers() -> None:
    base = Rollout(0, 0, "", None, np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.float32), 1.0)  # type: ignore[arg-type]
    long = [replace(base, turn=turn, last=turn == 2, reward=4.0) for turn in range(3)]
    rollouts = [*long, replace(base, member=1, reward=1.0)]
    assert compared(rollouts, "dr_grpo").tolist() == [1.5, 1.5, 1.5, -1.5]
    lengths, numbers = np.array([2, 4, 2, 5]), np.array([0, 0, 0, 1])
    weights = answer_weights(lengths, np.ones(4, dtype=np.bool_), normalise="sequence", max_length=9, episodes=numbers)
    np.testing.assert_allclose(weights, [0.125, 0.25, 0.125, 0.5])


def test_what_a_critic_expected_by_hand() -> None:
    base = Rollout(0, 0, "", None, np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.float32), 3.0)  # type: ignore[arg-type]
    rollouts = [
        replace(base, turn=0, last=False, step_reward=1.0, value=0.5),
        replace(base, turn=1, last=True, step_reward=2.0, value=1.0),
        replace(base, member=1, reward=0.0, value=0.5),
        replace(base, member=2, reward=float("nan"), valid=False),
    ]
    lesson = lesson_of(rollouts, Objective(advantage="gae", gamma=0.9, lam=0.5))
    # δ_1 = 2 − 1 = 1; δ_0 = 1 + .9 · 1 − .5 = 1.4, A_0 = 1.4 + .9 · .5 · 1 = 1.85; the other: 0 − .5 = −.5.
    raw = np.array([1.85, 1.0, -0.5])
    np.testing.assert_allclose(lesson.advantages[:3], (raw - raw.mean()) / (raw.std() + 1e-4), rtol=1e-5)
    np.testing.assert_allclose(lesson.returns[:3], [2.35, 2.0, 0.0], rtol=1e-6)
    assert lesson.advantages[3] == 0.0
    returns, values = np.array([2.35, 2.0, 0.0]), np.array([0.5, 1.0, 0.5])
    assert lesson.explained_variance() == pytest.approx(1 - (returns - values).var() / returns.var())


@pytest.fixture
def built(tiny: Path, cluster: None) -> Iterator[Any]:
    algorithms: list[GRPO] = []

    def make(**training: Any) -> GRPO:
        settings = {"group_size": 2, "prompts_per_iteration": 3, "max_new_tokens": 6, "lr": 1e-3}
        config = GRPOConfig().environment("Retouch/Chat-v0", env_config=ENV).env_runners(num_env_runners=0)
        algorithms.append(config.algorithm("ppo").training(model=tiny, **{**settings, **training}).build_algo())
        return algorithms[-1]

    yield make
    for algorithm in algorithms:
        algorithm.stop()


def weights_of(algorithm: GRPO) -> dict[str, np.ndarray]:
    learner: GRPOLearner = algorithm.learner_group._learner
    module: Any = learner.module[DEFAULT_MODULE_ID]
    return {name: tensor.detach().numpy().copy() for name, tensor in module.state_dict().items()}


def test_ppo_over_turns_moves_every_parameter_the_critics_too(built: Any) -> None:
    algorithm = built(entropy_coeff=0.01, kl_coeff=0.1)
    before = weights_of(algorithm)
    for _ in range(2):
        numbers = algorithm.train()["grpo"]
    after = weights_of(algorithm)
    still = [name for name in before if np.array_equal(before[name], after[name])]
    assert all(name.startswith("reference.") for name in still), still
    assert "value_head.weight" in before
    assert numbers["episodes"] == 6
    assert numbers["answers"] == 18
    assert numbers["turns_mean"] == 3
    assert numbers["value_loss"] > 0
    assert np.isfinite(numbers["explained_variance"])
    assert abs(numbers["policy_shift"]) < 1e-5
    assert "value_head.weight" not in algorithm.env_runner_group.local_env_runner.get_state()["rl_module"]


def test_ppo_goes_on_from_a_checkpoint_with_both_optimisers(built: Any, tmp_path: Path) -> None:
    algorithm = built(lr=[[0, 1e-3], [100, 1e-4]])
    algorithm.train()
    path = algorithm.save_to_path(tmp_path / "checkpoint")
    expected = algorithm.train()["grpo"]
    resumed = GRPO.from_checkpoint(path)
    try:
        found = resumed.train()["grpo"]
        assert found["value_loss"] == expected["value_loss"]
        ours, theirs = weights_of(resumed), weights_of(algorithm)
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    finally:
        resumed.stop()


def test_the_critic_has_a_learning_rate_of_its_own(built: Any) -> None:
    slow, fast = built(value_lr_scale=1.0), built(value_lr_scale=50.0)
    for algorithm in (slow, fast):
        algorithm.train()
    one, other = weights_of(slow), weights_of(fast)
    ratio = np.abs(other["value_head.weight"]).mean() / np.abs(one["value_head.weight"]).mean()
    assert ratio == pytest.approx(50.0, rel=0.05)
    assert all(np.allclose(one[name], other[name], atol=1e-5) for name in one if name.startswith("policy."))


def test_one_by_eight_is_eight_by_one_over_turns(built: Any) -> None:
    whole, parts = built(kl_coeff=0.1), built(kl_coeff=0.1, micro_batch_size=1)
    whole.train()
    parts.train()
    one, other = weights_of(whole), weights_of(parts)
    for name, array in one.items():
        np.testing.assert_allclose(array, other[name], atol=2e-5, err_msg=name)
