"""The verbs' documents at the widths of real terminals, with six artifacts and colliding labels."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from fqbench.fairness.evaluated import Evaluation
from fqbench.gate import Check, GateReport, Outcome
from fqbench.latency.results import LatencyReport
from fqbench.latency.steadiness import Doubt, Mark
from fqbench.report.document import Document
from fqbench.report.evaluation import evaluation_document
from fqbench.report.gate import gate_document
from fqbench.report.latency import latency_document
from fqbench.report.layout import cell_width
from fqbench.report.renderers.text import lines
from fqbench.stages.bench import bench
from fqbench.stages.evaluate import evaluate
from fqbench.stages.quantize import quantize, reference
from tests.conftest import write_classifier, write_photos


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, LatencyReport]:
    """FP32 and two INT8 artifacts whose labels are equal, on 40 test images."""
    from fqbench.config import configure
    from fqbench.run import Run
    from fqbench.workspace import Workspace

    root = tmp_path_factory.mktemp("documents")
    config = configure(
        data="folder", root=write_photos(root / "photos", 160), onnx=write_classifier(root / "bright.onnx"),
        mean=(0.5,) * 3, std=(0.25,) * 3, calib_n=16, rounds=20, seconds=0.0, replicates=200,
    )  # fmt: skip
    run = Run(config, Workspace(root / "workspace"))
    again = run.with_options("quantize", calib_seed=1)
    artifacts = [reference(run), quantize(run), quantize(again)]
    return evaluate(run, artifacts), bench(run, artifacts)


def words(text: str) -> set[str]:
    return set(text.split())


def all_text(document: Document) -> list[str]:
    """Every title, cell and note."""
    found = []
    for sheet in document.sheets:
        found += [sheet.title, *sheet.names, *(cell for row in sheet.rows for cell in row)]
        found += [note.text for note in sheet.notes]
    return found


@pytest.mark.parametrize("width", [80, 120])
def test_no_broken_word_at_80_and_120_columns(measured: tuple[Evaluation, LatencyReport], width: int) -> None:
    evaluation, latency = measured
    for document in (evaluation_document(evaluation), latency_document(latency)):
        shown = [line for line, _style in lines(document, width)]
        assert max(map(cell_width, shown)) <= width
        assert words(" ".join(all_text(document))) <= words("\n".join(shown))


def test_every_sheet_tells_two_artifacts_of_one_label_apart(measured: tuple[Evaluation, LatencyReport]) -> None:
    evaluation, latency = measured
    labels = [artifact.label for artifact in evaluation.artifacts]
    assert labels[1] == labels[2]
    document = evaluation_document(evaluation)
    names = [row[0] for row in document.sheets[0].rows]
    assert len(set(names)) == 3
    for sheet in document.sheets:
        for name in names[1:]:
            assert not any(cell.removeprefix(">").endswith("int8/balanced") for cell in (sheet.title, *sheet.columns))
            if sheet.title in {"gaps between groups", "measures of the literature"}:
                assert f">{name}" in sheet.columns
    for sheet in latency_document(latency).sheets:
        assert [row[0] for row in sheet.rows] == names
        assert "id" in sheet.columns


def test_the_latency_table_shows_an_id_in_every_row(measured: tuple[Evaluation, LatencyReport]) -> None:
    report = measured[1]
    legend, sheet, *_further = latency_document(report).sheets
    ids = [row[sheet.columns.index("id")] for row in sheet.rows]
    assert [row[1] for row in legend.rows] == [subject.id for subject in report.subjects]
    assert all(
        subject.id.rpartition("-")[2].startswith(short) for short, subject in zip(ids, report.subjects, strict=True)
    )


def test_advice_is_given_once_below_the_table(measured: tuple[Evaluation, LatencyReport]) -> None:
    report = measured[1]
    noisy = tuple(
        replace(
            subject, marks=(Mark(Doubt.NOISY, "the deviation is large; trust p50 more than p99.", f"{10 + index}%"),)
        )
        for index, subject in enumerate(report.subjects)
    )
    document = latency_document(replace(report, subjects=noisy, marks=()))
    notes = [note.text for sheet in document.sheets for note in sheet.notes]
    assert sum("trust p50 more than p99" in note for note in notes) == 1
    assert re.search(r"fp32 \(10%\), .*\(11%\), .*\(12%\): the deviation is large", " ".join(notes))
    assert not any("trust" in cell for sheet in document.sheets for row in sheet.rows for cell in row)


def test_a_warning_about_all_artifacts_is_one_line(measured: tuple[Evaluation, LatencyReport]) -> None:
    evaluation = measured[0]
    warnings = evaluation.artifacts[0].report.warnings
    assert warnings
    shown = [line for line, style in lines(evaluation_document(evaluation), 200) if style == "yellow"]
    for warning in warnings:
        assert sum(warning[:40] in line for line in shown) == 1


def test_the_gate_names_artifacts_apart_and_keeps_the_figures_for_machines() -> None:
    check = Check("m-ort-int8-aaaa111111", "ort int8", "min_accuracy", 0.9, 0.95, 0.93, 0.97, Outcome.PASSED)
    failed = replace(check, artifact_id="m-ort-int8-bbbb222222", value=0.8, low=0.7, high=0.85, outcome=Outcome.FAILED)
    document = gate_document(GateReport((check, failed), "fail"))
    legend, limits = document.sheets
    assert [row[0] for row in legend.rows] == ["int8 #aaaa", "int8 #bbbb"]
    assert [row[0] for row in limits.rows] == ["int8 #aaaa", "int8 #bbbb"]
    assert limits.notes[0].warning
    assert document.records is not None
    assert document.records.rows[1][:3] == ["m-ort-int8-bbbb222222", "ort int8", "min_accuracy"]
