"""Photos that are read, kept or computed when they are needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retouch_gym.images.arrays import check_image, fit
from retouch_gym.images.files import load_image
from retouch_gym.types import Image, Photo


@dataclass(frozen=True)
class PhotoFile:
    """A photo on disk, read when needed. Implements `retouch_gym.types.Photo`.

    Args:
        path: The file.
        longest: Shrink so that the longer side is at most this many pixels; None keeps the size.
    """

    path: str
    longest: int | None = None

    def load(self) -> Image:
        """Read the file. See `load_image`."""
        image = load_image(self.path)
        return image if self.longest is None else fit(image, self.longest)


@dataclass(frozen=True, eq=False)
class Pixels:
    """A photo that is already in memory. Implements `retouch_gym.types.Photo`."""

    array: Image

    def __post_init__(self) -> None:
        object.__setattr__(self, "array", check_image(self.array))

    def load(self) -> Image:
        """Return a copy of the array."""
        return self.array.copy()


class Remembered:
    """A photo that is loaded once and kept. Implements `retouch_gym.types.Photo`.

    Args:
        photo: The photo to load.
    """

    def __init__(self, photo: Photo) -> None:
        self.photo = photo
        self._array: Image | None = None

    def __getstate__(self) -> dict[str, Any]:
        # The pixels do not travel: a copy elsewhere loads them again.
        return {"photo": self.photo, "_array": None}

    def load(self) -> Image:
        """Return the pixels, read-only and shared."""
        if self._array is None:
            self._array = self.photo.load().view()
            self._array.flags.writeable = False
        return self._array
