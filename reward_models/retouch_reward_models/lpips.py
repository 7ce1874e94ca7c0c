"""The reward of looking like the reference to a network: LPIPS, where torchvision is installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch

from retouch_gym.errors import ConfigurationError, ImageError, RewardError
from retouch_gym.metrics.pairs import as_pair
from retouch_gym.rewards.base import RewardOutput
from retouch_gym.rewards.quality import MetricReward
from retouch_gym.tasks import Episode
from retouch_gym.types import Image

Backbone: TypeAlias = Literal["alex", "vgg", "squeeze"]
"""The networks that LPIPS has weights for. AlexNet is its authors' choice for comparing photos."""


class LPIPSReward(MetricReward):
    """The negative learned perceptual image patch similarity, at least −1; 0 for an equal photo.

    A distance in spite of its name (Zhang, Isola, Efros, Shechtman and Wang 2018), as torchmetrics computes it on
    levels scaled to −1..1. It looks at texture and form more than at tone and colour, so it is of little use alone
    for retouching. torchvision fetches the network's weights when the first photo is scored.

    Args:
        backbone: The network.
        device: Where it runs, for instance ``"cpu"`` or ``"cuda"``.

    Raises:
        ConfigurationError: If torchvision or torchmetrics is missing, or the backbone is not known.
    """

    name = "lpips"
    range = (-1.0, 0.0)
    components = ("lpips",)
    splits = False

    def __init__(self, backbone: Backbone = "alex", device: str = "cpu") -> None:
        if backbone not in get_args(Backbone):
            raise ConfigurationError(f"LPIPS backbone {backbone!r}; expected one of {', '.join(get_args(Backbone))}.")
        missing = [module for module in ("torchmetrics", "torchvision") if importlib.util.find_spec(module) is None]
        if missing:
            raise ConfigurationError(
                f"LPIPS needs {' and '.join(missing)}, which cannot be found. pip install 'retouch-gym[lpips]', with "
                "the torchvision that belongs to your torch."
            )
        self.backbone: Backbone = backbone
        self.device = device
        self._metric: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the network, which each process loads for itself."""
        return {**self.__dict__, "_metric": None}

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        """Score each episode, in order.

        Raises:
            RewardError: If the network cannot be loaded.
        """
        if self._metric is None and episodes:
            self._metric = self._load()
        return super().score(episodes)

    def measure(self, image: Image, reference: Image) -> float:
        """LPIPS of two photos; the reference is resized to the image (bicubic) where sizes differ.

        Raises:
            ImageError: If either is no photo, or too small for the network.
        """
        pair = [_tensor(photo).to(self.device) for photo in as_pair(image, reference)]
        try:
            with torch.inference_mode():
                found = float(self._metric(*pair))
        except RuntimeError as error:
            height, width = image.shape[:2]
            raise ImageError(f"LPIPS with {self.backbone!r} failed on {height} × {width} pixels: {error}") from error
        finally:
            self._metric.reset()  # it would keep what it is given
        return found

    def pay(self, measured: float) -> float:
        """The negative; what is farther apart than 1 counts as 1."""
        return 0.0 - min(max(measured, 0.0), 1.0)

    def _load(self) -> Any:
        try:
            module = importlib.import_module("torchmetrics.image.lpip")
            metric = module.LearnedPerceptualImagePatchSimilarity(self.backbone, normalize=True)
        except (ImportError, OSError, RuntimeError) as error:
            raise RewardError(
                f"LPIPS could not load {self.backbone!r} ({error}). Its weights are downloaded once: check the "
                "network, or put the file where torch.hub looks for it."
            ) from error
        return metric.to(self.device).eval()


def _tensor(photo: Image) -> torch.Tensor:
    """A photo as float32 (1, 3, H, W) in 0..1, which the metric scales to −1..1."""
    levels = np.ascontiguousarray(photo.transpose(2, 0, 1)[None])
    return torch.from_numpy(levels).float() / 255
