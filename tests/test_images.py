"""Reading, checking, resizing and writing photos."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from retouch_gym.errors import ImageError
from retouch_gym.images import PhotoFile, Pixels, check_image, fit, is_image, load_image, resize, save_image
from retouch_gym.types import Image, Photo


@pytest.fixture
def photo() -> Image:
    return np.random.default_rng(0).integers(0, 256, (12, 18, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".bmp"])
def test_lossless_formats_keep_every_pixel(tmp_path: Path, photo: Image, suffix: str) -> None:
    save_image(photo, tmp_path / f"a{suffix}")
    assert np.array_equal(load_image(tmp_path / f"a{suffix}"), photo)
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


def test_writing_replaces_whole_files_and_cleans_up_after_failures(tmp_path: Path, photo: Image) -> None:
    target = tmp_path / "a.png"
    save_image(photo, target)
    save_image(255 - photo, target)
    assert np.array_equal(load_image(target), 255 - photo)
    for bad in (tmp_path / "a.nonsense", tmp_path / "missing" / "a.png"):
        with pytest.raises(ImageError, match="Cannot write"):
            save_image(photo, bad)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, photo: Image, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(photo).save(tmp_path / "a.png", exif=exif)
    upright = {
        1: photo,
        2: photo[:, ::-1],
        3: photo[::-1, ::-1],
        4: photo[::-1],
        5: photo.transpose(1, 0, 2),
        6: np.rot90(photo, -1),
        7: photo[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(photo, 1),
    }
    assert np.array_equal(load_image(tmp_path / "a.png"), upright[orientation])


def test_other_modes_become_rgb(tmp_path: Path, photo: Image) -> None:
    grey = photo[:, :, 0]
    PIL.Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(load_image(tmp_path / "grey.png"), np.repeat(grey[:, :, None], 3, 2))
    PIL.Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert np.array_equal(load_image(tmp_path / "deep.png"), np.repeat(grey[:, :, None], 3, 2))
    clear = np.dstack([photo, np.zeros((12, 18), np.uint8)])
    PIL.Image.fromarray(clear).save(tmp_path / "clear.png")
    assert (load_image(tmp_path / "clear.png") == 255).all()
    PIL.Image.fromarray(photo).convert("CMYK").save(tmp_path / "cmyk.tiff")
    assert np.array_equal(load_image(tmp_path / "cmyk.tiff"), photo)


def test_unreadable_files_are_named(tmp_path: Path, photo: Image) -> None:
    with pytest.raises(ImageError, match="No photo at"):
        load_image(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ImageError, match=r"text\.png"):
        load_image(tmp_path / "text.png")
    save_image(photo, tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    with pytest.raises(ImageError, match=r"cut\.png"):
        load_image(tmp_path / "cut.png")


@pytest.mark.parametrize(
    "bad", [None, [1], np.zeros((3, 3)), np.zeros((3, 3, 4), np.uint8), np.zeros((0, 3, 3), np.uint8)]
)
def test_what_is_no_photo_is_refused_with_the_next_step(bad: Any) -> None:
    assert not is_image(bad)
    with pytest.raises(ImageError, match=r"thing is .*uint8.*load_image"):
        check_image(bad, "thing")


def test_a_view_becomes_contiguous(photo: Image) -> None:
    view = photo[::2, ::-1]
    checked = check_image(view)
    assert checked.flags.c_contiguous
    assert np.array_equal(checked, view)


def test_resizing(photo: Image) -> None:
    assert resize(photo, 18, 12) is photo
    assert resize(photo, 9, 6).shape == (6, 9, 3)
    assert resize(photo, 36, 6).shape == (6, 36, 3)
    halves = photo.reshape(6, 2, 9, 2, 3).mean((1, 3))
    assert np.abs(resize(photo, 9, 6) - halves).max() <= 0.5
    assert fit(photo, 18) is photo
    assert fit(photo, 9).shape == (6, 9, 3)
    assert fit(np.zeros((1000, 2, 3), np.uint8), 10).shape == (10, 1, 3)


def test_lazy_photos(tmp_path: Path, photo: Image) -> None:
    save_image(photo, tmp_path / "a.png")
    lazy = PhotoFile(str(tmp_path / "a.png"), longest=9)
    held = Pixels(photo)
    for each in (lazy, held):
        assert isinstance(each, Photo)
        copy = pickle.loads(pickle.dumps(each))
        loaded = each.load()
        assert np.array_equal(copy.load(), loaded)
        loaded[:] = 0
        assert each.load().any()
    assert lazy.load().shape == (6, 9, 3)
    with pytest.raises(ImageError, match="expected a uint8"):
        Pixels(np.zeros((3, 3), np.uint8))
