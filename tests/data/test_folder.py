import logging
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fqbench.data.folder import read_folder
from fqbench.data.samples import Samples
from fqbench.errors import DataError, FqbenchError, InputError


def write(root: Path, text: str | bytes, images: int = 6) -> Path:
    root.mkdir(exist_ok=True)
    for index in range(images):
        (root / f"{index}.png").touch()
    content = text.encode() if isinstance(text, str) else text
    (root / "metadata.csv").write_bytes(content)
    return root


def read(root: Path, label: str | None = None, sensitive: list[str] | None = None) -> Samples:
    return read_folder(root, label=label, sensitive=sensitive, seed=0)


TABLE = "file_name,label,sex\n0.png,cat,f\n1.png,dog,m\n2.png,cat,f\n3.png,dog,\n4.png,cat,m\n5.png,dog,f\n"


def test_a_plain_folder(tmp_path: Path) -> None:
    samples = read_folder(write(tmp_path, TABLE), label=None, sensitive=None, seed=0, notice="Note.", name="pets")
    assert (samples.name, samples.notice, samples.root) == ("pets", "Note.", tmp_path)
    assert samples.classes == ("cat", "dog")
    assert samples.sensitive_features == ("sex",)
    assert list(samples.frame.columns) == ["sample_id", "path", "split", "label", "sex"]
    assert samples.frame["sample_id"].tolist() == [f"{index}.png" for index in range(6)]
    assert samples.frame["label"].tolist() == [0, 1, 0, 1, 0, 1]
    assert samples.frame["label"].dtype == "int64"
    assert samples.frame["sex"].tolist() == ["f", "m", "f", "unknown", "m", "f"]


def test_bom_crlf_quotes_and_blanks(tmp_path: Path) -> None:
    text = '\ufefffile_name, label ,"where"\r\n"0.png",a,"Paris, France"\r\n1.png , b,""\r\n'
    samples = read(write(tmp_path, text.encode()))
    assert samples.sensitive_features == ("where",)
    assert samples.frame["where"].tolist() == ["Paris, France", "unknown"]
    assert samples.frame["path"].tolist() == ["0.png", "1.png"]


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["True", "False", "True"], ("False", "True")),
        (["b", "10", "9"], ("10", "9", "b")),
    ],
)
def test_the_order_of_classes(tmp_path: Path, values: list[str], classes: tuple[str, ...]) -> None:
    lines = [f"{index}.png,{value}" for index, value in enumerate(values)]
    samples = read(write(tmp_path, "file_name,label\n" + "\n".join(lines)))
    assert samples.classes == classes
    assert [samples.classes[code] for code in samples.frame["label"]] == values


def test_split_synonyms(tmp_path: Path) -> None:
    given_names = ["train", "Training", "validation", "VALID", "dev", "testing"]
    lines = [f"{index}.png,{index % 2},{name}" for index, name in enumerate(given_names)]
    samples = read(write(tmp_path, "file_name,label,split\n" + "\n".join(lines)))
    assert samples.frame["split"].tolist() == ["train", "train", "val", "val", "val", "test"]
    assert samples.sensitive_features == ()


def test_a_missing_split_is_drawn_by_group_and_label(tmp_path: Path) -> None:
    lines = [f"{index}.png,{index % 2},{'ab'[index % 3 == 0]}" for index in range(300)]
    root = write(tmp_path, "file_name,label,group\n" + "\n".join(lines), images=300)
    frame = read(root).frame
    counts = frame.groupby(["group", "label", "split"]).size().unstack()
    assert counts.loc[("a", 0), "test"] == pytest.approx(20, abs=1)
    assert counts.loc[("b", 1), "val"] == pytest.approx(5, abs=1)
    other = read_folder(root, label=None, sensitive=None, seed=1).frame
    assert frame["split"].tolist() == read(root).frame["split"].tolist() != other["split"].tolist()


def test_a_split_that_the_table_lacks_is_taken_from_the_others(tmp_path: Path) -> None:
    lines = [f"{index}.png,{index % 2},{('train', 'test')[index % 4 == 3]}" for index in range(80)]
    samples = read(write(tmp_path, "file_name,label,split\n" + "\n".join(lines), images=80))
    assert samples.frame["split"].value_counts().to_dict() == {"train": 54, "test": 20, "val": 6}
    assert samples.notice == "val is 10 % of the data's train split (seed 0)"


def test_paths_with_backslashes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("x.png", "y.png"):
        (tmp_path / "a" / name).touch()
    samples = read(write(tmp_path, "file_name,label\na\\x.png,0\na\\y.png,1\n"))
    assert samples.frame["path"].tolist() == ["a/x.png", "a/y.png"]


def test_columns_with_many_values_are_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [f"{index}.png,{index % 2},{index % 5},{index},p" for index in range(21)]
    root = write(tmp_path, "file_name,label,group,person,path\n" + "\n".join(lines), images=21)
    with caplog.at_level(logging.WARNING):
        assert read(root).sensitive_features == ("group",)
    assert "features unless you name them: person" in caplog.text
    assert read(root, sensitive=["person"]).sensitive_features == ("person",)


