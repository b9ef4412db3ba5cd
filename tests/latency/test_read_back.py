"""A measurement is read back as it was written, whatever it holds."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fqbench.contracts.runtime import Arithmetic, Level
from fqbench.errors import DataError
from fqbench.latency.conditions import Conditions
from fqbench.latency.interval import Interval
from fqbench.latency.modes import ColdStart, Energy, MlperfResult, Throughput
from fqbench.latency.results import (
    AnswerCheck,
    LatencyReport,
    PeakMemory,
    SubjectFacts,
    SubjectLatency,
    TimedCall,
)
from fqbench.latency.steadiness import Doubt, Mark
from fqbench.machine import Machine

numbers = st.floats(0, 1e9) | st.just(math.inf)
counts = st.integers(0, 2**40)
texts = st.text(max_size=8)
intervals = st.builds(Interval, numbers, numbers, numbers)
marks = st.lists(st.builds(Mark, st.sampled_from(Doubt), texts, texts), max_size=2).map(tuple)
memories = st.builds(PeakMemory, st.none() | counts, st.none() | counts, texts)
subjects = st.builds(
    SubjectLatency,
    id=texts,
    label=texts,
    p50_ms=intervals,
    p90_ms=intervals,
    p99_ms=intervals,
    images_per_second=intervals,
    ratio=st.none() | intervals,
    answers=st.none() | st.builds(AnswerCheck, counts, numbers, st.floats(0, 1), counts),
    arithmetic=st.builds(Arithmetic, counts, counts, st.lists(texts, max_size=2).map(tuple)),
    marks=marks,
    runs=st.lists(st.builds(TimedCall, counts, counts, counts, st.booleans()), max_size=4).map(tuple),
    facts=st.builds(
        SubjectFacts,
        texts,
        texts,
        st.sampled_from(Level),
        st.none() | counts,
        counts,
        st.none() | memories,
        st.booleans(),
        st.lists(st.builds(ColdStart, numbers, numbers, numbers), max_size=2).map(tuple),
    ),
    phases=st.dictionaries(texts, st.floats(0, 1e6), max_size=2),
    throughput=st.none()
    | st.builds(
        Throughput,
        counts,
        intervals,
        st.lists(st.tuples(counts, counts), max_size=2).map(tuple),
        st.lists(counts, max_size=3).map(tuple),
    ),
    energy=st.none() | st.builds(Energy, st.none() | numbers, st.none() | numbers, counts, numbers, texts),
    mlperf=st.lists(st.builds(MlperfResult, texts, numbers, texts, st.booleans(), texts, texts), max_size=1).map(tuple),
)
reports = st.builds(
    LatencyReport,
    subjects=st.lists(subjects, max_size=2).map(tuple),
    reference=st.none() | texts,
    batch=counts,
    rounds=counts,
    seconds=st.floats(0, 1e6),
    seed=counts,
    confidence=st.floats(0.5, 1),
    machine=st.builds(Machine, texts, counts, st.lists(texts, max_size=2).map(tuple), counts, texts, texts),
    conditions=st.builds(
        Conditions,
        texts,
        st.floats(0, 1e6),
        st.floats(0, 1e6),
        st.none() | st.just((0, 1)),
        st.none() | st.just(("performance",)),
        st.none() | st.just((1000.0, 2000.0)),
        st.none() | st.floats(0, 100),
    ),
    marks=marks,
)


@given(reports)
def test_what_is_written_is_read_back(report: LatencyReport) -> None:
    assert LatencyReport.from_json(report.to_json()) == report


def test_a_file_that_holds_something_else_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "latency.json"
    file.write_text('{"subjects": 3}')
    with pytest.raises(DataError, match=r"latency.json does not hold a LatencyReport"):
        LatencyReport.open(file)
