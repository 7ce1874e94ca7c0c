"""Pictures and text of an episode for people: before, after and reference side by side."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from retouch_gym.envs.session import Session
from retouch_gym.images import resize
from retouch_gym.types import Image

CAPTION = 22
"""Height of the caption above each photo, in pixels."""

GAP = 4
"""Width of the space between photos, in pixels."""


def as_picture(session: Session) -> Image:
    """Before, context, after and reference (where there is one) side by side, each under its caption.

    Returns:
        uint8 (H + CAPTION, total width, 3), both sides even.
    """
    photos = [("before", session.source)]
    photos += [(f"shown {number}", photo.load()) for number, photo in enumerate(session.task.context, 1)]
    photos.append(("after", session.image))
    if session.task.reference is not None:
        photos.append(("reference", session.task.reference.load()))
    return side_by_side(photos)


def as_text(session: Session) -> str:
    """Task, turn, recipe and feedback in words."""
    lines = [
        f"Task {session.task.id} ({session.task.mode}, {session.task.kind}): {session.requests[-1]}",
        f"Turn {len(session.turns)} of {session.max_turns}" + (", finished" if session.finished else ""),
        f"Recipe: {session.recipe.to_json()}",
        f"Feedback: {session.feedback or 'none yet'}",
    ]
    return "\n".join(lines) + "\n"


def side_by_side(photos: Sequence[tuple[str, Image]]) -> Image:
    """Photos from left to right, each under its caption, all at the height of the first.

    Args:
        photos: Caption and uint8 (H, W, 3) array of each.

    Returns:
        uint8 (H + CAPTION, total width, 3), black added below and right where a side would be odd: video encoders
        halve the colour's resolution, and players refuse what cannot be halved.
    """
    height = photos[0][1].shape[0]
    columns: list[Image] = []
    for caption, photo in photos:
        width = max(1, round(photo.shape[1] * height / photo.shape[0]))
        columns += [_column(caption, resize(photo, width, height)), np.zeros((height + CAPTION, GAP, 3), np.uint8)]
    picture = np.hstack(columns[:-1])
    rows, width = picture.shape[:2]
    return np.pad(picture, ((0, rows % 2), (0, width % 2), (0, 0)))


def _column(caption: str, photo: Image) -> Image:
    band = np.zeros((CAPTION, photo.shape[1], 3), np.uint8)
    cv2.putText(band, caption, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return np.vstack([band, photo])
