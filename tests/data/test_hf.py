"""Data sets that Hugging Face's own library writes, read without it."""

import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fqbench.config import Preprocessing
from fqbench.data.hf import find_shards, read_hf
from fqbench.data.images import open_store, write_store
from fqbench.data.inspect import inspect
from fqbench.data.preview import contact_sheet
from fqbench.data.samples import Samples
from fqbench.errors import DataError, FqbenchError, InputError

SMALL = Preprocessing(size=16)


def level(index: int) -> int:
    return 20 + index * 7 % 200


def picture(index: int) -> Image.Image:
    return Image.new("RGB", (20, 24), (level(index),) * 3)


def encoded(index: int) -> bytes:
    buffer = io.BytesIO()
    picture(index).save(buffer, format="PNG")
    return buffer.getvalue()


def dataset(count: int, first: int = 0) -> Any:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["zebra", "ape", "bear"]),
            "sex": datasets.ClassLabel(names=["f", "m"]),
            "age": datasets.Value("int32"),
            "box": datasets.Sequence(datasets.Value("float32")),
        }
    )
    rows = range(first, first + count)
    return datasets.Dataset.from_dict(
        {
            "image": [picture(row) for row in rows],
            "label": [row % 2 for row in rows],
            "sex": [row // 2 % 2 for row in rows],
            "age": [None if row % 5 == 0 else 30 for row in rows],
            "box": [[0.0, 1.0]] * count,
        },
        features=features,
    )


def read(root: Path, **options: Any) -> Samples:
    return read_hf(root, find_shards(root), **options)


def levels(samples: Samples, folder: Path) -> list[int]:
    """The grey level of each picture of the table, through the prepared store."""
    folder.mkdir()
    write_store(samples.frame, samples.pictures, SMALL, folder)
    store = open_store(folder, SMALL)
    assert store.sample_ids.tolist() == samples.frame["sample_id"].tolist()
    return [int(value) for value in store.pixels[:, 8, 8, 0]]


def test_save_to_disk_with_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    parts = {"train": dataset(40), "validation": dataset(8, 40), "test": dataset(8, 48), "extra": dataset(4, 56)}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "set"), num_shards={"train": 3, **dict.fromkeys(parts, 1)})
    samples = read(tmp_path / "set")
    assert samples.classes == ("zebra", "ape", "bear")  # the order of the label, not of the names
    assert samples.frame["label"].tolist() == [row % 2 for row in range(56)]
    assert samples.sensitive_features == ("sex", "age")
    assert samples.frame["sex"].tolist() == ["fm"[row // 2 % 2] for row in range(56)]
    assert samples.frame["age"].tolist() == ["unknown" if row % 5 == 0 else "30" for row in range(56)]
    assert Counter(samples.frame["split"]) == {"train": 40, "val": 8, "test": 8}
    assert samples.frame["sample_id"].is_unique
    assert [problem.first for problem in samples.problems] == [("extra",)]
    assert levels(samples, tmp_path / "store") == [level(row) for row in range(56)]


def test_one_data_set_without_splits(tmp_path: Path) -> None:
    dataset(40).select(range(39, -1, -1)).save_to_disk(str(tmp_path / "set"), num_proc=None)
    samples = read(tmp_path / "set")
    assert Counter(samples.frame["split"])["test"] == 8
    assert "split 70/10/20" in samples.notice
    assert levels(samples, tmp_path / "store") == [level(row) for row in range(39, -1, -1)]


def test_parquet_as_a_hub_has_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    dataset(200).to_parquet(str(tmp_path / "data" / "train-00000-of-00002.parquet"), batch_size=70)
    dataset(30, 200).to_parquet(str(tmp_path / "data" / "train-00001-of-00002.parquet"))
    dataset(10, 230).to_parquet(str(tmp_path / "data" / "test-00000-of-00001.parquet"))
    samples = read(tmp_path, label="sex", sensitive=["age"])
    assert samples.classes == ("f", "m")
    assert Counter(samples.frame["split"])["test"] == 10
    assert Counter(samples.frame["split"])["val"] == 23
    order = [*range(230, 240), *range(230)]  # files by name
    assert samples.frame["label"].tolist() == [row // 2 % 2 for row in order]
    assert levels(samples, tmp_path / "store") == [level(row) for row in order]
    some = samples.pictures.chunk(samples.frame["path"].iloc[[239, 10, 75, 74, 200, 0]].tolist())
    found = [np.asarray(Image.open(io.BytesIO(one.read_bytes())))[0, 0, 0] for one in some]
    assert found == [level(row) for row in (229, 0, 65, 64, 190, 230)]


def plain_parquet(path: Path, count: int = 40, **columns: list[Any]) -> Path:
    """As pandas or pyarrow alone write one: no word on types."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {"picture": [encoded(row) for row in range(count)], "kind": ["ab"[row % 2] for row in range(count)]}
    pq.write_table(pa.table(table | columns), path)
    return path.parent


def test_parquet_without_types(tmp_path: Path) -> None:
    split = ["train"] * 30 + ["test"] * 10
    samples = read(plain_parquet(tmp_path / "set" / "all.parquet", split=split), label="kind")
    assert (samples.classes, samples.image_column) == (("a", "b"), "picture")
    assert Counter(samples.frame["split"]) == {"train": 27, "val": 3, "test": 10}
    assert "val is 10 %" in samples.notice
    assert levels(samples, tmp_path / "store") == [level(row) for row in range(40)]


def test_preview_and_inspect_look_inside(tmp_path: Path) -> None:
    samples = read(plain_parquet(tmp_path / "set" / "all.parquet"), label="kind")
    assert inspect(samples).images == 40
    contact_sheet(samples, tmp_path / "sheet.png", per_group=5)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 300


def test_a_hidden_test_set_is_left_out(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    hidden = dataset(8).remove_columns("label").add_column("label", [-1] * 8).cast(dataset(1).features)
    datasets.DatasetDict({"train": dataset(40), "validation": dataset(8), "test": hidden}).save_to_disk(str(tmp_path))
    samples = read(tmp_path)
    assert Counter(samples.frame["split"])["test"] == 8
    assert not samples.frame["sample_id"].str.startswith("test").any()
    assert "test is the data's own val split" in samples.notice
    assert [problem.first for problem in samples.problems] == [("test",)]


def test_a_row_without_a_picture_is_a_problem_of_that_row(tmp_path: Path) -> None:
    pictures: list[Any] = [{"bytes": encoded(row), "path": None} for row in range(150)]
    pictures[7] = {"bytes": None, "path": "elsewhere.png"}
    folder = plain_parquet(tmp_path / "set" / "a.parquet", 150, picture=pictures)
    samples = read(folder, label="kind")
    (tmp_path / "store").mkdir()
    facts = write_store(samples.frame, samples.pictures, SMALL, tmp_path / "store")
    assert facts["unreadable_first"] == ["row-0000007"]
    assert "contains no image data" in (tmp_path / "store" / "problems.csv").read_text()


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (lambda root: None, {}, InputError, "no folder"),
        (lambda root: root.mkdir(), {}, InputError, "neither a data set of save_to_disk .* nor .parquet"),
        (lambda root: plain_parquet(root / "a.parquet"), {}, InputError, "add --label COLUMN with one of: kind"),
        (
            lambda root: plain_parquet(root / "a.parquet", more=[b"x"] * 40),
            {"label": "kind"},
            InputError,
            r"several columns of images \(picture, more\); choose one with --image-column",
        ),
        (
            lambda root: plain_parquet(root / "a.parquet", picture=["0.png"] * 40),
            {"label": "kind"},
            InputError,
            "no column with images inside .*use --data table",
        ),
        (
            lambda root: plain_parquet(root / "a.parquet"),
            {"label": "kind", "image": "pic"},
            InputError,
            "'pic' of images for --image-column: did you mean 'picture'",
        ),
        (
            lambda root: (root.mkdir(), (root / "a.parquet").write_bytes(b"PAR1")),
            {},
            DataError,
            "a.parquet cannot be read",
        ),
        (
            lambda root: (plain_parquet(root / "a.parquet"), plain_parquet(root / "b.parquet", kind=[1] * 40))[0],
            {"label": "size"},
            InputError,
            "no label column 'size'",
        ),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, make: Any, options: dict[str, str], error: type[FqbenchError], message: str
) -> None:
    make(tmp_path / "set")
    with pytest.raises(error, match=message):
        read(tmp_path / "set", **options)


def test_files_that_the_state_lists_and_are_gone(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-0.arrow"}], "_split": None}))
    with pytest.raises(DataError, match=r"data-0\.arrow is missing"):
        find_shards(tmp_path)
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(DataError, match=r"state\.json cannot be read"):
        find_shards(tmp_path)


READ_ALL = """
import re, sys
from pathlib import Path
from fqbench.data.hf import find_shards, read_hf

def own_memory():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

root = Path(sys.argv[1])
samples = read_hf(root, find_shards(root), label="kind")
paths, pictures = samples.frame["path"].tolist(), samples.pictures
before, largest, total = own_memory(), 0, 0
for start in range(0, len(paths), 64):
    total += sum(len(picture.read_bytes()) for picture in pictures.chunk(paths[start:start + 64]))
    largest = max(largest, own_memory())
print(total, (largest - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, ending: str) -> None:
    """400 MB in one row group or 10 batches: pages of the file may be mapped, but few pictures are held in memory."""
    size, count = 400_000, 1000
    rng = np.random.default_rng(0)
    kinds = ["ab"[row % 2] for row in range(count)]
    table = pa.table({"picture": [rng.bytes(size) for _ in range(count)], "kind": kinds})
    if ending == "parquet":
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=count, write_batch_size=20)
    else:
        with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=100)
        (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "a.arrow"}], "_split": None}))
    done = subprocess.run([sys.executable, "-c", READ_ALL, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    total, growth = done.stdout.split()
    assert int(total) == size * count
    assert float(growth) < 200, "MB"
