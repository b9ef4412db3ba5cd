"""One model on several runtimes as one table: fastest first, with accuracy, and the Pareto front marked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fqbench.report.document import UNDEFINED, Document, Heading, Records, Section, Sheet, notes, warnings
from fqbench.report.names import legend, said_once, short_ids, short_names
from fqbench.report.pareto import pareto_front

if TYPE_CHECKING:
    from fqbench.fairness.evaluated import EvaluatedArtifact
    from fqbench.latency.results import LatencyReport, SubjectLatency
    from fqbench.stages.runtimes import Runtimes

COLUMNS = (
    "artifact", "id", "front", ">p50 ms", ">speed-up at p50", ">accuracy", ">Δ accuracy", ">worst group's Δ", "group",
    ">int8 MACs", ">16-bit MACs", ">MB",
)  # fmt: skip
RECORDS = (
    "artifact_id", "label", "batch", "threads", "p50_ms", "speedup", "accuracy", "accuracy_change",
    "worst_group_change", "worst_group", "integer_share", "half_share", "bytes", "on_front",
)  # fmt: skip
FRONT = "*"


@dataclass(frozen=True)
class _Row:
    """One artifact: its latency, its accuracy, and the group that loses most; the reference changes by 0."""

    name: str
    short: str
    subject: SubjectLatency
    accuracy: float
    change: float
    worst: float
    group: str

    @property
    def costs(self) -> tuple[float, float, float]:
        """What the front weighs: time, and what is lost of accuracy, in all and in the worst group."""
        return self.subject.p50_ms.value, -self.accuracy, -self.worst


def runtimes_document(found: Runtimes) -> Document:
    """Return a table for each batch size and number of threads, fastest first."""
    sections: list[Section] = []
    records: list[tuple[object, ...]] = []
    for report in found.latency:
        rows = _rows(found, report)
        front = pareto_front([row.costs for row in rows])
        sections += _sections(report, rows, front)
        records += [_record(report, row, on) for row, on in zip(rows, front, strict=True)]
    told = [f"{what}: {why}" for what, why in found.left_out.items()]
    sections += [*notes("Not measured:" if told else "", *told)]
    value = {
        "evaluation": found.evaluation.to_dict(),
        "latency": [report.to_dict() for report in found.latency],
        "front": [record[0] for record in records if record[-1]],
        "left_out": dict(found.left_out),
    }
    return Document(tuple(sections), value, Records(RECORDS, records))


def _rows(found: Runtimes, report: LatencyReport) -> list[_Row]:
    by_id = {one.id: one for one in found.evaluation.artifacts}
    ids = [subject.id for subject in report.subjects]
    names = short_names([subject.label for subject in report.subjects], ids)
    rows = []
    for name, short, subject in zip(names, short_ids(ids), report.subjects, strict=True):
        worst, group = _worst(by_id[subject.id])
        accuracy, change = by_id[subject.id].report.overall.accuracy.value, by_id[subject.id].change
        lost = change.overall.accuracy.value if change is not None else 0.0
        rows.append(_Row(name, short, subject, accuracy, lost, worst, group))
    return sorted(rows, key=lambda row: row.subject.p50_ms.value)


def _worst(one: EvaluatedArtifact) -> tuple[float, str]:
    """The largest loss of accuracy of a group, and which; undefined ones are left out."""
    if one.change is None:
        return 0.0, ""
    known = [row for row in one.change.groups if not math.isnan(row.accuracy.value)]
    if not known:
        return math.nan, ""
    worst = min(known, key=lambda row: row.accuracy.value)
    return worst.accuracy.value, worst.group


def _sections(report: LatencyReport, rows: list[_Row], front: tuple[bool, ...]) -> Iterator[Section]:
    machine, names = report.machine, [row.name for row in rows]
    features = ", ".join(machine.features) or "none of the INT8 instructions"
    threads = "/".join(sorted({str(row.subject.facts.threads) for row in rows}))
    yield Heading(f"runtimes, batch {report.batch}, {threads} thread(s), on {machine.cpu} ({features})")
    runtimes = [f"{row.subject.facts.backend} {row.subject.facts.runtime}" for row in rows]
    yield legend(names, [row.subject.id for row in rows], {"runtime": runtimes})
    doubts = [
        (f"{row.name} ({mark.figure})" if mark.figure else row.name, mark.text)
        for row in rows
        for mark in row.subject.marks
    ]
    how = f"{FRONT}: on the Pareto front of p50, accuracy and the worst group's change (points; without intervals)."
    below = (*notes(how), *said_once(doubts, names), *warnings(*(mark.text for mark in report.marks)))
    cells = tuple(_cells(row, on, report.reference) for row, on in zip(rows, front, strict=True))
    sources = tuple((row.subject.id,) for row in rows)
    yield Sheet("fastest first", COLUMNS, cells, below, sources=sources, name="runtimes")


def _cells(row: _Row, on_front: bool, reference: str | None) -> tuple[str, ...]:
    subject, speedup = row.subject, row.subject.speedup
    ratio = "-" if speedup is None else f"{speedup.value:.2f}x [{speedup.low:.2f}, {speedup.high:.2f}]"
    is_reference = subject.id == reference
    return (
        row.name,
        row.short,
        FRONT if on_front else "",
        f"{subject.p50_ms.value:.3f}",
        "1 (reference)" if is_reference else ratio,
        _points(row.accuracy),
        "" if is_reference else _points(row.change, sign=True),
        "" if is_reference else _points(row.worst, sign=True),
        row.group,
        f"{subject.arithmetic.integer_share:.1%}",
        f"{subject.arithmetic.half_share:.1%}",
        f"{subject.facts.bytes / 1e6:.2f}",
    )


def _points(share: float, *, sign: bool = False) -> str:
    if math.isnan(share):
        return UNDEFINED
    return f"{100 * share:+.1f}" if sign else f"{100 * share:.1f}%"


def _record(report: LatencyReport, row: _Row, on_front: bool) -> tuple[object, ...]:
    subject, speedup = row.subject, row.subject.speedup
    return (
        subject.id,
        subject.label,
        report.batch,
        subject.facts.threads or "",
        subject.p50_ms.value,
        speedup.value if speedup is not None else "",
        row.accuracy,
        row.change,
        row.worst,
        row.group,
        subject.arithmetic.integer_share,
        subject.arithmetic.half_share,
        subject.facts.bytes,
        on_front,
    )
