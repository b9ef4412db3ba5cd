"""Pictures in the state in which they arrive, and the prepared store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fqbench.config import Preprocessing
from fqbench.data.images import decode, normalize, open_store, write_store
from fqbench.errors import DataError

SMALL = Preprocessing(size=16)


def save(path: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(path, **options)
    return path


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


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    picture = Image.new("RGB", (32, 32), "black")
    picture.paste("white", (0, 0, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    pixels = decode(save(tmp_path / "turned.jpg", picture, exif=exif), SMALL)
    assert pixels[0].mean() < 30
    assert pixels[-1].mean() > 220


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


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = save(tmp_path / "bomb.png", Image.new("1", (20_000, 20_000)))
    with pytest.raises(DataError, match=r"20000x20000 pixels|decompression bomb"):
        decode(path, SMALL)


def test_normalize_is_the_formula() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
    preprocessing = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    expected = ((pixels / 255.0 - preprocessing.mean) / preprocessing.std).transpose(0, 3, 1, 2)
    result = normalize(pixels, preprocessing)
    assert result.flags.c_contiguous
    np.testing.assert_allclose(result, expected, atol=1e-6)


def tree(root: Path, count: int, broken: int) -> pd.DataFrame:
    for index in range(count):
        save(root / f"{index}.png", Image.new("RGB", (16, 16), (index % 256, 0, 0)))
    for index in range(broken):
        (root / f"{index}.png").write_bytes(b"\x89PNG")
    names = [f"{index}.png" for index in range(count)]
    return pd.DataFrame({"sample_id": names, "path": names})


def test_the_store_leaves_out_a_broken_picture_and_says_so(tmp_path: Path) -> None:
    frame = tree(tmp_path, 200, broken=1)
    facts = write_store(frame, tmp_path, SMALL, tmp_path)
    assert facts == {"images": 199, "unreadable": 1, "unreadable_first": ["0.png"]}
    store = open_store(tmp_path, SMALL)
    assert store.rows_of(["0.png", "7.png", "nobody.png"]).tolist() == [-1, 7, -1]
    assert store.pixels[7, 0, 0].tolist() == [7, 0, 0]
    assert isinstance(store.pixels, np.memmap)
    problems = pd.read_csv(tmp_path / "problems.csv")
    assert problems["sample_id"].tolist() == ["0.png"]


def test_more_than_one_percent_is_an_error(tmp_path: Path) -> None:
    frame = tree(tmp_path, 200, broken=3)
    with pytest.raises(DataError, match="3 of 200 pictures cannot be decoded, more than 1%"):
        write_store(frame, tmp_path, SMALL, tmp_path)


def test_batches_are_the_rows_in_order(tmp_path: Path) -> None:
    write_store(tree(tmp_path, 10, broken=0), tmp_path, SMALL, tmp_path)
    store = open_store(tmp_path, SMALL)
    rows = np.array([3, 1, 4, 1, 5])
    together = np.concatenate(list(store.batches(rows, 2)))
    np.testing.assert_array_equal(together, store.batch(rows))
