"""How far two photos are apart, and what can be said of one alone. Pure functions; rewards are made of them."""

from retouch_gym.metrics.color import delta_e, lab_moments
from retouch_gym.metrics.distance import l1, mean_differences, psnr, rmse
from retouch_gym.metrics.histogram import histogram_distance, histograms
from retouch_gym.metrics.statistics import PhotoStatistics, photo_statistics
from retouch_gym.metrics.structure import ssim

__all__ = [
    "PhotoStatistics",
    "delta_e",
    "histogram_distance",
    "histograms",
    "l1",
    "lab_moments",
    "mean_differences",
    "photo_statistics",
    "psnr",
    "rmse",
    "ssim",
]
