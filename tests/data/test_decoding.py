"""Pictures in the state in which they arrive: every mode and orientation, damage of every kind, and Pillow's pixels."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from fqbench.config import Preprocessing
from fqbench.data import decoding
from fqbench.data.decoding import decode, fit
from fqbench.errors import DataError

SMALL = Preprocessing(size=16)


def save(path: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(path, **options)
    return path


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise whose amplitude falls with its frequency, as in photographs."""
    rng, total = np.random.default_rng(seed), np.zeros((height, width, 3))
    for step in (64, 32, 16, 8, 4):
        grid = rng.normal(0, 10 * step**0.35, (height // step + 2, width // step + 2, 3)) + 128
        coarse = Image.fromarray(np.clip(grid, 0, 255).astype(np.uint8))
        total += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64) - 128
    return Image.fromarray(np.clip(total + 128, 0, 255).astype(np.uint8))


def by_pillow(path: Path, preprocessing: Preprocessing) -> np.ndarray:
    """The same in plain Pillow, as the models' own libraries do it."""
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    size, filters = preprocessing.size[0], {"bilinear": 2, "bicubic": 3, "lanczos": 1, "nearest": 0}
    scale = round(size / preprocessing.crop) / min(picture.size)
    width, height = (round(side * scale) for side in picture.size)
    resized = picture.resize((width, height), Image.Resampling(filters[preprocessing.interpolation]))
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(resized.crop((left, top, left + size, top + size)))


# Mean and largest difference from Pillow that is let pass: enlarging bilinearly, and what needs no resize, is the same
# filter; bicubic has another free parameter; shrinking averages areas, or halves in the JPEG's own frequencies.
@pytest.mark.parametrize(
    ("size", "options", "suffix", "limits"),
    [
        ((178, 218), {"size": 224}, "jpg", (0.5, 2)),
        ((178, 218), {"size": 224, "crop": 0.875}, "jpg", (0.5, 2)),
        ((178, 218), {"size": 224, "interpolation": "bicubic"}, "jpg", (1.0, 12)),
        ((224, 224), {"size": 224}, "jpg", (0.0, 0)),
        ((300, 260), {"size": 224, "crop": 0.875}, "jpg", (1.5, 12)),
        ((448, 448), {"size": 224}, "jpg", (3.5, 40)),
        ((448, 448), {"size": 224, "interpolation": "bicubic"}, "jpg", (3.5, 40)),
        ((1000, 700), {"size": 224}, "jpg", (4.0, 40)),
        ((448, 448), {"size": 224, "interpolation": "lanczos"}, "png", (0.0, 0)),
        ((448, 448), {"size": 224}, "png", (2.5, 25)),
        ((448, 500), {"size": 224, "interpolation": "bicubic"}, "png", (1.5, 12)),
        ((300, 200), {"size": 64, "interpolation": "nearest"}, "jpg", (0.0, 0)),
        ((64, 64), {"size": 64}, "png", (0.0, 0)),
    ],
)
def test_pillow_gives_about_the_same_pixels(
    tmp_path: Path, size: tuple[int, int], options: dict, suffix: str, limits: tuple[float, int]
) -> None:
    preprocessing = Preprocessing(**options)
    path = save(tmp_path / f"photo.{suffix}", photo(*size), **({"quality": 90} if suffix == "jpg" else {}))
    ours, theirs = decode(path, preprocessing), by_pillow(path, preprocessing)
    assert ours.shape == theirs.shape == (*preprocessing.size, 3)
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.mean() <= limits[0]
    assert difference.max() <= limits[1]
    assert abs(float(ours.mean()) - float(theirs.mean())) < 0.5


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_shrinking_is_antialiased(tmp_path: Path, interpolation: str, suffix: str) -> None:
    stripes = np.zeros((512, 512, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    path = save(tmp_path / f"stripes.{suffix}", Image.fromarray(stripes))
    pixels = decode(path, Preprocessing(size=64, interpolation=interpolation))
    assert 118 < pixels[8:-8, 8:-8].min() <= pixels[8:-8, 8:-8].max() < 138


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_all_eight_orientations(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if suffix != "png" else {}
    path = save(tmp_path / f"turned.{suffix}", photo(40, 64), exif=exif, **options)
    whole = Preprocessing(size=40)
    np.testing.assert_allclose(decode(path, whole), by_pillow(path, whole), atol=0 if suffix != "jpg" else 1)


@pytest.mark.parametrize("size", [(1, 1), (1, 30_000), (30_000, 1), (3, 60_000)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos"])
def test_one_pixel_and_long_strips(tmp_path: Path, size: tuple[int, int], interpolation: str) -> None:
    """A strip of 1 by 30,000 pixels covers 224 by 224 only when it is 6.7 million pixels long: not all is made."""
    colours = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    middle = (slice(size[1] // 3, size[1] - size[1] // 3), slice(size[0] // 3, size[0] - size[0] // 3))
    colours[middle] = (200, 100, 50)
    path = save(tmp_path / "strip.png", Image.fromarray(colours))
    tracemalloc.start()
    pixels = decode(path, Preprocessing(size=224, crop=0.9, interpolation=interpolation))
    _now, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pixels.shape == (224, 224, 3)
    assert most < 60e6
    if size[0] < 3:
        assert (pixels.reshape(-1, 3) == (200, 100, 50)).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((20, 20), 0.5, dtype=np.float32), "pixels are floating-point numbers without a fixed range"),
        (np.full((20, 20), 70_000, dtype=np.int32), "pixels go up to 70000; save it with 8 or 16 bits per channel"),
    ],
)
def test_pixels_without_a_known_range_are_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=rf"deep\.tif cannot be decoded \(its {message}"):
        decode(save(tmp_path / "deep.tif", Image.fromarray(values)), SMALL)


def test_a_cut_strip_has_the_pixels_of_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    preprocessing = Preprocessing(size=64, crop=0.8, interpolation="bicubic")
    strip = np.asarray(photo(20, 301))
    whole = fit(strip, preprocessing)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 10_000)
    assert np.abs(fit(strip, preprocessing).astype(int) - whole).max() <= 1


def test_damaged_metadata_say_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "odd.jpg", photo(40, 40), exif=b"Exif\0\0not a directory of tags")
    assert decode(path, SMALL).shape == (16, 16, 3)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_the_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"moving.{suffix}", frames[0], save_all=True, append_images=frames[1:], **options)
    assert decode(path, SMALL)[8, 8].tolist() == [255, 0, 0]


@pytest.mark.parametrize("inverted", [False, True])
def test_cmyk_is_what_pillow_makes_of_it(tmp_path: Path, inverted: bool) -> None:
    path = save(tmp_path / "print.jpg", photo(32, 32).convert("CMYK"))
    if inverted:  # Pillow writes the Adobe marker, which says that the values are inverted
        path.write_bytes(path.read_bytes().replace(b"Adobe", b"Adobf", 1))
    whole = Preprocessing(size=32)
    np.testing.assert_array_equal(decode(path, whole), by_pillow(path, whole))


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    if mode == "I;16":
        if suffix != ".png":
            pytest.skip(f"{suffix} holds no 16-bit pictures")
        picture = Image.fromarray(np.full((20, 20), 40000, dtype=np.uint16))
    else:
        picture = Image.new("RGB", (20, 20), (200, 100, 50)).convert(mode)
    try:
        path = save(tmp_path / f"picture{suffix}", picture)
    except (OSError, ValueError):
        pytest.skip(f"{suffix} holds no {mode}")
    pixels = decode(path, SMALL)
    assert pixels.shape == (16, 16, 3)
    assert pixels.dtype == np.uint8
    if mode == "I;16":
        assert abs(int(pixels.mean()) - 156) <= 2  # 40000 of 65535


def test_the_centre_is_kept(tmp_path: Path) -> None:
    picture = Image.new("RGB", (48, 16), "black")
    picture.paste("white", (16, 0, 32, 16))
    assert decode(save(tmp_path / "wide.png", picture), SMALL).min() == 255


@pytest.mark.parametrize("content", [b"", b"this is a text file named .jpg", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken.jpg cannot be decoded"):
        decode(path, SMALL)


def test_a_truncated_jpeg_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "cut.jpg", Image.effect_noise((64, 64), 50).convert("RGB"))
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DataError, match="cannot be decoded"):
        decode(path, SMALL)


@pytest.mark.parametrize("side", [9_500, 50_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    # One row of zeros compresses to nearly nothing; nobody should try the others.
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(side * (side // 8 + 1)), 9) if side < 10_000 else zlib.compress(bytes(1_000_000), 9)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    tracemalloc.start()
    with pytest.raises(DataError, match=rf"bomb.png cannot be decoded .*({side}x{side} pixels|decompression bomb)"):
        decode(path, SMALL)
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


def test_a_large_jpeg_is_refused_by_its_head(tmp_path: Path) -> None:
    path = save(tmp_path / "large.jpg", Image.effect_noise((64, 64), 50).convert("RGB"))
    content = bytearray(path.read_bytes())
    start = content.find(b"\xff\xc0")
    content[start + 5 : start + 9] = struct.pack(">HH", 50_000, 50_000)
    path.write_bytes(content)
    with pytest.raises(DataError, match="50000x50000 pixels exceed the limit"):
        decode(path, SMALL)


def test_an_untidy_jpeg_is_taken_as_pillow_takes_it(tmp_path: Path) -> None:
    path = save(tmp_path / "untidy.jpg", photo(64, 64))
    clean = decode(path, SMALL)
    path.write_bytes(path.read_bytes() + b"\0\0trailing bytes of a camera")
    np.testing.assert_array_equal(decode(path, SMALL), clean)


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing.jpg"):
        with pytest.raises(DataError, match="cannot be read"):
            decode(path, SMALL)


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    photo(24, 24).save(buffer, kind)
    return buffer.getvalue()


WHOLE = {kind: encoded(kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(WHOLE)),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8),
    cut=st.none() | st.integers(0, 2000),
)
@pytest.mark.filterwarnings("ignore")  # Pillow warns of some damage; what counts is how it ends
def test_damage_is_a_data_error_or_a_picture(
    tmp_path: Path, kind: str, changes: list[tuple[int, int]], cut: int | None
) -> None:
    content = bytearray(WHOLE[kind])
    for place, value in changes:
        content[place % len(content)] = value
    path = tmp_path / "damaged.jpg"
    path.write_bytes(content if cut is None else content[: cut % len(content)])
    with contextlib.suppress(DataError):  # any other exception is a failure
        pixels = decode(path, SMALL)
        assert (pixels.shape, pixels.dtype) == ((16, 16, 3), np.uint8)
