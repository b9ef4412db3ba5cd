"""Results are read back as they were written; files are whole or not there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fqbench.errors import DataError
from fqbench.fairness.evaluated import EvaluatedArtifact, Evaluation, Evaluations
from fqbench.fairness.results import ChangeReport, GroupReport
from fqbench.gate import GateReport
from fqbench.stages.replicate import Replication
from fqbench.storage import (
    Stored,
    file_digest,
    finite_or_none,
    read_arrays,
    size_in_words,
    whole_file,
    write_arrays,
    write_whole,
)

# By default a mapping may be drawn as a ChainMap or a Counter, which no result holds.
st.register_type_strategy(Mapping, lambda kind: st.dictionaries(*map(st.from_type, get_args(kind)), max_size=4))

RESULTS = (GroupReport, ChangeReport, EvaluatedArtifact, Evaluation, Replication, GateReport)


@pytest.mark.parametrize("kind", RESULTS, ids=lambda kind: kind.__name__)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(data=st.data())
def test_results_are_read_back_as_they_were_written(kind: type[Stored], data: st.DataObject) -> None:
    """Every field, NaN and infinity, empty and odd names among them; repr tells NaN from None, and equals itself."""
    value = data.draw(st.from_type(kind))
    read = kind.from_json(value.to_json())
    assert repr(read) == repr(value)
    assert read.to_json() == value.to_json()


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0.0 kB"), (768, "0.8 kB"), (50_331_648, "50.3 MB"), (2_345_678_901, "2.3 GB")]
)
def test_a_size_is_told_in_the_unit_that_suits_it(size: int, words: str) -> None:
    assert size_in_words(size) == words


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"views": 3}', '{"views": [], "more": 1}', "\x00"])
def test_what_is_not_such_a_value_is_a_data_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "fairness.json").write_text(text)
    with pytest.raises(DataError, match=r"fairness\.json does not hold a Evaluations .*run the same command again"):
        Evaluations.open(tmp_path / "fairness.json")


def test_damage_in_a_result_is_named_by_its_field() -> None:
    text = GateReport((), "fail").to_json().replace('"fail"', '"never"')
    with pytest.raises(DataError, match=r"does not hold a GateReport of this fqbench \(undecided: Input should be"):
        GateReport.from_json(text)


def test_arrays_of_objects_are_neither_written_nor_read(tmp_path: Path) -> None:
    """NumPy would pickle them, and reading a pickle may run anything."""
    objects, path = np.array([{"a": 1}], dtype=object), tmp_path / "objects.npz"
    with pytest.raises(ValueError, match=r"[Oo]bject arrays"):
        write_arrays(path, {"a": objects})
    assert not path.exists()
    np.savez(path, a=objects)
    with pytest.raises(ValueError, match=r"[Oo]bject arrays"):
        read_arrays(path)


def test_printed_json_of_a_result_is_a_mapping_of_its_fields() -> None:
    assert finite_or_none(GateReport((), "fail")) == {"checks": [], "undecided": "fail"}


def test_printed_json_has_no_nan() -> None:
    values = {"a": math.nan, "b": (math.inf, 1, np.float32(2.5), np.int64(3)), "c": [{"d": -math.inf}]}
    assert finite_or_none(values) == {"a": None, "b": [None, 1, 2.5, 3], "c": [{"d": None}]}


def test_a_file_is_whole_or_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "value"
    write_whole(path, "before")

    def interrupted() -> None:
        with whole_file(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_arrays_come_back_and_damage_is_a_value_error(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    arrays = {"a": np.arange(5, dtype=np.int16), "b": np.array([[math.nan, 1.0]])}
    write_arrays(path, arrays)
    first = file_digest(path)
    write_arrays(path, arrays)
    assert file_digest(path) == first, "the same arrays, the same bytes"
    for name, array in read_arrays(path).items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype == arrays[name].dtype
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="zip"):
        read_arrays(path)
