"""Crop and straighten: exact slices, true angles, no invented values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from retouch_gym.adjustments import Crop
from retouch_gym.renderers.lightroom.geometry import crop_and_straighten, crop_box, largest_crop

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)


def ramps(height: int, width: int) -> np.ndarray[Any, Any]:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([x, y, x + y], axis=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_without_an_angle_it_is_a_slice(dtype: Any) -> None:
    photo = PHOTO.astype(dtype)
    kept = crop_and_straighten(photo, Crop(left=0.25, top=0.1, right=0.75, bottom=0.6))
    assert kept.dtype == dtype
    assert np.array_equal(kept, photo[4:24, 15:45])
    assert not np.shares_memory(kept, photo)
    assert np.array_equal(crop_and_straighten(photo, Crop()), photo)


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (2, 3), (37, 53)])
@pytest.mark.parametrize("angle", [0.0, 1e-6, -45.0, 45.0, 7.3])
@pytest.mark.parametrize("sides", [(0, 0, 1, 1), (0.999, 0.999, 1, 1), (0, 0, 1e-9, 1e-9), (0.1, 0.35, 0.9, 0.4)])
def test_sizes_are_as_promised(size: tuple[int, int], angle: float, sides: tuple[float, ...]) -> None:
    left, top, right, bottom = sides
    photo = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    kept = crop_and_straighten(photo, Crop(left=left, top=top, right=right, bottom=bottom, angle=angle))
    assert kept.shape == (max(1, round((bottom - top) * size[0])), max(1, round((right - left) * size[1])), 3)
    assert kept.flags.c_contiguous


def test_a_box_stays_in_its_frame() -> None:
    for left, top in RNG.random((200, 2)):
        crop = Crop(left=left, top=top, right=min(1, left + 1e-3 + RNG.random()), bottom=min(1, top + 1e-3))
        x, y, width, height = crop_box(crop, 7, 1000)
        assert 0 <= x < x + width <= 7
        assert 0 <= y < y + height <= 1000


def test_positive_angles_turn_clockwise() -> None:
    photo = np.zeros((101, 101, 3), np.uint8)
    photo[49:52, 60:96] = 255
    turned = crop_and_straighten(photo, Crop(angle=30))
    # Right of the centre, clockwise is down.
    assert turned[50 + 15, 50 + 26].min() > 200
    assert turned[50 - 15, 50 + 26].max() < 50


@pytest.mark.parametrize("angle", [3.0, -17.0, 45.0])
def test_ramps_stay_ramps(angle: float) -> None:
    turned = crop_and_straighten(ramps(90, 120), Crop(angle=angle))
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    inner = turned[35:55, 50:70, 0]
    assert np.allclose(np.diff(inner, axis=1), cos, atol=1e-3)
    assert np.allclose(np.diff(inner, axis=0), sin, atol=1e-3)
    assert turned[44:46, 59:61, 0].mean() == pytest.approx(59.5, abs=1e-3)


def test_a_vanishing_angle_is_no_angle() -> None:
    crop = Crop(left=0.2, top=0.3, right=0.8, bottom=0.9)
    tilted = crop.model_copy(update={"angle": 1e-7})
    assert np.array_equal(crop_and_straighten(PHOTO, tilted), crop_and_straighten(PHOTO, crop))


def test_a_crop_of_a_turn_is_a_part_of_the_turn() -> None:
    whole = crop_and_straighten(PHOTO, Crop(angle=12))
    part = crop_and_straighten(PHOTO, Crop(left=0.25, top=0.25, right=0.5, bottom=0.5, angle=12))
    assert np.array_equal(part, whole[10:20, 15:30])


def test_there_and_back_is_close() -> None:
    y, x = np.mgrid[:200, :200] / 200
    photo = (128 + 60 * np.sin(12 * x) * np.cos(9 * y))[:, :, None].repeat(3, 2).astype(np.uint8)
    back = crop_and_straighten(crop_and_straighten(photo, Crop(angle=10)), Crop(angle=-10))
    assert np.abs(back[50:150, 50:150].astype(int) - photo[50:150, 50:150]).max() <= 2


def test_no_value_beyond_those_of_the_photo() -> None:
    stripes = np.where(np.indices((64, 64)).sum(0) % 8 < 4, 60, 200).astype(np.uint8)[:, :, None].repeat(3, 2)
    for photo in (stripes, stripes.astype(np.float32) / 255):
        turned = crop_and_straighten(photo, Crop(angle=20))
        assert turned.min() == photo.min()
        assert turned.max() == photo.max()


def test_depths_agree() -> None:
    crop = Crop(left=0.1, right=0.8, angle=-8)
    eight = crop_and_straighten(PHOTO, crop).astype(np.float64)
    assert np.abs(crop_and_straighten(PHOTO.astype(np.float32), crop) - eight).max() <= 0.5 + 1e-3
    assert np.abs(crop_and_straighten(PHOTO.astype(np.uint16) * 257, crop) / 257 - eight).max() <= 0.51


def test_masks_turn_as_photos_do() -> None:
    crop = Crop(left=0.1, right=0.8, angle=-8)
    channel = np.ascontiguousarray(PHOTO[:, :, 1])
    low_high = PHOTO[:, :, 1:2].repeat(3, 2)
    assert np.array_equal(crop_and_straighten(channel, crop), crop_and_straighten(low_high, crop)[:, :, 0])


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (100, 100), (90, 400)])
@pytest.mark.parametrize("angle", [-45, -10.0, 2.0, 30.0])
def test_the_largest_crop_shows_no_corner(size: tuple[int, int], angle: float) -> None:
    height, width = size
    # Mirrored places have smaller or larger coordinates than a straight turn gives.
    photo = ramps(height, width)
    crop = largest_crop(width, height, angle)
    kept = crop_and_straighten(photo, crop)
    assert np.ptp(np.diff(kept[1:-1, 1:-1, 0], axis=1)) < 0.2
    assert kept.shape[1] / kept.shape[0] == pytest.approx(width / height, rel=0.05)
    left, top = max(0, crop.left - 0.04), max(0, crop.top - 0.04)
    past = crop_and_straighten(photo, Crop(left=left, top=top, right=1 - left, bottom=1 - top, angle=angle))
    jumps = np.ptp(np.diff(past[:, :, 0], axis=1)) + np.ptp(np.diff(past[:, :, 1], axis=0))
    assert jumps > 0.2


def test_the_photo_is_not_written_and_may_be_a_view() -> None:
    photo = PHOTO.copy()
    photo.flags.writeable = False
    turned = crop_and_straighten(photo, Crop(angle=5))
    assert turned.flags.writeable
    flipped = crop_and_straighten(PHOTO[:, ::-1], Crop(angle=-5))
    assert np.abs(flipped[:, ::-1].astype(int) - turned).max() <= 1
