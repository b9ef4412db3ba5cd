"""Plots of measurements: the empirical distribution of the raw times, and one line per artifact over batch sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fqbench.latency.protocol import Subject, measure
from fqbench.latency.results import LatencyReport, SubjectFacts
from fqbench.plugins import Arithmetic, SessionBase
from fqbench.report.latency import grid_document
from fqbench.report.latency_plot import latency_panels, write_latency_plot


class Still(SessionBase):
    arithmetic = Arithmetic(0, 1)

    def run(self, images: np.ndarray) -> np.ndarray:
        return images[:, 0, 0]


@pytest.fixture(scope="module")
def reports() -> list[LatencyReport]:
    images = np.zeros((4, 3, 2, 2), np.float32)
    subjects = [Subject(f"a-{name}", f"ort {name}", Still(), facts=SubjectFacts(threads=1)) for name in ("x", "y")]
    return [measure(subjects, images, batch=batch, rounds=9, seconds=0, replicates=100) for batch in (1, 2)]


def test_the_distribution_is_that_of_the_raw_times(reports: list[LatencyReport]) -> None:
    distribution, by_batch = latency_panels(reports)
    line, times = distribution.curves[0], np.sort(reports[0].subjects[0].nanoseconds) / 1e6
    assert line.steps
    np.testing.assert_allclose(line.xs, [times[0], *times])
    np.testing.assert_allclose(line.ys, [i / 9 for i in range(10)])
    assert [one.xs for one in by_batch.curves] == [(1.0, 2.0)] * 2
    assert by_batch.curves[1].ys == tuple(report.subjects[1].p50_ms.value for report in reports)


def test_one_batch_size_has_no_line_over_batch_sizes(reports: list[LatencyReport], tmp_path: Path) -> None:
    assert len(latency_panels(reports[:1])) == 1
    write_latency_plot(reports, tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").read_text(encoding="utf-8").startswith("<svg")


def test_one_table_has_a_row_for_each_artifact_and_combination(reports: list[LatencyReport]) -> None:
    document = grid_document(reports)
    table = next(sheet for sheet in document.sheets if "batch" in sheet.names)
    batch = table.names.index("batch")
    assert [(row[0], row[batch]) for row in table.rows] == [("x", "1"), ("y", "1"), ("x", "2"), ("y", "2")]
    assert len(document.value["measurements"]) == 2
    assert document.records is not None
    assert len(document.records.rows) == 4
    assert grid_document(reports[:1]).value == reports[0].to_dict()


def test_more_threads_are_further_lines(reports: list[LatencyReport]) -> None:
    def on(threads: int, report: LatencyReport) -> LatencyReport:
        own = [replace(one, facts=replace(one.facts, threads=threads)) for one in report.subjects]
        return replace(report, subjects=tuple(own))

    _, by_batch = latency_panels([*reports, *(on(2, report) for report in reports)])
    assert [line.name for line in by_batch.curves] == ["x", "y", "x, 2 threads", "y, 2 threads"]
