"""A search as a document: what was done in sentences, the trials, the finalists, and the verdict of the test split."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.errors import InputError
from fqbench.report.document import UNDEFINED, Document, Heading, Note, Records, Section, Sheet, notes
from fqbench.report.gate import gate_document
from fqbench.storage import finite_or_none, write_whole

if TYPE_CHECKING:
    from fqbench.fairness.results import Estimate
    from fqbench.search.results import FinalistReport, SearchReport, TrialReport

TRIALS = (
    ">trial", "backend", "what", ">MB", ">int8 MACs", ">KL, worst group", "worst group", ">worst Δ accuracy", "limits",
)  # fmt: skip
FINALISTS = (">trial", "artifact", ">MB", ">p50 ms", ">speed-up", "confirmed")
RECORDS = (
    "trial", "artifact_id", "backend", "label", "why", "bytes", "level", "integer_share", "kl_divergence",
    "worst_group", "worst_kl_divergence", "worst_accuracy_change", "shortfall", "keeps", "on_front", "failed",
)  # fmt: skip
MILLI, POINTS, MEGABYTE = 1000, 100, 1e6


def search_document(report: SearchReport, entry_id: str) -> Document:
    """Return the page of one search."""
    records = Records(RECORDS, [_record(one, report) for one in report.trials])
    value: dict[str, Any] = finite_or_none(report)
    value |= {"id": entry_id, "passed": report.passed, "gate": report.gate.to_dict()}
    return Document(tuple(_sections(report, entry_id)), value, records)


def _sections(report: SearchReport, entry_id: str) -> Iterator[Section]:
    yield Heading("summary")
    yield from map(Note, summary(report))
    yield Heading(f"how it was found ({entry_id})")
    yield from map(Note, report.steps)
    yield trials_sheet(report)
    yield finalists_sheet(report)
    yield from gate_document(report.gate).sections
    yield Heading(f"recipe of {report.chosen}")
    yield from map(Note, (f"  {line}" for line in report.recipe.splitlines()))
    yield from notes(report.notice)


def write_found_recipe(report: SearchReport, file: Path) -> None:
    """Write the recipe of the chosen artifact.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    try:
        write_whole(file, report.recipe)
    except OSError as error:
        raise InputError(f"{file} cannot be written ({error.strerror}); check --out.") from error


def summary(report: SearchReport) -> tuple[str, ...]:
    """Return what was found, what it costs and what it won, in sentences."""
    chosen = report.trial(report.chosen)
    which = {"latency": "fastest", "size": "smallest"}[report.objective]
    kept = report.passed
    found = f"{chosen.label} ({report.chosen})"
    said = [
        f"The {which} artifact found that keeps every limit: {found}."
        if kept
        else f"Nothing was shown to keep these limits. The nearest is {found}; the table of limits says what it misses."
    ]
    said.append(_cost(report, chosen))
    if report.claim is not None:
        said.append(_claim(report))
    images = {half: sum(counts.values()) for half, counts in report.images.items()}
    said.append(
        f"{len(report.trials)} trials in {report.seconds:.0f} s were compared on {images['choosing']} validation "
        f"images, the finalists confirmed on {images['confirming']} others, and one artifact judged on the test split, "
        "once."
    )
    if report.earlier_looks:
        said.append(
            f"Before this search, {report.earlier_looks} evaluation(s) of this model's artifacts on the same test "
            "split were made in this workspace: choices made by them are not covered by the verdict's confidence."
        )
    return tuple(said)


def _cost(report: SearchReport, chosen: TrialReport) -> str:
    last = next(one for one in report.finalists if one.artifact_id == report.chosen)
    parts = [f"It has {chosen.bytes / MEGABYTE:.3g} MB"]
    if last.p50_ms is not None:
        parts.append(f"takes {last.p50_ms.value:.3g} ms")
    if last.speedup is not None:
        low, high = last.speedup.low, last.speedup.high
        parts.append(f"is {last.speedup.value:.2f} [{low:.2f}, {high:.2f}] times as fast as FP32 there")
    if not math.isnan(chosen.integer_share):
        parts.append(f"computes {chosen.integer_share:.0%} of its multiply-accumulates in integers")
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts) + "."


