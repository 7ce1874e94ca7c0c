"""Pictures and text of an episode for people: before, after and reference side by side."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from retouch_gym.images import resize
from retouch_gym.types import Image

CAPTION = 22
"""Height of the caption above each photo, in pixels."""

GAP = 4
"""Width of the space between photos, in pixels."""


def side_by_side(photos: Sequence[tuple[str, Image]]) -> Image:
    """Photos from left to right, each under its caption, all at the height of the first.

    Args:
        photos: Caption and uint8 (H, W, 3) array of each.

    Returns:
        uint8 (H + CAPTION, total width, 3).
    """
    height = photos[0][1].shape[0]
    columns: list[Image] = []
    for caption, photo in photos:
        width = max(1, round(photo.shape[1] * height / photo.shape[0]))
        columns += [_column(caption, resize(photo, width, height)), np.zeros((height + CAPTION, GAP, 3), np.uint8)]
    return np.hstack(columns[:-1])


def _column(caption: str, photo: Image) -> Image:
    band = np.zeros((CAPTION, photo.shape[1], 3), np.uint8)
    cv2.putText(band, caption, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return np.vstack([band, photo])
