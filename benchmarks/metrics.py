"""How fast the metrics are beside the libraries that define them, one thread, medians of interleaved runs, caches hot.

    OMP_NUM_THREADS=1 python benchmarks/metrics.py [--size 512] [--repeats 15]

Needs scikit-image, scipy and rouge-score; torchmetrics is timed where it is installed. Every value is printed with its
scale, ours beside theirs, so that a fast wrong number would show. The last lines are what the first call costs: in a
process that finds compiled kernels, and in one that has to compile them.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import cv2
import numba
import numpy as np
from render import medians, processor
from rouge_score.rouge_scorer import RougeScorer
from scipy.stats import wasserstein_distance
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from retouch_gym.images import load_image, resize
from retouch_gym.metrics import (
    delta_e,
    histogram_distance,
    l1,
    lab_moments,
    mean_differences,
    psnr,
    rmse,
    ssim,
)
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import get_renderer
from retouch_gym.rewards.summary import rouge_l
from retouch_gym.types import Image

FIRST_CALL = """
import time
import numpy as np
a, b = (np.random.default_rng(seed).integers(0, 256, (512, 512, 3), dtype=np.uint8) for seed in (0, 1))
from retouch_gym.metrics import delta_e, lab_moments, ssim
began = time.perf_counter()
for metric in (ssim, delta_e, lambda a, b: lab_moments(a)):
    metric(a, b)
