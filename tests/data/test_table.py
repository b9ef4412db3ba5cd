import datetime
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fqbench.data.finding import Finder, find_pictures
from fqbench.data.table import read_table
from fqbench.errors import DataError, FqbenchError, InputError


def images(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def table(path: Path, /, **columns: list[object]) -> Path:
    frame = pd.DataFrame(columns)
    frame.to_parquet(path, index=False) if path.suffix == ".parquet" else frame.to_csv(
        path, index=False, sep="\t" if path.suffix == ".tsv" else ","
    )
    return path


@pytest.mark.parametrize("name", ["labels.csv", "labels.tsv", "labels.parquet"])
def test_a_table_elsewhere(tmp_path: Path, name: str) -> None:
    root = images(tmp_path / "images", *(f"{index}.jpg" for index in range(6)))
    path = table(
        tmp_path / name,
        file_name=[f"{index}.jpg" for index in range(6)],
        smiling=[1, 0, 1, 0, 1, 0],
        age=[31.0, None, 31.0, 4.0, 4.0, 4.0],
        sex=["f", "m", None, "m", "f", "m"],
        split=["train", "train", "train", "valid", "test", "test"],
    )
    samples = read_table(path, root, label="smiling")
    assert samples.classes == ("0", "1")
    assert samples.frame["label"].tolist() == [1, 0, 1, 0, 1, 0]
    assert samples.sensitive_features == ("age", "sex")
    assert samples.frame["sex"].tolist() == ["f", "m", "unknown", "m", "f", "m"]
    if name.endswith(".parquet"):  # written as floats, since one is missing
        assert samples.frame["age"].tolist() == ["31", "unknown", "31", "4", "4", "4"]
    assert samples.frame["split"].tolist() == ["train", "train", "train", "val", "test", "test"]
    assert samples.root == root


def test_parquet_keeps_what_is_plain(tmp_path: Path) -> None:
    root = images(tmp_path, "0.png", "1.png", "2.png")
    frame = pd.DataFrame(
        {
            "file_name": ["0.png", "1.png", "2.png"],
            "label": [True, False, True],
            "day": [datetime.date(2020, 1, 1)] * 3,
            "kind": pd.Categorical(["a", "b", "a"]),
            "box": [[1, 2], [3], []],
            "raw": [b"1", b"2", b"3"],
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    samples = read_table(tmp_path / "t.parquet", root)
    assert samples.classes == ("False", "True")
    assert samples.sensitive_features == ("day", "kind")


@pytest.mark.parametrize(
    "given_names",
    [
        ["a/0.jpg", "a/1.jpg", "b/2.png"],
        ["a/0", "a/1", "b/2"],
        ["0.jpg", "1.jpg", "2.png"],
        ["0", "1", "2"],
        ["a\\0.jpg", "a\\1.jpg", "b\\2.png"],
        ["./a/0.jpg", "a//1.jpg", "b/2.png"],
        ["photos/a/0.jpg", "photos/a/1", "photos/b/2.png"],
        ["{root}/a/0.jpg", "{root}/a/1.jpg", "{root}/b/2.png"],
    ],
)
def test_ways_to_name_a_picture(tmp_path: Path, given_names: list[str]) -> None:
    root = images(tmp_path / "photos", "a/0.jpg", "a/1.jpg", "b/2.png", "b/notes.txt")
    given_names = [name.replace("{root}", str(root)) for name in given_names]
    assert find_pictures(given_names, root, "t.csv") == ["a/0.jpg", "a/1.jpg", "b/2.png"]


def test_an_exact_path_wins_over_a_name(tmp_path: Path) -> None:
    root = images(tmp_path, "0.jpg", "a/0.jpg", "1.jpg.png", "1.jpg")
    assert find_pictures(["0.jpg", "a/0", "1.jpg"], root, "t.csv") == ["0.jpg", "a/0.jpg", "1.jpg"]


@given(st.lists(st.from_regex(r"[a-c]{1,2}(/[a-c]{1,2})?\.(jpg|png)", fullmatch=True), unique=True, min_size=1))
def test_every_full_path_is_found(names: list[str]) -> None:
    finder = Finder(names)
    assert all(finder.candidates(name) == [name] for name in names)
    for name in names:
        stem = name.rsplit(".", 1)[0]
        assert set(finder.candidates(stem)) >= {other for other in names if other.rsplit(".", 1)[0] == stem} - {stem}


@pytest.mark.parametrize(
    ("columns", "options", "error", "message"),
    [
        ({"file_name": ["0.jpg", "9.jpg"], "label": [0, 1]}, {}, DataError, r"1 of 2 images .* \(9.jpg\).*--images"),
        ({"file_name": ["0", "0.jpg"], "label": [0, 1]}, {}, InputError, "more than once"),
        ({"file_name": ["2", "0.jpg"], "label": [0, 1]}, {}, DataError, r"'2' fits 2 images"),
        ({"file_name": ["../x.jpg", "0.jpg"], "label": [0, 1]}, {}, InputError, r"leaves the folder"),
        ({"file_name": ["/x/0.jpg", "0.jpg"], "label": [0, 1]}, {}, InputError, r"is not inside .*--images"),
        ({"file_name": ["", "0.jpg"], "label": [0, 1]}, {}, InputError, "row 1: the image's path is empty"),
        ({"name": ["0", "1"], "label": [0, 1]}, {}, InputError, "names no images; add --image-column COLUMN.*name, l"),
        ({"path": ["0"], "image": ["0"], "label": [0]}, {}, InputError, r"several columns .*path, image"),
        ({"file_name": ["0", "1"], "label": [0, 1]}, {"image": "file"}, InputError, "--image-column: did you mean"),
        ({"file_name": ["0", "1"], "label": [0, 1]}, {"split": "fold"}, InputError, "'fold' for --split-column"),
        ({"file_name": ["0", "1"], "smile": [0, 1]}, {}, InputError, "add --label COLUMN with one of: smile"),
        ({"file_name": ["0", "1"], "label": [0, None]}, {}, DataError, "1 of 2 images have no 'label'"),
        ({"file_name": ["0", "1"], "label": [1, 1]}, {}, DataError, "all 2 images have 'label'"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, columns: dict[str, list[object]], options: dict[str, str], error: type[FqbenchError], message: str
) -> None:
    root = images(tmp_path / "images", "0.jpg", "1.jpg", "2.jpg", "2.png")
    with pytest.raises(error, match=message):
        read_table(table(tmp_path / "t.csv", **columns), root, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("missing.csv", None, InputError, "no table .*check --table"),
        ("t.xlsx", b"PK", InputError, "give --table a .csv, .tsv or .parquet"),
        ("t.csv", b"file_name,label\n", InputError, "has no rows"),
        ("t.csv", b"", InputError, "has no rows"),
        ("t.csv", b"file_name,label\n0.jpg,1,2,3\n", DataError, "not a table in CSV and UTF-8"),
        ("t.csv", "file_name,label\n0.jpg,\u00e4\n".encode("latin-1"), DataError, "not a table in CSV and UTF-8"),
        ("t.csv", b"file_name,label,label\n0.jpg,1,2\n", InputError, "two columns 'label'"),
        ("t.parquet", b"PAR1 and nothing", DataError, "not a Parquet file"),
    ],
)
def test_damaged_tables(
    tmp_path: Path, name: str, content: bytes | None, error: type[FqbenchError], message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        read_table(tmp_path / name, tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", file_name=["0.jpg"], label=[1])
    with pytest.raises(InputError, match=r"no folder .*--images DIR"):
        read_table(path, tmp_path / "nowhere")
