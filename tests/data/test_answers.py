"""Predictions that other programs made: every usual way to write them is read right, or refused with the reason."""

from __future__ import annotations

import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from fqbench.data.answers import read_answers
from fqbench.errors import DataError, FqbenchError, InputError

IDS = [f"images/{index}.jpg" for index in range(4)]


def text(folder: Path, values: list[str], *, header: str = "sample_id,prediction", name: str = "t.csv") -> Path:
    lines = [header, *(f"{one},{value}" for one, value in zip(IDS, values, strict=True))]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


def written(folder: Path, **columns: Any) -> Path:
    parquet.write_table(pa.table({"sample_id": IDS, **columns}), folder / "t.parquet")
    return folder / "t.parquet"


@pytest.mark.parametrize(
    ("values", "classes", "expected"),
    [
        (["no", "yes", "no", "yes"], ("no", "yes"), [0, 1, 0, 1]),
        (["0", "1", "0", "1"], ("no", "yes"), [0, 1, 0, 1]),
        (["0.0", "1.0", "0.0", "1.0"], ("no", "yes"), [0, 1, 0, 1]),
        # Words that pandas takes for missing values.
        (["None", "NA", "None", "NA"], ("NA", "None"), [1, 0, 1, 0]),
        # Classes that are numbers: 1 is the class called 1, not the second one.
        (["1", "2", "1", "2"], ("1", "2"), [0, 1, 0, 1]),
        (["3", "1", "2", "1"], ("1", "2", "3"), [2, 0, 1, 0]),
        (["0", "1", "2", "1"], ("1", "2", "3"), [0, 1, 2, 1]),
        ([" yes", "no ", '"yes"', "no"], ("no", "yes"), [1, 0, 1, 0]),
    ],
)
def test_names_and_indices(tmp_path: Path, values: list[str], classes: tuple[str, ...], expected: list[int]) -> None:
    assert read_answers(text(tmp_path, values)).classes_of(classes).tolist() == expected


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["no", "yes", "no", "yes"]).dictionary_encode(),
        pa.array(["no", "yes", "no", "yes"], pa.large_string()),
        pa.array([0, 1, 0, 1], pa.uint8()),
        pa.array([0.0, 1.0, 0.0, 1.0]),
        pa.array([decimal.Decimal("0.00"), decimal.Decimal("1.00")] * 2),
    ],
    ids=lambda column: str(column.type)[:12],
)
def test_types_of_parquet(tmp_path: Path, column: pa.Array) -> None:
    assert read_answers(written(tmp_path, prediction=column)).classes_of(("no", "yes")).tolist() == [0, 1, 0, 1]


def test_another_order_tabs_and_a_capital_ending(tmp_path: Path) -> None:
    found = read_answers(written(tmp_path, prediction=["a", "b", "a", "b"]))
    assert found.rows_of([IDS[3], IDS[0], *IDS[1:3]]).tolist() == [3, 0, 1, 2]
    (tmp_path / "t.parquet").rename(tmp_path / "T.PARQUET")
    assert read_answers(tmp_path / "T.PARQUET").ids == IDS
    path = text(tmp_path, ["a", "b", "a", "b"])
    (tmp_path / "t.tsv").write_text("\ufeff" + path.read_text().replace(",", "\t").replace("\n", "\r\n"))
    assert read_answers(tmp_path / "t.tsv").classes_of(("a", "b")).tolist() == [0, 1, 0, 1]


def test_logits_as_lists_and_as_text(tmp_path: Path) -> None:
    rows = [[0.5, -1.0], [2.0, 3.0], [0.0, 0.0], [-4.0, 1e3]]
    for kind in (pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 2)):
        found = read_answers(written(tmp_path, logits=pa.array(rows, kind)))
        assert found.logits is not None
        assert found.logits.tolist() == rows
    quoted = read_answers(text(tmp_path, [f'"{row}"' for row in rows], header="sample_id,logits"))
    assert quoted.logits is not None
    assert quoted.logits.tolist() == rows


