"""TensorRT's calibration cache as text."""

from __future__ import annotations

import numpy as np
import pytest
from fqbench.backends.trt.cache import read_cache, retarget, write_cache
from fqbench.backends.trt.versions import Version
from hypothesis import given
from hypothesis import strategies as st

from fqbench.errors import DataError

names = st.text(st.characters(blacklist_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=30)
scales = st.floats(min_value=float(np.finfo(np.float32).tiny), max_value=float(np.float32(1e30)), width=32)


def test_the_format_is_tensorrts() -> None:
    text = write_cache({"x": 2.0083642, "/conv1/Conv_output_0": 1.0}, version=Version(8, 5, 10))
    assert text == "TRT-8510-EntropyCalibration2\nx: 4000890a\n/conv1/Conv_output_0: 3f800000\n"


def test_a_real_cache_is_read() -> None:
    """First line and entries as TensorRT 8.5 wrote them, seen in public logs."""
    real = "TRT-8510-EntropyCalibration2\nx: 4000890a\n(Unnamed Layer* 8) [Constant]_output: 3f6fc9d8\n"
    assert read_cache(real) == {
        "x": np.float32(2.0083642),
        "(Unnamed Layer* 8) [Constant]_output": np.float32(0.93667364),
    }


@given(st.dictionaries(names.map(str.strip).filter(bool), scales, max_size=8))
def test_what_is_written_is_read(values: dict[str, float]) -> None:
    assert read_cache(write_cache(values)) == {name: np.float32(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("version", "number"), [(Version(10, 16, 1), 101601), (Version(10, 0, 0), 100000), (Version(11, 1, 0), 110100)]
)
def test_retarget_changes_the_first_line_alone(version: Version, number: int) -> None:
    text = write_cache({"a": 0.5, "b: c": 0.25})
    changed = retarget(text, version)
    assert changed.splitlines()[0] == f"TRT-{number}-EntropyCalibration2"
    assert changed.splitlines()[1:] == text.splitlines()[1:]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 1e-60])
def test_a_scale_that_is_none(value: float) -> None:
    with pytest.raises(DataError, match="which a cache cannot store"):
        write_cache({"a": value})


def test_a_name_that_does_not_fit() -> None:
    with pytest.raises(DataError, match="does not fit into a calibration cache"):
        write_cache({"a\nb": 1.0})


@pytest.mark.parametrize("text", ["", "hello\n", "TRT-8510-EntropyCalibration2\nx 4000890a\n", "TRT-1-E\nx: zz\n"])
def test_a_damaged_cache(text: str) -> None:
    with pytest.raises(DataError, match=r"not a calibration cache|damaged at"):
        read_cache(text)
