"""LPIPS: a clear error where torchvision is missing, and everything around the network, with a stand-in for it."""

from __future__ import annotations

import importlib.util
import math
import pickle
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torchmetrics.image import lpip

from retouch_gym.errors import ConfigurationError, RewardError
from retouch_gym.images import Pixels
from retouch_gym.metrics import l1
from retouch_gym.rewards import score_batch, score_one
from retouch_gym.tasks import Episode, Task
from retouch_gym.testing import NoisePhoto, TinyRenderer, check_reward
from retouch_gym.testing.rewards import synthetic_pairs
from retouch_reward_models import lpips

MISSING = importlib.util.find_spec("torchvision") is None


class MeanDifference(torch.nn.Module):
    """Stands in for the network: mean |a − b| of what it is given; refuses less than 16 pixels as networks do."""

    def __init__(self, backbone: str, normalize: bool) -> None:
        super().__init__()
        assert backbone == "alex"
        assert normalize

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        assert a.dtype == torch.float32
        assert a.shape == b.shape
        assert a.shape[:2] == (1, 3)
        if min(a.shape[2:]) < 16:
            raise RuntimeError("Output size is too small")
        return (a - b).abs().mean()

    def reset(self) -> None:
        pass


@pytest.fixture
def reward(monkeypatch: pytest.MonkeyPatch) -> lpips.LPIPSReward:
    if MISSING:
        module = ModuleType("torchvision")
        module.__spec__ = importlib.util.spec_from_loader("torchvision", None)
        monkeypatch.setitem(sys.modules, "torchvision", module)
    monkeypatch.setattr(lpip, "LearnedPerceptualImagePatchSimilarity", MeanDifference)
    return lpips.LPIPSReward()


@pytest.mark.skipif(not MISSING, reason="torchvision is installed")
def test_without_torchvision_the_error_names_the_extra() -> None:
    with pytest.raises(ConfigurationError, match=r"retouch-gym\[lpips\]"):
        lpips.LPIPSReward()


def test_an_unknown_backbone_is_explained(reward: lpips.LPIPSReward) -> None:
    with pytest.raises(ConfigurationError, match="alex, vgg, squeeze"):
        lpips.LPIPSReward("resnet")  # type: ignore[arg-type]


def test_it_keeps_the_contract(reward: lpips.LPIPSReward) -> None:
    check_reward(reward)
    expert, untouched = synthetic_pairs(TinyRenderer())[0]
    reference = untouched.reference
    assert reference is not None
    assert score_one(reward, expert).value == 0.0
    assert score_one(reward, untouched).value == pytest.approx(-l1(untouched.image, reference), rel=1e-5)


def test_a_pickle_leaves_the_network_behind(reward: lpips.LPIPSReward) -> None:
    expert, _ = synthetic_pairs(TinyRenderer())[0]
    before = len(pickle.dumps(reward))
    score_one(reward, expert)
    assert len(pickle.dumps(reward)) == before


def test_a_photo_that_the_network_refuses_hurts_nobody_else(reward: lpips.LPIPSReward) -> None:
    good, _ = synthetic_pairs(TinyRenderer())[0]
    tiny = NoisePhoto(1, 8, 8).load()
    small = Episode(Task("small", Pixels(tiny), "", reference=Pixels(tiny)), tiny, tiny, good.recipe, good.renderer)
    first, second, third = score_batch(reward, [good, small, good])
    assert first == third == score_one(reward, good)
    assert second.value is None
    assert "'small'" in (second.error or "")
    assert "8 × 8" in (second.error or "")


def test_weights_that_cannot_be_fetched_fail_the_batch(
    reward: lpips.LPIPSReward, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(lpip, "LearnedPerceptualImagePatchSimilarity", fail)
    with pytest.raises(RewardError, match="no route to host"):
        reward.score([synthetic_pairs(TinyRenderer())[0][0]])
    assert reward.score([]) == []


@pytest.mark.parametrize(("measured", "expected"), [(0.0, 0.0), (0.25, -0.25), (1.7, -1.0)])
def test_it_pays_the_negative_within_its_range(reward: lpips.LPIPSReward, measured: float, expected: float) -> None:
    assert reward.pay(measured) == expected
    assert math.copysign(1, reward.pay(0.0)) == 1
    assert np.isfinite(reward.pay(measured))
