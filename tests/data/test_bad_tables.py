"""A user's table with mistakes that would pass in silence: read right, or refused with the column and the value."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fqbench.data.folder import read_folder
from fqbench.data.labels import as_number, ordered
from fqbench.data.samples import Samples
from fqbench.data.table import read_table
from fqbench.errors import DataError, FqbenchError, InputError


def tree(root: Path, header: str, rows: list[str], *, encoding: str = "utf-8") -> Path:
    """Write ``metadata.csv`` and an image for each row."""
    for index in range(len(rows)):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(root / f"{index}.png")
    lines = [f"{index}.png,{row}" for index, row in enumerate(rows)]
    (root / "metadata.csv").write_text("\n".join([header, *lines]) + "\n", encoding=encoding)
    return root


def read(root: Path, **options: object) -> Samples:
    asked = {"label": None, "sensitive": None, "seed": 0} | options
    return read_folder(root, **asked)  # type: ignore[arg-type]


ALTERNATING = [f"{'ab'[index % 2]},{'xy'[index // 2 % 2]}" for index in range(12)]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([f"{index / 7:.4f}" for index in range(60)], r"'label' holds 60 different numbers in 60 rows, which are"),
        (
            [f"{index % 30 + 0.5}" for index in range(90)],
            r"holds 30 different numbers in 90 rows.*--label-threshold 15",
        ),
        ([f"{index * 3}" for index in range(40)], r"holds 40 different numbers in 40 rows.*--label-threshold 58.5"),
        ([f"person {index}" for index in range(40)], r"holds 40 different values in 40 rows, so nearly every image"),
        (["0.25", "0.5", "0.75", "1.5"], r"holds 4 different numbers in 4 rows.*--label-threshold 0.625"),
    ],
)
def test_measurements_are_no_classes(tmp_path: Path, labels: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tree(tmp_path, "file_name,label", labels))


def test_a_threshold_makes_two_classes_of_them(tmp_path: Path) -> None:
    root = tree(tmp_path, "file_name,score", ["0.1", "0.5", "0.49999", "1e1", "-3", "7"] * 2)
    samples = read(root, label="score", threshold=0.5)
    assert samples.classes == ("below 0.5", "at least 0.5")
    assert samples.frame["label"].tolist() == [0, 1, 0, 1, 0, 1] * 2


@pytest.mark.parametrize(
    ("labels", "threshold", "error", "message"),
    [
        (["1", "2", "many"], 1.5, InputError, "'label' is 'many' for 2.png, not a number; --label-threshold divides"),
        (["1", "2", "inf"], 1.5, InputError, "'label' is 'inf' for 2.png, not a number"),
        (
            ["1", "2", "4"],
            9.0,
            InputError,
            "'label' is below 9 for all 3 images; give a .* between 1 and 4",
        ),
        (["1", "", "NaN"], 1.0, DataError, "2 of 3 images have no 'label'"),
    ],
)
def test_a_threshold_that_divides_nothing(
    tmp_path: Path, labels: list[str], threshold: float, error: type[FqbenchError], message: str
) -> None:
    with pytest.raises(error, match=message):
        read(tree(tmp_path, "file_name,label", labels), threshold=threshold)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["0", "1"] * 6, ("0", "1")),
        (["0.0", "1.0"] * 6, ("0.0", "1.0")),
        (["10", "9", "-1"] * 4, ("-1", "9", "10")),
        (["0.5", "10.5", "9.5"] * 4, ("0.5", "9.5", "10.5")),
        ([str(index % 25) for index in range(100)], tuple(str(index) for index in range(25))),
        (["yes", "  no "] * 6, ("no", "yes")),
    ],
)
def test_numbers_that_are_classes_stay_classes(tmp_path: Path, labels: list[str], classes: tuple[str, ...]) -> None:
    assert read(tree(tmp_path, "file_name,label", labels)).classes == classes


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (
            "file_name,label",
            ["Yes", "yes", "no"] * 4,
            "column 'label' has both 'Yes' and 'yes',",
        ),
        ("file_name,label", ["1", "1.0", "0"] * 4, "column 'label' has both '1' and '1.0'"),
        ("file_name,label", ["very  good", "very good", "bad"] * 4, "'very  good' and 'very good'"),
        ("file_name,label,sex", ["a,Male", "b,male", "a,F", "b,F"] * 3, "column 'sex' has both 'Male' and 'male'"),
        ("file_name,label,tone", ["a,light×old", "b,dark"] * 6, "'light×old' in column 'tone' contains '×'"),
        ("file_name,label,label", ["a,b", "b,a"] * 6, "has two columns 'label'; rename one of them"),
        ("file_name,label, label", ["a,b", "b,a"] * 6, "has two columns 'label'; rename one of them"),
        ("file_name,label,,", ["a,b,c", "b,a,c"] * 6, "has two columns ''; rename one of them"),
        ("file_name;label", ["a", "b"], "columns separated by semicolons"),
    ],
)
def test_values_and_columns_that_are_meant_to_be_one(
    tmp_path: Path, header: str, rows: list[str], message: str
) -> None:
    with pytest.raises(FqbenchError, match=message):
        read(tree(tmp_path, header, rows))


@pytest.mark.parametrize(("separator", "plural"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_separators_are_named(tmp_path: Path, separator: str, plural: str) -> None:
    tree(tmp_path, "file_name,label", ["a", "b"])
    path = tmp_path / "metadata.csv"
    path.write_text(path.read_text().replace(",", separator))
    with pytest.raises(InputError, match=f"columns separated by {plural}; save it with commas"):
        read(tmp_path)


def test_semicolons_are_named_where_commas_are_decimal(tmp_path: Path) -> None:
    tree(tmp_path, "file_name;score", [])
    (tmp_path / "metadata.csv").write_text("file_name;score\n0.png;0,5\n1.png;0,25\n")
    with pytest.raises(InputError, match="columns separated by semicolons; save it with commas"):
        read(tmp_path)


def test_a_copy_of_the_label_is_no_group(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [f"{index % 2},{('no', 'yes')[index % 2]},{'xy'[index // 2 % 2]}" for index in range(24)]
    root = tree(tmp_path, "file_name,label,label_text,tone", rows)
    assert read(root).sensitive_features == ("tone",)
    assert "columns that only repeat the label are not used" in caplog.text
    assert "label_text." in caplog.text
    assert read(root, sensitive=["label_text"]).sensitive_features == ("label_text",)
    assert read_table(root / "metadata.csv", root).sensitive_features == ("tone",)


def test_a_column_without_a_name_is_no_group(tmp_path: Path) -> None:
    assert read(tree(tmp_path, "file_name,label,tone,", [f"{row}," for row in ALTERNATING])).sensitive_features == (
        "tone",
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path, encoding: str) -> None:
    assert read(tree(tmp_path, "file_name,label,tone", ALTERNATING, encoding=encoding)).classes == ("a", "b")


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_other_encodings_are_refused(tmp_path: Path, encoding: str) -> None:
    rows = ["jä,x", "nein,y"] * 6
    with pytest.raises(DataError, match="not a table in CSV and UTF-8"):
        read(tree(tmp_path, "file_name,label,tone", rows, encoding=encoding))


@pytest.mark.parametrize("value", ["", "nan", "NaN", "NULL", "#N/A", "<NA>"])
def test_missing_values(tmp_path: Path, value: str) -> None:
    root = tree(tmp_path, "file_name,label,tone", [*ALTERNATING, f"a,{value}"])
    assert read(root).frame["tone"].tolist()[-1] == "unknown"
    with pytest.raises(DataError, match=r"1 of 13 images have no 'label' \(12.png\); fill in the label"):
        read(tree(root, "file_name,label,tone", [*ALTERNATING, f"{value},x"]))


def test_links_and_folders_in_place_of_images(tmp_path: Path) -> None:
    root = tree(tmp_path, "file_name,label", ["a", "b"] * 3)
    (root / "0.png").unlink()
    (root / "0.png").symlink_to(root / "1.png")
    assert len(read(root).frame) == 6
    (root / "1.png").unlink()
    (root / "1.png").mkdir()
    with pytest.raises(DataError, match=r"2 of 6 images in metadata.csv are not under .* \(0.png, 1.png\)"):
        read(root)


def test_a_table_anywhere_takes_the_threshold_too(tmp_path: Path) -> None:
    tree(tmp_path, "file_name,age", ["3", "40", "17", "18"] * 3)
    samples = read_table(tmp_path / "metadata.csv", tmp_path, label="age", threshold=18)
    assert samples.classes == ("below 18", "at least 18")
    assert samples.frame["label"].tolist() == [0, 1, 0, 1] * 3


@given(st.lists(st.floats(-1e6, 1e6).map(str) | st.text(max_size=3), min_size=1, unique=True))
def test_classes_are_in_the_order_of_numbers_or_of_names(values: list[str]) -> None:
    names = ordered(values)
    assert sorted(names) == sorted(values)
    numbers = [as_number(name) for name in names]
    if None not in numbers:
        assert numbers == sorted(numbers)  # type: ignore[type-var]
    else:
        assert list(names) == sorted(values)
