"""The gate's checks for people and for CI systems."""

from __future__ import annotations

from pathlib import Path

from fqbench.errors import InputError
from fqbench.gate import GateReport, Outcome, to_junit
from fqbench.report.sheets import Sheet, print_sheets
from fqbench.terminal import print_json, stdout

MARKS = {Outcome.PASSED: "passed", Outcome.FAILED: "FAILED", Outcome.UNDECIDED: "undecided"}


def gate_sheet(report: GateReport) -> Sheet:
    """Return one row a check, and the verdict of the gate below."""
    rows = tuple((check.label, check.limit, MARKS[check.outcome], check.evidence) for check in report.checks)
    counts = {outcome: sum(check.outcome is outcome for check in report.checks) for outcome in Outcome}
    verdict = "the gate is passed" if report.passed else "! the gate is not passed"
    summary = ", ".join(f"{count} {outcome.value}" for outcome, count in counts.items())
    note = f"{verdict}: {summary}; undecided counts as {report.undecided}."
    return Sheet(
        "limits", ("artifact", "limit", "outcome", "evidence: figure [interval] against the bound"), rows, (note,)
    )


def show_gate(report: GateReport, *, junit: Path | None, as_json: bool) -> None:
    """Print the checks, and write JUnit XML where it is asked for.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    if junit is not None:
        try:
            junit.write_text(to_junit(report), encoding="utf-8")
        except OSError as error:
            raise InputError(f"{junit} cannot be written ({error.strerror}); check --junit.") from error
    print_json(report.to_dict()) if as_json else print_sheets([gate_sheet(report)], stdout())