def test_subfolders_and_links(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.JPG").touch()
    (tmp_path / "a" / "y.webp").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    samples = read(write(tmp_path, "file_name,label\na/b/x.JPG,0\n./a/y.webp,1\nlink/y.webp,1\n"))
    assert samples.frame["sample_id"].tolist() == ["a/b/x.JPG", "a/y.webp", "link/y.webp"]


def test_one_look_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Path] = []
    scandir = os.scandir

    def counted(path: Path) -> object:
        looks.append(path)
        return scandir(path)

    monkeypatch.setattr("fqbench.data.listing.os.scandir", counted)
    read(write(tmp_path, TABLE))
    assert looks == [tmp_path]


@pytest.mark.parametrize(
    ("text", "columns", "error", "message"),
    [
        ("", (None, None), InputError, "lists no images; add a header line"),
        ("file_name,label\n", (None, None), InputError, "lists no images; add a header line"),
        ("filename,label\n0.png,a\n", (None, None), InputError, "no column 'file_name'.*did you mean 'filename'?"),
        (
            "file_name,smile,sex\n0.png,1,f\n",
            (None, None),
            InputError,
            "no column 'label'; add --label COLUMN with one of: smile, sex",
        ),
        (TABLE, ("labl", None), InputError, "no label column 'labl': did you mean 'label'?"),
        (TABLE, ("split", None), InputError, "no label column 'split'"),
        (TABLE, ("label", ["sexx"]), InputError, "no sensitive column 'sexx': did you mean 'sex'?"),
        (TABLE, ("label", ["label"]), InputError, "no sensitive column 'label'"),
        ("file_name,label\n0.png,a\n", ("label", ["sex"]), InputError, "no sensitive column 'sex': add that column"),
        (
            "file_name,label\n0.png,a\n1.png,b\n0.png,b\n./1.png,a\n",
            (None, None),
            InputError,
            r"lists 2 file\(s\) more than once \(0.png, 1.png\); keep one row per image",
        ),
        (
            "file_name,label\n/etc/x.png,a\n",
            (None, None),
            InputError,
            "row 1: file_name '/etc/x.png' is an absolute path",
        ),
        ("file_name,label\nC:\\x.png,a\n", (None, None), InputError, "is an absolute path; give it relative"),
        (
            "file_name,label\n0.png,a\na/../../x.png,a\n",
            (None, None),
            InputError,
            r"row 2: .*leaves the folder with '\.\.'",
        ),
        ("file_name,label\n,a\n", (None, None), InputError, "row 1: file_name is empty"),
        (
            "file_name,label\n0.gif,a\n",
            (None, None),
            InputError,
            "'0.gif' is not a supported image type .*; convert it",
        ),
        (
            "file_name,label\n0.png,a\n7.png,b\n8.png,b\nd/9.png,b\n10.png,b\n",
            (None, None),
            DataError,
            r"4 of 5 images in metadata.csv are not under .* \(7.png, 8.png, d/9.png, \.\.\.\); copy them there",
        ),
        (
            "file_name,label\n0.png,a\n1.png,\n2.png,nan\n",
            (None, None),
            DataError,
            r"2 of 3 images have no 'label' \(1.png, 2.png\); fill in the label",
        ),
        ("file_name,label\n0.png,a\n1.png,a\n", (None, None), DataError, "all 2 images have 'label' = 'a'; add images"),
        (
            "file_name,label,split\n0.png,a,train\n1.png,b,holdout\n",
            (None, None),
            InputError,
            r"1 row\(s\) have an unknown split, first 'holdout' for 1.png; use train, val, test",
        ),
        ("file_name,label\n0.png,a,b,c\n1.png,a,b,c\n", (None, None), DataError, "is not a table in CSV and UTF-8"),
        ('file_name,label\n"0.png,a\n', (None, None), DataError, "is not a table in CSV and UTF-8"),
        (b"file_name,label\n\xff\xfe.png,a\n", (None, None), DataError, "is not a table in CSV and UTF-8"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path,
    text: str | bytes,
    columns: tuple[str | None, list[str] | None],
    error: type[FqbenchError],
    message: str,
) -> None:
    with pytest.raises(error, match=message) as caught:
        read(write(tmp_path, text), *columns)
    assert type(caught.value) is error
    assert re.search(r"[.?]$", str(caught.value))


def test_no_folder_and_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"folder: there is no folder .*nowhere; give the folder that holds metadata"):
        read(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"has no metadata.csv; write one with the columns file_name, label"):
        read(tmp_path)


cells = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="×"), min_size=1, max_size=6
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(cells, cells), min_size=6, max_size=6))
def test_any_text_survives(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    for column in zip(*rows, strict=True):
        assume(len({text.casefold() for text in column}) == len(set(column)))  # others are refused as lookalikes
    lines = [f"{index}.png,{quoted('x' + label)},{quoted('y' + group)}" for index, (label, group) in enumerate(rows)]
    root = write(tmp_path, "file_name,label,group\n" + "\n".join(lines))
    if len({label for label, _ in rows}) < 2:
        with pytest.raises(DataError, match="add images of a second class"):
            read(root)
        return
    samples = read(root)
    assert [samples.classes[code] for code in samples.frame["label"]] == ["x" + label for label, _ in rows]
    assert samples.frame["group"].tolist() == ["y" + group for _, group in rows]
