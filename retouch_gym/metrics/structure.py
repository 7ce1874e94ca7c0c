"""Structural similarity."""

from __future__ import annotations

from retouch_gym.errors import ImageError
from retouch_gym.metrics._windows import WINDOW, similarity_sum
from retouch_gym.metrics.pairs import as_pair
from retouch_gym.types import Image

_AREA = WINDOW * WINDOW
_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2


def ssim(a: Image, b: Image) -> float:
    """Mean structural similarity over 7 × 7 windows of equal weights, mean of the three channels.

    SSIM = (2 μ_a μ_b + C₁)(2 σ_ab + C₂) / ((μ_a² + μ_b² + C₁)(σ_a² + σ_b² + C₂)) with C₁ = (0.01 · 255)²,
    C₂ = (0.03 · 255)² (Wang, Bovik, Sheikh and Simoncelli 2004), on levels 0..255, of every window that lies
    inside the photo. Equals scikit-image's ``structural_similarity(a, b, channel_axis=2)``, which divides the
    (co)variances by n − 1.

    Others differ: the 2004 paper weighs an 11 × 11 window by a Gaussian of σ = 1.5 and divides by n
    (``gaussian_weights=True, sigma=1.5, use_sample_covariance=False``; also torchmetrics' default, which counts
    the border too); some look at luma alone. Values of different definitions must not be compared.

    Args:
        a: Photo, uint8 (H, W, 3) sRGB, at least 7 × 7 pixels.
        b: Photo, uint8; resized to the size of `a` (bicubic) when it differs.

    Returns:
        −1 to 1 (equal).

    Raises:
        ImageError: If either is no photo, or `a` is smaller than a window.
    """
    a, b = as_pair(a, b)
    height, width = a.shape[:2]
    if min(height, width) < WINDOW:
        raise ImageError(f"SSIM needs photos of at least {WINDOW} × {WINDOW} pixels, got {height} × {width}.")
    constants = (_C1 * _AREA**2, _C2 * _AREA * (_AREA - 1))
    total = similarity_sum(a.reshape(-1), b.reshape(-1), width, constants)
    windows: int = 3 * (height - WINDOW + 1) * (width - WINDOW + 1)
    return total / windows