print(time.perf_counter() - began)
"""

Numbers = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """One metric.

    Args:
        name: What is measured.
        scale: The scale of its value.
        ours: Ours.
        peers: Others, by library; the first one defines the metric.
    """

    name: str
    scale: str
    ours: Numbers
    peers: dict[str, Numbers] = field(default_factory=dict)


def numpy_l1_and_rmse(a: Image, b: Image) -> float:
    """L1 + RMSE as one would write them first, in float32."""
    x, y = a.astype(np.float32) / 255, b.astype(np.float32) / 255
    return float(np.mean(np.abs(x - y)) + np.sqrt(np.mean((x - y) ** 2)))


def ours_l1_and_rmse(a: Image, b: Image) -> float:
    """L1 + RMSE from one call."""
    absolute, square = mean_differences(a, b)
    return (absolute + square**0.5) / 255


def lab_mean(photo: Image) -> float:
    """Mean L* by scikit-image, with the moments that `lab_moments` gives."""
    lab = rgb2lab(photo).reshape(-1, 3)
    return float(lab.mean(axis=0)[0] + 0 * lab[:, 0].std())


def wasserstein(a: Image, b: Image) -> float:
    """The histogram distance by scipy."""
    return float(np.mean([wasserstein_distance(a[..., c].ravel() / 255, b[..., c].ravel() / 255) for c in range(3)]))


def rows(a: Image, b: Image) -> list[Row]:
    """Every metric with the libraries that have it."""
    words = (
        "please make the photo slightly warmer and much darker in the corners, thanks.",
        "make it warmer and darker.",
    )
    scorer = RougeScorer(["rougeL"])
    return [
        Row("L1", "0..1", lambda: l1(a, b), {"NumPy float": lambda: float(np.abs(a / 255 - b / 255).mean())}),
        Row("RMSE", "0..1", lambda: rmse(a, b), {"scikit-image": lambda: mean_squared_error(a, b) ** 0.5 / 255}),
        Row(
            "L1 + RMSE",
            "0..1 each",
            lambda: ours_l1_and_rmse(a, b),
            {
                "scikit-image": lambda: np.abs(a / 255 - b / 255).mean() + mean_squared_error(a, b) ** 0.5 / 255,
                "NumPy float32": lambda: numpy_l1_and_rmse(a, b),
            },
        ),
        Row("PSNR", "dB", lambda: psnr(a, b), {"scikit-image": lambda: peak_signal_noise_ratio(a, b)}),
        Row(
            "SSIM 7×7",
            "−1..1",
            lambda: ssim(a, b),
            {"scikit-image": lambda: structural_similarity(a, b, channel_axis=2)},
        ),
        Row(
            "ΔE2000",
            "1 = just seen",
            lambda: delta_e(a, b),
            {"scikit-image": lambda: deltaE_ciede2000(rgb2lab(a), rgb2lab(b)).mean()},
        ),
        Row("Lab moments", "L* 0..100", lambda: lab_moments(a)[0], {"scikit-image": lambda: lab_mean(a)}),
        Row("histograms", "0..1", lambda: histogram_distance(a, b), {"scipy": lambda: wasserstein(a, b)}),
        Row(
            "ROUGE-L F1",
            "0..1",
            lambda: rouge_l(*words)[0],
            {"rouge-score": lambda: scorer.score(*words)["rougeL"].fmeasure},
        ),
    ]


def add_torchmetrics(table: Sequence[Row], a: Image, b: Image) -> None:
    """Add torchmetrics, on float32 tensors that are ready, where it is installed.

    Its SSIM is another one (11 × 11 Gaussian, border included): the time is comparable, the value is not.
    """
    if importlib.util.find_spec("torchmetrics") is None:
        return
    import torch
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
    from torchmetrics.functional.regression import mean_absolute_error, mean_squared_error

    torch.set_num_threads(1)
    x, y = (torch.from_numpy(photo.astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous() for photo in (a, b))
    found: dict[str, Callable[[], Any]] = {
        "L1 + RMSE": lambda: mean_absolute_error(x, y) + mean_squared_error(x, y, squared=False),
        "PSNR": lambda: peak_signal_noise_ratio(x, y, data_range=1.0),
        "SSIM 7×7": lambda: structural_similarity_index_measure(x, y, data_range=1.0),
    }
    for row in table:
        if row.name in found:
            row.peers["torchmetrics"] = lambda measure=found[row.name]: float(measure())


def first_call(folder: str) -> float:
    """Seconds of the first SSIM, ΔE2000 and Lab moments in a new process with this folder of compiled kernels."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
    ran = subprocess.run(
        [sys.executable, "-c", FIRST_CALL], env=environment, capture_output=True, text=True, check=True
    )
    return float(ran.stdout)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="side of the square photo in pixels")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    numba.set_num_threads(1)
    asset = files("retouch_gym.datasets") / "assets" / "china.png"
    a = resize(load_image(str(asset)), options.size, options.size)
    b = get_renderer("native").render([a], [Recipe("iea", {"exposure": 25, "temperature": 30, "saturation": -20})])[0]
    table = rows(a, b)
    add_torchmetrics(table, a, b)
    jobs = {(row.name, "ours"): row.ours for row in table}
    jobs |= {(row.name, library): peer for row in table for library, peer in row.peers.items()}
    found = medians({f"{name}|{library}": job for (name, library), job in jobs.items()}, options.repeats)
    print(f"{processor()}, {options.size}², 1 thread, warm, caches hot, {options.repeats} interleaved turns")
    print(f"{'metric':12} {'scale':14} {'library':14} {'value':>12} {'ms':>9} {'ratio':>7}")
    for row in table:
        ours = found[f"{row.name}|ours"]
        print(f"{row.name:12} {row.scale:14} {'ours':14} {row.ours():12.6f} {ours * 1e3:9.3f}")
        for library, peer in row.peers.items():
            theirs = found[f"{row.name}|{library}"]
            print(f"{'':27} {library:14} {peer():12.6f} {theirs * 1e3:9.3f} {theirs / ours:6.1f}×")
    with tempfile.TemporaryDirectory() as folder:
        print(
            f"first calls of SSIM, ΔE2000 and Lab moments together: {first_call(folder):.2f} s where they are compiled"
        )
        print(f"                                                      {first_call(folder):.2f} s where they are found")


if __name__ == "__main__":
    main()