@pytest.mark.parametrize("whole", [1, 100])
def test_probabilities_in_place_of_logits_are_turned_into_logits(tmp_path: Path, whole: int) -> None:
    rows = np.array([[0.9, 0.1], [0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])
    found = read_answers(written(tmp_path, logits=(whole * rows).tolist())).logits
    assert found is not None
    weights = np.exp(found.astype(np.float64))
    assert np.allclose(weights / weights.sum(axis=1, keepdims=True), rows, atol=1e-6)


def test_probabilities_of_attributes_are_turned_into_logits(tmp_path: Path) -> None:
    rows = [[0.9, 0.1, 0.5, 0.0], [0.2, 0.75, 0.4, 1.0]] * 2
    found = read_answers(written(tmp_path, logits=rows), "smiling").logits
    assert found is not None
    assert ((found > 0) == (np.array(rows) > 0.5)).all()
    assert np.allclose(1 / (1 + np.exp(-found.astype(np.float64))), rows, atol=1e-6)
    few = read_answers(written(tmp_path, logits=[row[:3] for row in rows]), "smiling").logits
    assert few is not None
    assert np.allclose(few, [row[:3] for row in rows])


def test_rows_that_do_not_sum_to_one_stay_as_they_are(tmp_path: Path) -> None:
    rows = [[0.9, 0.1], [0.25, 0.75], [1.0, 0.5], [0.5, 0.5]]
    found = read_answers(written(tmp_path, logits=rows)).logits
    assert found is not None
    assert np.allclose(found, rows)


@pytest.mark.parametrize(
    ("values", "header", "error", "message"),
    [
        (["a", "", "a", "b"], "sample_id,prediction", DataError, r"no prediction for 1 image\(s\) \(images/1.jpg\)"),
        (["a", "c", "a", "b"], "sample_id,prediction", DataError, "predicts 'c', which is not a class: "),
        (["0", "2", "1", "0"], "sample_id,prediction", DataError, "predicts '2', which is not a class"),
        (["0", "0.5", "1", "0"], "sample_id,prediction", DataError, "predicts '0.5', which is not a class"),
        (["0", "nan", "1", "0"], "sample_id,prediction", DataError, "predicts 'nan', which is not a class"),
        (["0", "-1", "1", "0"], "sample_id,prediction", DataError, "predicts '-1', which is not a class"),
        (["0", '"1,000"', "1", "0"], "sample_id,prediction", DataError, "predicts '1,000', which is not a class"),
        (["a"] * 4, "id,prediction", InputError, "needs the columns sample_id and prediction .*has: id, prediction"),
        (["a"] * 4, "sample_id;prediction", FqbenchError, r"not a table in CSV|separated by semicolons"),
        (["a"] * 4, "sample_id,sample_id", InputError, "has two columns 'sample_id'"),
        (['"[1, NaN]"'] * 4, "sample_id,logits", DataError, "no list of finite logits for images/0.jpg"),
        (['"[1, 1e400]"'] * 4, "sample_id,logits", DataError, "no list of finite logits for images/0.jpg"),
        (['"[0.5 0.5]"'] * 4, "sample_id,logits", DataError, r"write one number per output, as in \[0.5, 2\]"),
        (["0.5"] * 4, "sample_id,logits", DataError, "no list of finite logits for images/0.jpg"),
        (
            ['"[1, 2]"', '"[1, 2, 3]"', '"[1, 2]"', '"[1, 2]"'], "sample_id,logits", DataError,
            "has 2 logits for images/0.jpg, but another number of them for images/1.jpg",
        ),
        (
            ["none", '"[1, 2]"', '"[1, 2, 3]"', '"[]"'], "sample_id,logits", DataError,
            "has 2 logits for images/1.jpg, but another number of them for images/2.jpg",
        ),
        (['"[]"'] * 4, "sample_id,logits", DataError, "no list of finite logits for images/0.jpg"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(
    tmp_path: Path, values: list[str], header: str, error: type[FqbenchError], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_answers(text(tmp_path, values, header=header)).classes_of(("a", "b"))


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"prediction": [["a"]] * 4}, InputError, "column prediction has the type list"),
        ({"prediction": [b"a"] * 4}, InputError, "column prediction has the type binary"),
        ({"prediction": ["a", None, "b", "a"]}, DataError, r"no prediction for 1 image\(s\) \(images/1.jpg\)"),
        ({"logits": [[1.0, 2.0], None, [1.0, 2.0], [1.0, 2.0]]}, DataError, "no list of finite logits for images/1"),
        ({"logits": [[1.0, None]] * 4}, DataError, "no list of finite logits for images/0"),
        ({"score": [1.0] * 4}, InputError, r"needs the columns sample_id and prediction .*has: sample_id, score"),
    ],
)
def test_what_is_wrong_in_parquet_is_said(
    tmp_path: Path, columns: dict[str, Any], error: type[FqbenchError], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_answers(written(tmp_path, **columns)).classes_of(("a", "b"))


def test_ids_that_are_numbers_or_missing(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"sample_id": [1, 2, 3], "prediction": ["a", "b", "a"]}), tmp_path / "n.parquet")
    with pytest.raises(DataError, match=r"lacks 4 image\(s\), images/0.jpg, "):
        read_answers(tmp_path / "n.parquet").rows_of(IDS)
    parquet.write_table(pa.table({"sample_id": ["1", None], "prediction": ["a", "b"]}), tmp_path / "n.parquet")
    with pytest.raises(DataError, match=r"has 1 row\(s\) without a sample_id"):
        read_answers(tmp_path / "n.parquet")


def test_images_under_other_names_are_shown_next_to_those_of_the_split(tmp_path: Path) -> None:
    found = read_answers(text(tmp_path, ["a", "b", "a", "b"]))
    with pytest.raises(
        DataError,
        match=r"lacks 4 image\(s\), 0.jpg, .* names 4 that are not in this split, images/0.jpg, .*list samples",
    ):
        found.rows_of([name.removeprefix("images/") for name in IDS])


def test_rows_more_or_twice(tmp_path: Path) -> None:
    found = read_answers(text(tmp_path, ["a", "b", "a", "b"]))
    with pytest.raises(DataError, match=r"holds images that are not in this split: 1 image\(s\), images/3.jpg"):
        found.rows_of(IDS[:3])
    path = tmp_path / "t.csv"
    path.write_text(path.read_text() + f"{IDS[0]},b\n")
    with pytest.raises(DataError, match=r"has two predictions for images/0\.jpg"):
        read_answers(path)


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_what_is_no_table(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe\x00")
    with pytest.raises(DataError, match=r"is not (Parquet|a table in CSV)"):
        read_answers(tmp_path / name)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(FqbenchError, match=r"is not Parquet|needs the columns sample_id and prediction .*has: none"):
        read_answers(tmp_path / name)


@pytest.mark.parametrize("name", ["p.csv.gz", "p.jsonl", "p.xlsx"])
def test_other_formats_are_refused_with_those_that_are_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(InputError, match=r"not a supported table; give --predictions a .csv, .tsv or .parquet file"):
        read_answers(tmp_path / name)
