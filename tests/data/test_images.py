"""The prepared store: what is left out, what it costs on disk, and how a killed run is gone on with."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fqbench.config import Preprocessing
from fqbench.data import images
from fqbench.data.images import normalize, open_store, write_store
from fqbench.data.pictures import Files
from fqbench.errors import DataError, WorkspaceError

SMALL = Preprocessing(size=16)


def save(path: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(path, **options)
    return path


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
    facts = write_store(frame, Files(tmp_path), SMALL, tmp_path)
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
        write_store(frame, Files(tmp_path), SMALL, tmp_path)


def test_batches_are_the_rows_in_order(tmp_path: Path) -> None:
    write_store(tree(tmp_path, 10, broken=0), Files(tmp_path), SMALL, tmp_path)
    store = open_store(tmp_path, SMALL)
    rows = np.array([3, 1, 4, 1, 5])
    together = np.concatenate(list(store.batches(rows, 2)))
    np.testing.assert_array_equal(together, store.batch(rows))


def test_a_store_larger_than_the_disk_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = tree(tmp_path, 4, broken=0)
    usage = shutil.disk_usage(tmp_path)._replace(free=images.SPARE_BYTES + 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)

    def never(path: Path, preprocessing: Preprocessing) -> np.ndarray:
        raise AssertionError("decoded, though there is no room")

    large = Preprocessing(size=2048)
    with pytest.raises(
        WorkspaceError,
        match=r"4 images of 2048x2048 need 50.3 MB and 67.1 MB .* has 67.1 MB left; choose another with",
    ):
        write_store(frame, Files(tmp_path), large, tmp_path, decoder=never)
    assert not (tmp_path / images.PIXELS).exists()


KILLED = """
import os, sys, time
from pathlib import Path
import pandas as pd
from fqbench.config import Preprocessing
from fqbench.data import images
from fqbench.data.pictures import Files

images.CHUNK, images.CHUNKS_A_FLUSH = 4, 1
root = Path(sys.argv[1])

def slow(path, preprocessing):
    if int(path.stem) >= 20:
        os.write(1, b"waiting\\n")
        time.sleep(60)
    return images.decode(path, preprocessing)

frame = pd.DataFrame({"path": [f"{i}.png" for i in range(40)], "sample_id": [f"{i}.png" for i in range(40)]})
images.write_store(frame, Files(root), Preprocessing(size=16), root / "out", scratch=root / "scratch", decoder=slow)
"""


def test_a_killed_run_is_gone_on_with(tmp_path: Path) -> None:
    frame = tree(tmp_path, 40, broken=0)
    for name in ("out", "scratch", "second", "whole"):
        (tmp_path / name).mkdir()
    with subprocess.Popen([sys.executable, "-c", KILLED, tmp_path], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
        child.send_signal(signal.SIGKILL)
    assert not any((tmp_path / "out").iterdir())
    decoded: list[str] = []

    def counted(path: Path, preprocessing: Preprocessing) -> np.ndarray:
        decoded.append(path.name)
        return images.decode(path, preprocessing)

    facts = write_store(
        frame, Files(tmp_path), SMALL, tmp_path / "second", scratch=tmp_path / "scratch", threads=1, decoder=counted
    )
    assert decoded == [f"{index}.png" for index in range(20, 40)]
    assert facts["images"] == 40
    assert not any((tmp_path / "scratch").iterdir())
    write_store(frame, Files(tmp_path), SMALL, tmp_path / "whole")
    for name in (images.PIXELS, images.INDEX, images.PROBLEMS):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_scratch_folder_of_another_store_is_not_used(tmp_path: Path) -> None:
    frame = tree(tmp_path, 6, broken=0)
    for name in ("out", "scratch"):
        (tmp_path / name).mkdir()
    np.save(tmp_path / "scratch" / images.PIXELS, np.zeros((5, 16, 16, 3), dtype=np.uint8))
    np.save(tmp_path / "scratch" / images.PROGRESS, np.ones(5, dtype=bool))
    write_store(frame, Files(tmp_path), SMALL, tmp_path / "out", scratch=tmp_path / "scratch")
    assert open_store(tmp_path / "out", SMALL).pixels[5, 0, 0].tolist() == [5, 0, 0]