def _claim(report: SearchReport) -> str:
    claim = report.claim
    assert claim is not None  # noqa: S101  # the caller looked
    baseline, one = report.trial(claim.baseline_id), claim.reduction
    value, low, high, than = one.value, one.low, one.high, "less"
    if value < 0:
        value, low, high, than = -value, -high, -low, "more"
    end = (
        f"{MILLI * value:.3g} [{MILLI * low:.3g}, {MILLI * high:.3g}] thousandths of a nat {than} "
        f"than those of {baseline.label}, on images that chose nothing ({claim.confidence:.1%} interval)."
    )
    if claim.shown:
        return f"It mends the group {claim.group}: its answers there diverge from FP32's by {end}"
    return f"No gain is claimed for the group {claim.group}: its answers diverge from FP32's by {end}"


def trials_sheet(report: SearchReport) -> Sheet:
    """Return one row per trial, with the reason why it was made."""
    rows = tuple(_row(one, report) for one in report.trials)
    how = (
        "On the choosing images. KL: divergence from FP32, 0.001 nats. Δ accuracy: points, of the group that loses "
        "most. limits: kept, or how many the gate would not pass on a test split answered in the same shares. * on the "
        "front: no other trial is better in size, integer share and worst group at once. The share of integer "
        "arithmetic stands for speed until the finalists are measured."
    )
    return Sheet("trials", TRIALS, rows, notes(how))


def _row(one: TrialReport, report: SearchReport) -> tuple[str, ...]:
    if one.failed:
        return (str(one.number), one.backend, one.why, "-", "-", "-", "-", "-", "could not be tried")
    star = "*" if one.artifact_id in report.front else ""
    missed = sum(each.shortfall > 0 for each in one.outlooks)
    return (
        f"{one.number}{star}",
        one.backend,
        one.why,
        f"{one.bytes / MEGABYTE:.3g}",
        UNDEFINED if math.isnan(one.integer_share) else f"{one.integer_share:.0%}",
        f"{MILLI * one.worst_kl_divergence:.3g}",
        one.worst_group,
        f"{POINTS * one.worst_change:+.1f}",
        "kept" if one.keeps else f"{missed} missed",
    )


def finalists_sheet(report: SearchReport) -> Sheet:
    """Return one row per finalist, as the confirming images see it."""
    rows = []
    for one in report.finalists:
        trial = report.trial(one.artifact_id)
        rows.append(
            (
                str(trial.number),
                one.artifact_id,
                f"{trial.bytes / MEGABYTE:.3g}",
                _estimate(one.p50_ms),
                _estimate(one.speedup),
                _confirmed(one),
            )
        )
    how = "On the confirming images, which no choice before has seen; latencies interleaved in one process."
    return Sheet("finalists", FINALISTS, tuple(rows), notes(how))


def _estimate(one: Estimate | None) -> str:
    return "not measured" if one is None else f"{one.value:.3g} [{one.low:.3g}, {one.high:.3g}]"


def _confirmed(one: FinalistReport) -> str:
    if one.kept:
        return "yes"
    missed = [each.limit for each in one.outlooks if each.contradicted]
    return "no: " + (", ".join(missed[:2]) if missed else "a limit on latency")


def _record(one: TrialReport, report: SearchReport) -> tuple[object, ...]:
    figures = (one.kl_divergence, one.worst_group, one.worst_kl_divergence, one.worst_change, one.shortfall)
    return (
        *(one.number, one.artifact_id, one.backend, one.label, one.why, one.bytes, one.level, one.integer_share),
        *figures,
        *(one.keeps, one.artifact_id in report.front, one.failed),
    )
