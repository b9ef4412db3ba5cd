"""The gate's checks as a document, and as JUnit XML for CI systems."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fqbench.errors import InputError
from fqbench.gate import GateReport, Outcome, to_junit
from fqbench.report.document import Document, Note, Records, Section, Sheet
from fqbench.report.names import legend, short_names

MARKS = {Outcome.PASSED: "passed", Outcome.FAILED: "FAILED", Outcome.UNDECIDED: "undecided"}
COLUMNS = ("artifact", "limit", "outcome", "evidence: figure [interval] against the bound")
RECORDS = ("artifact_id", "label", "limit", "bound", "value", "low", "high", "outcome", "images_needed")


def gate_document(report: GateReport) -> Document:
    """Return one row per check, and the verdict of the gate below."""
    records = [[getattr(check, name) for name in RECORDS] for check in report.checks]
    return Document(tuple(_sections(report)), report.to_dict(), Records(RECORDS, records))


def write_junit(report: GateReport, file: Path) -> None:
    """Write the checks as JUnit XML.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    try:
        file.write_text(to_junit(report), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file} cannot be written ({error.strerror}); check --junit.") from error


def _sections(report: GateReport) -> Iterator[Section]:
    labels = {check.artifact_id: check.label for check in report.checks}
    names = dict(zip(labels, short_names([*labels.values()], [*labels]), strict=True))
    yield legend([*names.values()], [*labels], {"label": [*labels.values()]})
    rows = tuple(
        (names[check.artifact_id], check.limit, MARKS[check.outcome], check.evidence) for check in report.checks
    )
    counts = {outcome: sum(check.outcome is outcome for check in report.checks) for outcome in Outcome}
    verdict = "the gate is passed" if report.passed else "the gate is not passed"
    summary = ", ".join(f"{count} {outcome.value}" for outcome, count in counts.items())
    text = f"{verdict}: {summary}; undecided counts as {report.undecided}."
    yield Sheet("limits", COLUMNS, rows, (Note(text, warning=not report.passed),))
