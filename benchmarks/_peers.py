"""Other ways to render the 16 sliders as published, to compare the compiled kernels with."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
from numpy.typing import NDArray

from retouch_gym.images import save_image
from retouch_gym.types import Image

LEVELS = np.arange(256, dtype=np.float32)


def _to_bytes(levels: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(levels.astype(np.float32), 0, 255), dtype=np.uint8)


def tone_table(sliders: Mapping[str, float]) -> NDArray[np.uint8]:
    """All sliders that look at one value, as one table of 256 bytes."""
    value = sliders.get
    x = LEVELS / np.float32(255)
    if value("exposure"):
        x = x * 2.0 ** (value("exposure", 0) / 100)
    if value("brightness"):
        x = x + value("brightness", 0) / 200
    if value("contrast"):
        x = 0.5 + (1.25 + 0.0075 * value("contrast", 0)) * (x - 0.5)
    if value("fade"):
        strength = 0.006 * max(value("fade", 0), 0)
        x = x + strength * (1 - x)
        x = 0.5 + (1 - strength * 0.5) * (x - 0.5)
    table = (np.clip(x, 0, 1) * 255).astype(np.uint8)
    n = np.arange(256) / 255
    if value("natural_contrast"):
        table = _to_bytes(255 / (1 + np.exp(-value("natural_contrast", 0) / 10 * (LEVELS - 128) / 255)))[table]
    for name, curve in (
        ("highlights", (1 - n) * n),
        ("shadows", (1 - n**2) * (1 - n)),
        ("whites", n),
        ("blacks", 1 - n),
    ):
        if value(name):
            table = _to_bytes((n + 0.008 * value(name, 0) * curve) * 255)[table]
    return table


def _vignette(photo: Image, value: float) -> Image:
    height, width = photo.shape[:2]
    x = np.arange(width, dtype=np.float32) - width / 2
    y = np.arange(height, dtype=np.float32)[:, None] - height / 2
    amount = abs(value)
    radius = np.sqrt((x * x + y * y) / ((width / 2) ** 2 + (height / 2) ** 2))
    mask = 0.009 * amount * np.minimum(radius / (1 - 0.005 * amount), 1) ** (0.5 + 0.015 * amount)
    mask = mask.astype(np.float32)[:, :, None]
    return _to_bytes(photo * (1 - mask) if value > 0 else photo + mask * (255 - photo.astype(np.float32)))


def render_with_tables(photo: Image, sliders: Mapping[str, float]) -> Image:
    """The published pipeline with NumPy and OpenCV, every chain of look-ups composed into one table."""
    value = sliders.get
    hsv = cv2.cvtColor(cv2.LUT(photo, tone_table(sliders)), cv2.COLOR_RGB2HSV)
    saturation = np.clip(LEVELS / 255 * np.float32(1 + value("saturation", 0) / 100), 0, 1)
    saturation += np.float32(min(value("vibrance", 0), 0) / 100) * saturation
    same = LEVELS.astype(np.uint8)
    rgb = cv2.cvtColor(cv2.LUT(hsv, np.dstack([same, _to_bytes(saturation * 255), same])), cv2.COLOR_HSV2RGB)
    warmth = value("temperature", 0) / 2
    if warmth or value("tint"):
        green = cv2.add(_to_bytes(LEVELS + 0.6 * warmth), 0.3 * value("tint", 0)).reshape(256)
        rgb = cv2.LUT(rgb, np.dstack([_to_bytes(LEVELS + warmth), green, _to_bytes(LEVELS - warmth)]))
    if value("vignette"):
        rgb = _vignette(rgb, value("vignette", 0))
    sharpness = value("sharpness", 0)
    if sharpness > 0:
        rgb = cv2.addWeighted(rgb, 1 + 0.015 * sharpness, cv2.GaussianBlur(rgb, (0, 0), 3), -0.015 * sharpness, 0)
    elif sharpness < 0:
        size = int(3 + 0.12 * -sharpness) | 1
        rgb = cv2.GaussianBlur(rgb, (size, size), 0)
    return np.asarray(rgb, dtype=np.uint8)


class PublishedEditor:
    """The published editor, run unmodified from a checkout.

    Args:
        checkout: Folder with ``src/image_editor.py``.

    Raises:
        ImportError: If it is not there or needs a package that is not installed.
    """

    def __init__(self, checkout: Path) -> None:
        source = checkout / "src"
        if not (source / "image_editor.py").is_file():
            raise ImportError(f"no src/image_editor.py in {str(checkout)!r}")
        sys.path.insert(0, str(source))
        # It colours its log with colorama and needs nothing of it here.
        with mock.patch.dict(sys.modules, {"colorama": mock.MagicMock()}):
            import image_editor

        self._module: Any = image_editor

    def open(self, photo: Image) -> Any:
        """An editor of `photo`: its `process_image(sliders)` returns B, G, R."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "photo.png"
            save_image(photo, path)
            return self._module.ImageEditor(str(path), resize=False)
