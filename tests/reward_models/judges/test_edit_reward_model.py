"""EditReward from a folder: the value comes from the means alone."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch

from retouch_agents.tiny import TinySize, build_tiny
from retouch_gym.errors import ConfigurationError
from retouch_gym.renderers.base import get_renderer
from retouch_gym.testing.rewards import check_reward, synthetic_pairs
from retouch_gym.tools.toolset import get_toolset
from retouch_reward_models.errors import BackendError
from retouch_reward_models.judges import TigerEditReward
from retouch_reward_models.judges.edit_reward_head import (
    QUESTIONS,
    HeadConfig,
    ScoringHead,
    convert_published_head,
    load_head,
    save_head,
)
from retouch_reward_models.judges.edit_reward_model import EditRewardModel

SIZE = TinySize(hidden=32, layers=1, heads=2, vision_hidden=32, vision_layers=1, image_side=32)
HUGE = 1e30


class Bomb:
    """Fails the test when it is unpickled."""

    def __reduce__(self) -> tuple:
        return pytest.fail, ("a checkpoint was unpickled",)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("backbone"), get_toolset("iea"), ["the", "photo"], size=SIZE)


def make_head(log_variance_scale: float = 1.0, width: int = 32) -> ScoringHead:
    """Two dimensions of two layers; the second output of each multiplied as told."""
    torch.manual_seed(0)
    layers = {}
    for name in QUESTIONS:
        first, last = torch.randn(16, width), torch.randn(2, 16)
        last[1] *= log_variance_scale
        layers[name] = [(first, torch.randn(16)), (last, None)]
    return ScoringHead(layers)


def with_head(backbone: Path, target: Path, head: ScoringHead, token: str | None = None) -> Path:
    target.mkdir()
    for path in backbone.iterdir():
        (target / path.name).symlink_to(path)
    save_head(target, head, HeadConfig(QUESTIONS, token))
    return target


def test_an_uncertainty_however_large_changes_nothing(backbone: Path, tmp_path: Path, doubles: SimpleNamespace) -> None:
    cases = [doubles.make_case(seed) for seed in range(3)]
    calm = EditRewardModel.from_pretrained(with_head(backbone, tmp_path / "calm", make_head()))
    wild = EditRewardModel.from_pretrained(with_head(backbone, tmp_path / "wild", make_head(HUGE)))
    found, expected = wild.rate(cases), calm.rate(cases)
    assert [rating.means for rating in found] == [rating.means for rating in expected]
    assert max(abs(value) for rating in found for value in rating.log_variances.values()) > HUGE / 100
    episodes = [episode for pair in synthetic_pairs(get_renderer("native"), 2) for episode in pair]
    values = [[output.value for output in TigerEditReward(rater).score(episodes)] for rater in (calm, wild)]
    assert values[0] == values[1]
    assert len(set(values[0])) > 1
    overflown = EditRewardModel.from_pretrained(with_head(backbone, tmp_path / "inf", make_head(float("inf"))))
    output = TigerEditReward(overflown).score(episodes)[0]
    assert output.value == values[0][0]
    json.dumps(dict(output.details), allow_nan=False)


def test_the_value_is_the_pooled_mean_between_0_and_10(backbone: Path, tmp_path: Path) -> None:
    model = EditRewardModel.from_pretrained(with_head(backbone, tmp_path / "model", make_head()))
    episode = synthetic_pairs(get_renderer("native"), 1)[0][0]
    output = TigerEditReward(model, pooling="mean", center=1.0, width=2.0).score([episode])[0]
    one, other = output.components["instruction"], output.components["quality"]
    assert output.components["mean"] == pytest.approx((one + other) / 2)
    assert output.value == pytest.approx(10 / (1 + np.exp(-((one + other) / 2 - 1.0) / 2.0)))
    assert TigerEditReward(model, pooling="min").score([episode])[0].components["mean"] == min(one, other)
    assert TigerEditReward(model, pooling="sum").score([episode])[0].components["mean"] == pytest.approx(one + other)


def test_the_head_reads_the_hidden_state_of_the_last_token_of_every_question(
    backbone: Path, tmp_path: Path, doubles: SimpleNamespace
) -> None:
    head = make_head()
    model = EditRewardModel.from_pretrained(with_head(backbone, tmp_path / "model", head))
    seen: list[torch.Tensor] = []
    model._model.base_model.register_forward_hook(lambda *found: seen.append(found[2].last_hidden_state.clone()))
    rating = model.rate([doubles.make_case()])[0]
    with torch.inference_mode():
        expected = [head(states[:, -1], name)[0, 0].item() for states, name in zip(seen, QUESTIONS, strict=True)]
    assert list(rating.means.values()) == pytest.approx(expected, abs=1e-6)
    assert not torch.equal(seen[0][:, -1], seen[1][:, -1])


def test_a_special_token_marks_the_place_and_cannot_be_faked(
    backbone: Path, tmp_path: Path, doubles: SimpleNamespace
) -> None:
    folder = with_head(backbone, tmp_path / "model", make_head(), token="<|endoftext|>")
    model = EditRewardModel.from_pretrained(folder)
    cases = [doubles.make_case(), doubles.make_case(instruction="<|endoftext|> the photo <|endoftext|>")]
    # The padding of the shorter row is the same token.
    assert [rating.error for rating in model.rate(cases)] == [None, None]
    last = EditRewardModel.from_pretrained(with_head(backbone, tmp_path / "last", make_head()))
    assert last.rate(cases[:1])[0].means != model.rate(cases[:1])[0].means


def test_one_broken_case_leaves_its_neighbours_alone(backbone: Path, tmp_path: Path, doubles: SimpleNamespace) -> None:
    model = EditRewardModel.from_pretrained(with_head(backbone, tmp_path / "model", make_head()))
    cases = [doubles.make_case(seed) for seed in range(2)]
    broken = dataclasses.replace(cases[0], candidates=(np.zeros((6, 8), np.uint8),))
    found = model.rate([cases[0], broken, cases[1]])
    assert found[1].error is not None
    for rating, alone in zip((found[0], found[2]), model.rate(cases), strict=True):
        assert rating.means == pytest.approx(alone.means, abs=1e-5)


def test_keeps_the_contract_of_a_reward(backbone: Path, tmp_path: Path) -> None:
    model = EditRewardModel.from_pretrained(with_head(backbone, tmp_path / "model", make_head()), batch_size=1)
    reward = TigerEditReward(model)
    # A model with random weights knows no better edit: pairs are put in the order in which it sees them.
    pairs = [
        pair if values[0] > values[1] else pair[::-1]
        for pair in synthetic_pairs(get_renderer("native"))
        for values in [[output.value for output in reward.score(pair)]]
    ]
    bad = dataclasses.replace(pairs[0][0], image=np.zeros((4, 4), np.uint8))
    check_reward(reward, pairs=pairs, broken=bad)


def test_a_pickled_copy_rates_the_same(backbone: Path, tmp_path: Path, doubles: SimpleNamespace) -> None:
    model = EditRewardModel.from_pretrained(with_head(backbone, tmp_path / "model", make_head()), dtype="float64")
    copy = pickle.loads(pickle.dumps(model))
    assert copy.rate([doubles.make_case()])[0].means == model.rate([doubles.make_case()])[0].means


def test_heads_survive_saving_and_come_from_published_checkpoints(tmp_path: Path) -> None:
    head = make_head()
    save_head(tmp_path, head, HeadConfig(QUESTIONS, "<|Reward|>"))
    again, config = load_head(tmp_path)
    assert config == HeadConfig(QUESTIONS, "<|Reward|>")
    hidden = torch.randn(5, 32)
    published = {"model.layers.0.weight": torch.zeros(3)}
    for number, layers in enumerate(head.layers().values()):
        # ReLU and dropout sit between: layers 0 and 3.
        for place, (weight, bias) in zip((0, 3), layers, strict=True):
            published[f"rm_heads.head_{number}.{place}.weight"] = weight
            if bias is not None:
                published[f"rm_heads.head_{number}.{place}.bias"] = bias
    target = tmp_path / "published"
    target.mkdir()
    safetensors.torch.save_file(published, target / "model.safetensors")
    convert_published_head(target, HeadConfig(QUESTIONS, "<|Reward|>"))
    converted, _ = load_head(target)
    for name in QUESTIONS:
        assert torch.equal(again(hidden, name), head(hidden, name))
        assert torch.equal(converted(hidden, name), head(hidden, name))


def test_pickled_weights_are_never_opened(backbone: Path, tmp_path: Path) -> None:
    folder = with_head(backbone, tmp_path / "pickled", make_head())
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(BackendError, match="No image-text-to-text model"):
        EditRewardModel.from_pretrained(folder)
    (folder / "reward_head.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(BackendError, match="No head"):
        load_head(folder)


def test_what_does_not_fit_is_refused_with_a_reason(backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="No image-text-to-text model"):
        EditRewardModel.from_pretrained(tmp_path)
    with pytest.raises(BackendError, match=r"reward_head\.json"):
        EditRewardModel.from_pretrained(backbone)
    with pytest.raises(BackendError, match="takes 24 numbers"):
        EditRewardModel.from_pretrained(with_head(backbone, tmp_path / "narrow", make_head(width=24)))
    with pytest.raises(BackendError, match="does not know"):
        EditRewardModel.from_pretrained(with_head(backbone, tmp_path / "token", make_head(), token="<|Reward|>"))
    with pytest.raises(BackendError, match="3 outputs"):
        ScoringHead({"quality": [(torch.zeros(3, 8), None)]})
    with pytest.raises(ConfigurationError, match="width"):
        TigerEditReward(SimpleNamespace(name="none", dimensions=("quality",)), width=0)
