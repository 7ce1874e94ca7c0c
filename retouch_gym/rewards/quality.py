"""Rewards made of one image metric each.

One convention for all: a distance is paid as its negative, a similarity as it is. Everything is absolute, that
is, an untouched photo is not worth 0; `Likeness` is the reward that is relative to it. See `retouch_gym.metrics`
for the definitions.

| reward | value | range | an equal photo |
|---|---|---|---|
| `L1` | −mean absolute difference of levels / 255 | −1..0 | 0 |
| `L2` | −root mean square difference of levels / 255 | −1..0 | 0 |
| `PSNR` | PSNR in decibels, at most `cap` | 0..cap | cap |
| `SSIM` | SSIM | −1..1 | 1 |
| `DeltaE` | −mean CIEDE2000 / 100, at least −1 | −1..0 | 0 |
| `Histogram` | −earth mover's distance of the histograms / 255 | −1..0 | 0 |
"""

from __future__ import annotations

import math
from abc import abstractmethod

from retouch_gym.errors import ConfigurationError, ImageError
from retouch_gym.metrics import delta_e, histogram_distance, l1, psnr, rmse, ssim
from retouch_gym.rewards.base import RewardOutput
from retouch_gym.rewards.likeness import ReferenceReward
from retouch_gym.tasks import Episode
from retouch_gym.types import Image


class MetricReward(ReferenceReward):
    """A metric between the photo as it is now and the reference. What the metric cannot take has an `error`."""

    def compare(self, episode: Episode, reference: Image) -> RewardOutput:
        """The metric, as a reward."""
        try:
            measured = self.measure(episode.image, reference)
        except ImageError as error:
            return RewardOutput(None, error=f"task {episode.task.id!r}: {error}")
        return RewardOutput(self.pay(measured), {self.components[0]: measured})

    @abstractmethod
    def measure(self, image: Image, reference: Image) -> float:
        """The metric, a finite number: the reward's only component.

        Raises:
            ImageError: If it cannot be measured.
        """

    def pay(self, measured: float) -> float:
        """The value for what was measured; the negative unless a reward says otherwise."""
        return 0.0 - measured


class L1(MetricReward):
    """The negative mean absolute difference of levels, on the scale 0..1."""

    name = "l1"
    range = (-1.0, 0.0)
    components = ("l1",)

    def measure(self, image: Image, reference: Image) -> float:
        """See `retouch_gym.metrics.l1`."""
        return l1(image, reference)


class L2(MetricReward):
    """The negative root mean square difference of levels, on the scale 0..1."""

    name = "l2"
    range = (-1.0, 0.0)
    components = ("rmse",)

    def measure(self, image: Image, reference: Image) -> float:
        """See `retouch_gym.metrics.rmse`."""
        return rmse(image, reference)


class PSNR(MetricReward):
    """The peak signal-to-noise ratio in decibels, capped so that an equal photo has a finite value.

    Args:
        cap: Most that is paid, in decibels. Rounding to 8 bits alone costs as much as 58.9 dB
            (a mean square of 1/12), so that above the default nothing is to be gained.

    Raises:
        ConfigurationError: If `cap` is not a positive, finite number.
    """

    name = "psnr"
    components = ("psnr",)

    def __init__(self, cap: float = 60.0) -> None:
        if not 0 < cap < math.inf:
            raise ConfigurationError(f"PSNR cap is {cap}; expected a positive number of decibels, for instance 60.")
        self.cap = float(cap)
        self.range = (0.0, self.cap)

    def measure(self, image: Image, reference: Image) -> float:
        """See `retouch_gym.metrics.psnr`; at most `cap`."""
        return min(psnr(image, reference), self.cap)

    def pay(self, measured: float) -> float:
        """As measured."""
        return measured


class SSIM(MetricReward):
    """The structural similarity, 7 × 7 windows of equal weights. Smaller photos cannot be scored."""

    name = "ssim"
    range = (-1.0, 1.0)
    components = ("ssim",)

    def measure(self, image: Image, reference: Image) -> float:
        """See `retouch_gym.metrics.ssim`."""
        return ssim(image, reference)

    def pay(self, measured: float) -> float:
        """As measured."""
        return min(measured, 1.0)


class DeltaE(MetricReward):
    """The negative mean colour difference CIEDE2000, as hundredths: −1 for black against white, or worse."""

    name = "delta-e"
    range = (-1.0, 0.0)
    components = ("delta_e",)

    def measure(self, image: Image, reference: Image) -> float:
        """See `retouch_gym.metrics.delta_e`."""
        return delta_e(image, reference)

    def pay(self, measured: float) -> float:
        """The negative of hundredths. Only photos of a few pure colours could be farther apart than 100."""
        return 0.0 - min(measured / 100, 1.0)


class Histogram(MetricReward):
    """The negative earth mover's distance between the histograms: right tones, wherever they are in the photo."""

    name = "histogram"
    range = (-1.0, 0.0)
    components = ("histogram_distance",)

    def measure(self, image: Image, reference: Image) -> float:
        """See `retouch_gym.metrics.histogram_distance`."""
        return histogram_distance(image, reference)
