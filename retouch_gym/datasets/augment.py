"""Photos made from other photos: small frozen expressions that are computed when the pixels are needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from retouch_gym.images import fit, load_image, resize
from retouch_gym.types import Image, Photo

CACHED_PHOTOS = 128
"""Decoded source photos kept per process (about 25 MB at 256 px)."""

LONGEST = 256
"""Source photos are reduced to this many pixels on their longer side before they are cached."""


@lru_cache(maxsize=CACHED_PHOTOS)
def _decode(path: str) -> Image:
    image = fit(load_image(path), LONGEST)
    image.flags.writeable = False
    return image


@dataclass(frozen=True)
class CachedFile:
    """A photo file, reduced to `LONGEST` and kept in a bounded cache. Implements `Photo`."""

    path: str

    def load(self) -> Image:
        """A copy of the decoded photo."""
        return self.view().copy()

    def view(self) -> Image:
        """The decoded photo itself, read-only."""
        return _decode(self.path)


@dataclass(frozen=True)
class Crop:
    """A square cut out of a photo file and resized. Implements `Photo`.

    Args:
        photo: The file.
        left: Position of the left edge, 0..1 of the room that is left.
        top: Position of the top edge, 0..1 of the room that is left.
        side: Side as a fraction of the photo's shorter side, in (0, 1].
        size: Side of the result in pixels.
    """

    photo: CachedFile
    left: float
    top: float
    side: float
    size: int

    def load(self) -> Image:
        """Cut and resize."""
        image = self.photo.view()
        height, width = image.shape[:2]
        side = max(1, round(min(height, width) * self.side))
        x, y = round((width - side) * self.left), round((height - side) * self.top)
        return np.ascontiguousarray(resize(image[y : y + side, x : x + side], self.size, self.size))


@dataclass(frozen=True)
class Turned:
    """A photo turned by quarters and mirrored. Implements `Photo`."""

    photo: Photo
    quarters: int
    mirrored: bool

    def load(self) -> Image:
        """Turn, then mirror left to right."""
        image = np.rot90(self.photo.load(), self.quarters)
        return np.ascontiguousarray(image[:, ::-1] if self.mirrored else image)


@dataclass(frozen=True)
class Recoloured:
    """A photo with its colours changed beyond recognition. Implements `Photo`.

    Args:
        photo: The photo.
        hue: Rotation of the hue in degrees.
        channels: New order of the channels, a permutation of (0, 1, 2).
        grey: How much of the colour is taken away, 0..1.
    """

    photo: Photo
    hue: float
    channels: tuple[int, int, int]
    grey: float

    def load(self) -> Image:
        """Rotate the hue (8-bit HSV), permute the channels, mix with grey."""
        hsv = cv2.cvtColor(self.photo.load(), cv2.COLOR_RGB2HSV)
        turned = (hsv[..., 0].astype(np.uint16) + round(self.hue / 2) % 180) % 180
        hsv[..., 0] = turned.astype(np.uint8)
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[..., list(self.channels)]
        if self.grey:
            luma = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            image = cv2.addWeighted(image, 1 - self.grey, luma, self.grey, 0)
        return np.ascontiguousarray(image, dtype=np.uint8)


@dataclass(frozen=True)
class Mosaic:
    """Two photos of one size side by side or above each other. Implements `Photo`.

    Args:
        first: Left or upper photo.
        second: Right or lower photo.
        split: Where the border lies, 0..1.
        stacked: Whether the border is horizontal.
    """

    first: Photo
    second: Photo
    split: float
    stacked: bool

    def load(self) -> Image:
        """Put the second photo beside or below the first."""
        image, other = self.first.load(), self.second.load()
        border = round(image.shape[0 if self.stacked else 1] * self.split)
        part = (slice(border, None),) if self.stacked else (slice(None), slice(border, None))
        image[part] = other[part]
        return image


def is_ordinary(image: Image) -> bool:
    """Whether mean luma is in .27..0.68 and its deviation above .12: neither night, nor fog, nor a bare wall.

    *Restore* tasks need a notion of a well-exposed photo; this is it.
    """
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    mean, deviation = cv2.meanStdDev(luma)
    return bool(0.27 <= mean[0, 0] / 255 <= 0.68 and deviation[0, 0] / 255 > 0.12)
