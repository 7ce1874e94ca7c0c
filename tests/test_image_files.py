"""Photo files with colour profiles, 16 bits, or straight from a camera."""

from __future__ import annotations

import io
import struct
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms

from retouch_gym.errors import ImageError
from retouch_gym.images import load_image, read_photo, save_image, srgb_profile, to_8_bits

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (12, 18, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (12, 18, 3), dtype=np.uint16)
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def gamma(value: float) -> bytes:
    return b"curv" + struct.pack(">4xIH", 1, round(value * 256)) + b"\0\0"


def table(values: np.ndarray[Any, Any]) -> bytes:
    data = b"curv" + struct.pack(">4xI", len(values)) + np.rint(values * 65535).astype(">u2").tobytes()
    return data + b"\0" * (-len(data) % 4)


def parametric(kind: int, *values: float) -> bytes:
    return b"para" + struct.pack(f">4xHH{len(values)}i", kind, 0, *(round(v * 65536) for v in values))


def profile(curve: bytes, colorants: tuple[tuple[float, ...], ...] | None = ADOBE_RGB) -> bytes:
    """A display profile of three equal curves and a matrix, or of one grey curve."""
    xyz = {
        name: b"XYZ " + struct.pack(">4x3i", *(round(v * 65536) for v in column))
        for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants or (), strict=False)
    }
    tags = {b"wtpt": b"XYZ " + struct.pack(">4x3i", 63190, 65536, 54061), **xyz}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC") if colorants else (b"kTRC",), curve)
    offset, entries, body = 132 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        entries += struct.pack(">4sII", name, offset + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", offset + len(body), b"lcms", 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    if not colorants:
        header = header.replace(b"RGB ", b"GRAY")
    header += struct.pack(">6H4s", 2000, 1, 1, 0, 0, 0, b"acsp") + b"\0" * 28 + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + entries + body


def table_profile() -> bytes:
    """A profile of one table (lut16Type) with Lab at the eight corners of the RGB cube."""
    corners = np.stack(np.meshgrid([0, 255], [0, 255], [0, 255], indexing="ij"), axis=-1).astype(np.uint8)
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = np.asarray(ImageCms.applyTransform(PIL.Image.fromarray(corners.reshape(1, 8, 3)), to_lab))
    signed = lab.view(np.int8).reshape(8, 3).astype(float) + 128
    signed[:, 0] = lab.reshape(8, 3)[:, 0]
    ends = [0, 65535] * 3
    data = b"mft2" + struct.pack(">4x4B9i2H", 3, 3, 2, 0, *(np.eye(3, dtype=int) * 65536).ravel().tolist(), 2, 2)
    data += struct.pack(">36H", *ends, *np.rint(signed * 256).astype(int).ravel().tolist(), *ends)
    header = struct.pack(">I4sI4s4s4s", 144 + len(data), b"lcms", 0x02400000, b"mntr", b"RGB ", b"Lab ")
    header += struct.pack(">6H4s", 2000, 1, 1, 0, 0, 0, b"acsp") + b"\0" * 28 + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", 144, len(data)) + data


def deep_png(pixels: np.ndarray[Any, Any], *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 16 bits with further chunks behind its header."""
    order = [2, 1, 0, 3][: pixels.shape[2]] if pixels.ndim == 3 else slice(None)
    data = cv2.imencode(".png", pixels[:, :, order] if pixels.ndim == 3 else pixels)[1].tobytes()
    packed = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return data[:33] + packed + data[33:]


def icc_chunk(icc: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"profile\0\0" + zlib.compress(icc)


def tiff(pixels: np.ndarray[Any, Any], **extra: int) -> bytes:
    """An uncompressed TIFF of 16 bits; `extra` gives further short tags as t274=6."""
    height, width, channels = pixels.shape
    data = pixels.astype("<u2").tobytes()
    tags = {256: width, 257: height, 259: 1, 262: 2, 277: channels, 278: height, 279: len(data)}
    tags |= {int(name[1:]): value for name, value in extra.items()}
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    tags |= {258: start, 273: start + 2 * channels}
    out = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    for tag in sorted(tags):
        out += struct.pack("<HHII", tag, 3 if tag == 258 else 4, channels if tag == 258 else 1, tags[tag])
    return out + struct.pack(f"<I{channels}H", 0, *[16] * channels) + data


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.TIFF"])
def test_sixteen_bits_there_and_back(tmp_path: Path, name: str) -> None:
    save_image(DEEP, tmp_path / name)
    data = read_photo(tmp_path / name)
    assert data.pixels.dtype == np.uint16
    assert np.array_equal(data.pixels, DEEP)
    assert data.icc == srgb_profile()
    assert np.array_equal(load_image(tmp_path / name), np.rint(DEEP / 257).astype(np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (700, 900)])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_of_any_size_are_read_by_others(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    photo = RNG.integers(0, 65536, (*size, 3), dtype=np.uint16)
    save_image(photo, tmp_path / f"a{suffix}")
    others = cv2.imread(str(tmp_path / f"a{suffix}"), cv2.IMREAD_UNCHANGED)
    assert others is not None
    assert np.array_equal(others[:, :, ::-1], photo)
    with PIL.Image.open(tmp_path / f"a{suffix}") as opened:
        assert opened.info["icc_profile"] == srgb_profile()
        assert np.array_equal(np.asarray(opened), photo >> 8)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_eight_bits_are_written_with_a_profile(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        save_image(PHOTO, tmp_path / f"{name}{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    data = read_photo(tmp_path / f"a{suffix}")
    assert data.icc == srgb_profile()
    assert data.pixels.dtype == np.uint8
    with PIL.Image.open(tmp_path / f"a{suffix}") as opened:
        assert np.array_equal(data.pixels, np.asarray(opened.convert("RGB")))


def test_the_profile_that_is_written_is_srgb() -> None:
    opened = ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile()))
    assert "sRGB" in ImageCms.getProfileDescription(opened)
    assert opened.profile.creation_date is not None
    assert opened.profile.creation_date.year == 2000


@pytest.mark.parametrize("orientation", TURNS)
def test_orientation_of_sixteen_bits(tmp_path: Path, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a.png").write_bytes(deep_png(DEEP, (b"eXIf", exif.tobytes()[6:])))
    (tmp_path / "a.tif").write_bytes(tiff(DEEP, t274=orientation))
    for name in ("a.png", "a.tif"):
        assert np.array_equal(read_photo(tmp_path / name).pixels, TURNS[orientation](DEEP)), name
        assert np.array_equal(load_image(tmp_path / name), to_8_bits(TURNS[orientation](DEEP)))


def test_exif_comes_along_without_the_orientation(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    PIL.Image.fromarray(PHOTO).save(tmp_path / "a.jpg", exif=exif)
    data = read_photo(tmp_path / "a.jpg")
    assert data.exif is not None
    again = PIL.Image.Exif()
    again.load(data.exif)
    assert dict(again) == {0x010F: "Camera"}
    assert data.pixels.shape == (18, 12, 3)
    PIL.Image.fromarray(PHOTO).save(tmp_path / "b.png")
    assert read_photo(tmp_path / "b.png").exif is None


def test_sixteen_bit_grey_and_transparency(tmp_path: Path) -> None:
    (tmp_path / "grey.png").write_bytes(deep_png(DEEP[:, :, 0]))
    assert np.array_equal(read_photo(tmp_path / "grey.png").pixels, DEEP[:, :, :1].repeat(3, 2))
    dark = DEEP[:, :, 0] >> 9
    (tmp_path / "dark.png").write_bytes(deep_png(dark))
    assert read_photo(tmp_path / "dark.png").pixels.max() == dark.max()
    opacity = np.full((12, 18, 1), 65535, np.uint16)
    opacity[:6] = 0
    opacity[6] = 32768
    for name, data in (
        ("clear.png", deep_png(np.dstack([DEEP, opacity]))),
        ("clear.tif", tiff(np.dstack([DEEP, opacity]), t338=2)),
    ):
        (tmp_path / name).write_bytes(data)
        pixels = read_photo(tmp_path / name).pixels
        assert (pixels[:6] == 65535).all()
        assert np.abs(pixels[6] - (DEEP[6] / 2 + 32767.5)).max() < 2
        assert np.array_equal(pixels[7:], DEEP[7:])


def test_what_cannot_hold_sixteen_bits_says_what_can(tmp_path: Path) -> None:
    for name in ("a.jpg", "a"):
        with pytest.raises(ImageError, match=r"holds no 16 bits\. Use \.png, \.tif, \.tiff, or to_8_bits"):
            save_image(DEEP, tmp_path / name)
    for bad in (DEEP[:, :, 0], DEEP[:0], DEEP[:, :, :2]):
        with pytest.raises(ImageError, match=r"expected \(height, width, 3\)"):
            save_image(bad, tmp_path / "a.png")
    with pytest.raises(ImageError, match="Cannot write"):
        save_image(DEEP, tmp_path / "missing" / "a.png")
    assert not list(tmp_path.iterdir())


def test_to_8_bits() -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(-1, 1, 1).repeat(3, 2)
    assert np.array_equal(to_8_bits(every), np.rint(every / 257).astype(np.uint8))
    assert to_8_bits(PHOTO) is PHOTO


def expected(pixels: np.ndarray[Any, Any], power: float, colorants: Any = ADOBE_RGB) -> np.ndarray[Any, Any]:
    """sRGB, 0..1, of encoded values 0..1 in a space of one power and three primaries."""
    matrix = np.linalg.inv(np.array(SRGB).T) @ np.array(colorants).T
    light = np.clip(pixels**power @ matrix.T, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def test_profiles_are_honoured_in_both_depths(tmp_path: Path) -> None:
    icc = profile(gamma(2.19921875))
    wanted = expected(PHOTO / 255, 2.19921875)
    for name in ("a.png", "a.tif", "a.webp"):
        PIL.Image.fromarray(PHOTO).save(
            tmp_path / name, icc_profile=icc, **({"lossless": True} if "webp" in name else {})
        )
        data = read_photo(tmp_path / name)
        assert data.icc == icc
        assert np.abs(data.pixels - wanted * 255).max() <= 1.5
    (tmp_path / "deep.png").write_bytes(deep_png(DEEP, icc_chunk(icc)))
    data = read_photo(tmp_path / "deep.png")
    assert data.pixels.dtype == np.uint16
    assert np.abs(data.pixels - expected(DEEP / 65535, 2.19921875) * 65535).max() <= 60
    assert np.abs(load_image(tmp_path / "deep.png") - expected(DEEP / 65535, 2.19921875) * 255).max() <= 1


@pytest.mark.parametrize(
    "curve",
    [
        gamma(1.8),
        b"curv" + struct.pack(">4xI", 0),
        table(np.linspace(0, 1, 1024) ** 1.9),
        parametric(0, 1.8),
        parametric(1, 2.0, 0.9, 0.1),
        parametric(2, 2.0, 0.8, 0.1, 0.05),
        parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),
        parametric(4, 2.2, 0.95, 0.03, 0.1, 0.05, 0.01, 0.0),
    ],
    ids=["gamma", "linear", "table", "para0", "para1", "para2", "para3", "para4"],
)
@pytest.mark.parametrize("kind", ["rgb", "grey"])
def test_sixteen_bits_are_converted_as_littlecms_converts_eight(tmp_path: Path, curve: bytes, kind: str) -> None:
    icc = profile(curve, ADOBE_RGB if kind == "rgb" else None)
    photo = PHOTO if kind == "rgb" else PHOTO[:, :, 0]
    PIL.Image.fromarray(photo).save(tmp_path / "eight.png", icc_profile=icc)
    (tmp_path / "deep.png").write_bytes(deep_png(photo.astype(np.uint16) * 257, icc_chunk(icc)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        eight, deep = read_photo(tmp_path / "eight.png").pixels, read_photo(tmp_path / "deep.png").pixels
    assert eight.dtype == np.uint8
    assert deep.dtype == np.uint16
    # In the darks of curves that do not begin at 0 LittleCMS's fixed point is off by a few levels.
    lifted = kind == "rgb" and curve[:10] in (parametric(1)[:10], parametric(2)[:10])
    apart = np.abs(deep / 257 - eight)
    assert apart.max() <= (9 if lifted else 1.5)
    assert apart.mean() < 0.4


def test_pictures_in_srgb_stay_as_they_are(tmp_path: Path) -> None:
    curve = parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    for name, icc in (("own", srgb_profile()), ("other", profile(curve, SRGB))):
        PIL.Image.fromarray(PHOTO).save(tmp_path / f"{name}.png", icc_profile=icc)
        assert np.array_equal(load_image(tmp_path / f"{name}.png"), PHOTO)
        (tmp_path / f"{name}16.png").write_bytes(deep_png(DEEP, icc_chunk(icc)))
        assert np.array_equal(read_photo(tmp_path / f"{name}16.png").pixels, DEEP)


def test_grey_cmyk_palette_and_transparent_pictures_have_profiles_too(tmp_path: Path) -> None:
    grey, rgb = profile(gamma(1.0), None), profile(gamma(1.0))
    level = round((1.055 * (100 / 255) ** (1 / 2.4) - 0.055) * 255)
    PIL.Image.new("L", (3, 3), 100).save(tmp_path / "grey.png", icc_profile=grey)
    assert np.abs(load_image(tmp_path / "grey.png").astype(int) - level).max() <= 1
    PIL.Image.new("L", (3, 3), 100).save(tmp_path / "neutral.png", icc_profile=rgb)
    assert np.abs(load_image(tmp_path / "neutral.png").astype(int) - level).max() <= 1
    palette = PIL.Image.new("RGB", (3, 3), (100, 100, 100)).quantize(4)
    palette.save(tmp_path / "palette.png", icc_profile=rgb)
    assert np.abs(load_image(tmp_path / "palette.png").astype(int) - level).max() <= 1
    for mode, icc in (("RGBA", rgb), ("LA", grey)):
        clear = PIL.Image.new(mode, (2, 1), (100, 100, 100, 255) if mode == "RGBA" else (100, 255))
        clear.putpixel((1, 0), (100, 100, 100, 0) if mode == "RGBA" else (100, 0))
        clear.save(tmp_path / "clear.png", icc_profile=icc)
        pixels = load_image(tmp_path / "clear.png").astype(int)
        assert np.abs(pixels[0, 0] - level).max() <= 1
        assert (pixels[0, 1] == 255).all()


def test_pictures_in_lab_need_no_profile(tmp_path: Path) -> None:
    lab = PIL.Image.new("LAB", (4, 4), (255, 128, 128))
    lab.save(tmp_path / "lab.tif", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(tmp_path / "lab.tif").shape == (4, 4, 3)


@pytest.mark.parametrize(
    "icc",
    [b"nonsense" * 40, profile(gamma(2.2))[:150], profile(gamma(2.2), None), profile(b"what" + b"\0" * 12)],
    ids=["nonsense", "cut", "of another kind of picture", "unknown curve"],
)
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "deep.png"])
def test_a_profile_that_cannot_be_used_warns_and_is_passed_over(tmp_path: Path, icc: bytes, name: str) -> None:
    if name == "deep.png":
        (tmp_path / name).write_bytes(deep_png(DEEP, icc_chunk(icc)))
    else:
        PIL.Image.fromarray(PHOTO).save(tmp_path / name, icc_profile=icc)
    with pytest.warns(UserWarning, match=rf"{name}.*profile cannot be used.*taken as sRGB"):
        data = read_photo(tmp_path / name)
    with PIL.Image.open(tmp_path / name) as opened:
        wanted = DEEP if name == "deep.png" else np.asarray(opened)
    assert np.array_equal(data.pixels, wanted)


def test_profiles_of_tables_are_honoured_in_both_depths(tmp_path: Path) -> None:
    icc = table_profile()
    ramp = np.linspace(0, 65535, 60 * 50).reshape(60, 50)
    smooth = np.stack([ramp, ramp[:, ::-1] * 0.6, ramp[::-1]], axis=2).astype(np.uint16)
    (tmp_path / "deep.png").write_bytes(deep_png(smooth, icc_chunk(icc)))
    PIL.Image.fromarray(to_8_bits(smooth)).save(tmp_path / "eight.png", icc_profile=icc)
    eight, deep = read_photo(tmp_path / "eight.png").pixels, read_photo(tmp_path / "deep.png").pixels
    assert deep.dtype == np.uint16
    assert np.abs(eight.astype(int) - to_8_bits(smooth)).max() > 10
    assert np.abs(deep / 257 - eight).max() <= 1
    assert len(np.unique(deep)) > 2000


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")  # Pillow's, before the error
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_truncated_files_of_sixteen_bits_are_named(tmp_path: Path, name: str) -> None:
    photo = RNG.integers(0, 65536, (100, 100, 3), dtype=np.uint16)
    save_image(photo, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for share in (0.1, 0.5, 0.95):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ImageError, match=rf"{name}.*truncated"):
            read_photo(tmp_path / name)


def test_bombs_are_refused_before_they_unpack(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 40000, 40000, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(ImageError, match=r"bomb\.png.*decompression bomb"):
        read_photo(tmp_path / "bomb.png")


def dng(bayer: np.ndarray[Any, Any]) -> bytes:
    """A minimal linear raw file of an RGGB sensor with neutral white balance and sRGB primaries."""
    height, width = bayer.shape
    # XYZ to linear sRGB, D65, in ten-thousandths.
    matrix = [32405, -15371, -4985, -9693, 18760, 416, 556, -2040, 10572]
    tags: list[tuple[int, int, bytes]] = [
        (254, 4, struct.pack("<I", 0)),
        (256, 4, struct.pack("<I", width)),
        (257, 4, struct.pack("<I", height)),
        (258, 3, struct.pack("<H", 16)),
        (259, 3, struct.pack("<H", 1)),
        (262, 3, struct.pack("<H", 32803)),
        (271, 2, b"Test\0"),
        (272, 2, b"Sensor\0"),
        (273, 4, struct.pack("<I", 8)),
        (274, 3, struct.pack("<H", 1)),
        (277, 3, struct.pack("<H", 1)),
        (278, 4, struct.pack("<I", height)),
        (279, 4, struct.pack("<I", bayer.nbytes)),
        (33421, 3, struct.pack("<2H", 2, 2)),
        (33422, 1, bytes([0, 1, 1, 2])),
        (50706, 1, bytes([1, 4, 0, 0])),
        (50708, 2, b"Test Sensor\0"),
        (50714, 3, struct.pack("<H", 0)),
        (50717, 4, struct.pack("<I", 65535)),
        (50721, 10, b"".join(struct.pack("<2i", value, 10000) for value in matrix)),
        (50728, 5, struct.pack("<6I", 1, 1, 1, 1, 1, 1)),
        (50778, 3, struct.pack("<H", 21)),
    ]
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 10: 8}
    start = 8 + bayer.nbytes
    beyond, entries, values = start + 2 + 12 * len(tags) + 4, b"", b""
    for tag, kind, data in tags:
        field = data.ljust(4, b"\0")
        if len(data) > 4:
            field = struct.pack("<I", beyond + len(values))
            values += data + b"\0" * (len(data) % 2)
        entries += struct.pack("<HHI", tag, kind, len(data) // sizes[kind]) + field
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0) + values
    return struct.pack("<2sHI", b"II", 42, start) + bayer.astype("<u2").tobytes() + directory


def test_raw_files_are_developed(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    linear = np.full((96, 128), 0.18)
    linear[:, 64:] = 0.5
    (tmp_path / "a.dng").write_bytes(dng(np.rint(linear * 65535).astype(np.uint16)))
    data = read_photo(tmp_path / "a.dng")
    assert data.pixels.dtype == np.uint16
    assert data.pixels.shape == (96, 128, 3)
    encoded = (1.055 * np.array([0.18, 0.5]) ** (1 / 2.4) - 0.055) * 255
    for side, level in zip((slice(8, 56), slice(72, 120)), encoded, strict=True):
        assert np.abs(load_image(tmp_path / "a.dng")[8:-8, side] - level).max() <= 2
    (tmp_path / "cut.dng").write_bytes((tmp_path / "a.dng").read_bytes()[:3000])
    for name in ("cut.dng", "none.nef"):
        with pytest.raises(ImageError, match=rf"{name}.*raw"):
            read_photo(tmp_path / name)


def test_without_rawpy_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(ImageError, match=r"a\.NEF.*pip install 'retouch-gym\[raw\]'"):
        read_photo(tmp_path / "a.NEF")
