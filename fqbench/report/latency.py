"""A measurement of latency as a document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fqbench.report.document import Document, Heading, Records, Section, Sheet, warnings
from fqbench.report.latency_further import further_sheets
from fqbench.report.names import legend, said_once, short_ids, short_names

if TYPE_CHECKING:
    from fqbench.latency.results import LatencyReport, SubjectLatency

COLUMNS = (
    "artifact", "id", "level", ">p50 ms", ">speed-up at p50", ">p90 ms", ">p99 ms", ">images/s",
    ">int8 MACs", ">MB", ">peak MB",
)  # fmt: skip
HALF = ">16-bit MACs"  # shown where something is cast
RECORDS = (
    "artifact_id", "label", "p50_ms", "p50_low", "p50_high", "p90_ms", "p99_ms", "images_per_second",
    "speedup", "speedup_low", "speedup_high", "integer_share", "bytes", "peak_bytes", "level", "backend", "runtime",
    "batch", "threads",
)  # fmt: skip


def latency_document(report: LatencyReport, names: Mapping[str, str] | None = None) -> Document:
    """Return one row per artifact, with every doubt about the figures below.

    Parameters
    ----------
    report : LatencyReport
        The measurement.
    names : mapping, optional
        Names of all artifacts by id, where a larger document has given them.
    """
    subjects = report.subjects
    called = short_names([one.label for one in subjects], [one.id for one in subjects])
    if names is not None:
        called = tuple(names[one.id] for one in subjects)
    records = Records(RECORDS, [_record(subject, report.batch) for subject in subjects])
    return Document(tuple(_sections(report, called)), report.to_dict(), records)


def grid_document(reports: Sequence[LatencyReport]) -> Document:
    """Return one table of several measurements of the same artifacts: a row per artifact, batch size and threads."""
    if len(reports) == 1:
        return latency_document(reports[0])
    first, machine = reports[0], reports[0].machine
    ids = [subject.id for subject in first.subjects]
    names = short_names([subject.label for subject in first.subjects], ids)
    everything = [subject for report in reports for subject in report.subjects]
    columns = ("artifact", "id", ">batch", ">threads", *_columns(everything)[2:])
    rows, places, doubts = [], [], []
    for report in reports:
        for name, short, subject in zip(names, short_ids(ids), report.subjects, strict=True):
            where = (str(report.batch), str(subject.facts.threads))
            row = _row(subject, reference=subject.id == report.reference)
            half = (f"{subject.arithmetic.half_share:.1%}",) if HALF in columns else ()
            rows.append((name, short, *where, *row, *half))
            place = f"{name}, batch {where[0]}, {where[1]} thread(s)"
            places.append(place)
            doubts += [(f"{place} ({mark.figure})" if mark.figure else place, mark.text) for mark in subject.marks]
    machine_wide = {mark.doubt: mark.text for report in reversed(reports) for mark in report.marks}
    features = ", ".join(machine.features) or "none of the INT8 instructions"
    sections: list[Section] = [
        Heading(f"latency, {len(reports)} measurements of interleaved rounds, on {machine.cpu} ({features})"),
        legend(names, ids, {"runtime": [_runtime(subject) for subject in first.subjects]}),
        Sheet(
            "",
            columns,
            tuple(rows),
            (*said_once(doubts, places), *warnings(*machine_wide.values())),
            sources=tuple((subject.id,) for subject in everything),
            name="latency",
        ),
    ]
    for report in reports:
        title = f"batch {report.batch}, {_threads(report)} thread(s)"
        for part in further_sheets(report, names):
            sections.append(replace(part, title=f"{part.title}: {title}") if isinstance(part, Sheet) else part)
    value = {"measurements": [report.to_dict() for report in reports]}
    records = [_record(subject, report.batch) for report in reports for subject in report.subjects]
    return Document(tuple(sections), value, Records(RECORDS, records))


def import_document(report: LatencyReport, predictions: Sequence[str], bench: str) -> Document:
    """Return a measurement of another machine; its value holds the ids of the imported entries as well."""
    measured = latency_document(report)
    return replace(measured, value={"predictions": list(predictions), "bench": bench, "latency": measured.value})


def _sections(report: LatencyReport, names: Sequence[str]) -> Iterator[Section]:
    machine, subjects = report.machine, report.subjects
    ids = [subject.id for subject in subjects]
    features = ", ".join(machine.features) or "none of the INT8 instructions"
    yield Heading(
        f"latency, batch {report.batch}, {_threads(report)} thread(s), {report.rounds} interleaved rounds, "
        f"on {machine.cpu} ({features})"
    )
    yield legend(names, ids, {"runtime": [_runtime(subject) for subject in subjects]})
    wide = len(_columns(subjects)) > len(COLUMNS)

    def half(subject: SubjectLatency) -> tuple[str, ...]:
        return (f"{subject.arithmetic.half_share:.1%}",) if wide else ()

    rows = [
        (name, short, *_row(subject, reference=subject.id == report.reference), *half(subject))
        for name, short, subject in zip(names, short_ids(ids), subjects, strict=True)
    ]
    named = list(zip(names, subjects, strict=True))
    parts = said_once([(name, _parts(one)) for name, one in named if one.phases], names, warning=False)
    uncounted = [(name, text) for name, one in named if (text := _uncounted(one))]
    doubts = [
        (f"{name} ({mark.figure})" if mark.figure else name, mark.text) for name, one in named for mark in one.marks
    ]
    below = (*parts, *said_once(uncounted, names, warning=False), *said_once(doubts, names))
    doubts_about_all = warnings(*(mark.text for mark in report.marks))
    sources = tuple((subject.id,) for subject in subjects)
    yield Sheet("", _columns(subjects), tuple(rows), (*below, *doubts_about_all), sources=sources, name="latency")
    yield from further_sheets(report, names)


def _threads(report: LatencyReport) -> str:
    return "/".join(sorted({str(subject.facts.threads) for subject in report.subjects}))


def _columns(subjects: Sequence[SubjectLatency]) -> tuple[str, ...]:
    return (*COLUMNS, HALF) if any(one.arithmetic.half_macs for one in subjects) else COLUMNS


def _runtime(subject: SubjectLatency) -> str:
    return f"{subject.facts.backend} {subject.facts.runtime}"


def _parts(subject: SubjectLatency) -> str:
    """What a session timed of its own parts, by the runtime's own names."""
    return f"{', '.join(f'{name} {ms:.3f} ms' for name, ms in subject.phases.items())} (medians)"


def _uncounted(subject: SubjectLatency) -> str:
    operators = ", ".join(subject.arithmetic.uncounted)
    return f"int8 MACs does not count {operators}." if operators else ""


def _peak(subject: SubjectLatency) -> int | None:
    return subject.facts.peak_memory.peak if subject.facts.peak_memory else None


def _row(subject: SubjectLatency, *, reference: bool) -> tuple[str, ...]:
    speedup, peak = subject.speedup, _peak(subject)
    if reference or speedup is None:
        ratio = "1 (reference)" if reference else "-"
    else:
        ratio = f"{speedup.value:.2f}x [{speedup.low:.2f}, {speedup.high:.2f}]"
    return (
        subject.facts.level.value,
        f"{subject.p50_ms.value:.3f} [{subject.p50_ms.low:.3f}, {subject.p50_ms.high:.3f}]",
        ratio,
        f"{subject.p90_ms.value:.3f}",
        f"{subject.p99_ms.value:.3f}",
        f"{subject.images_per_second.value:.0f}",
        f"{subject.arithmetic.integer_share:.1%}",
        f"{subject.facts.bytes / 1e6:.2f}",
        f"{peak / 1e6:.0f}" if peak else "-",
    )


def _record(subject: SubjectLatency, batch: int) -> tuple[object, ...]:
    p50, speedup = subject.p50_ms, subject.speedup
    return (
        subject.id,
        subject.label,
        *(p50.value, p50.low, p50.high, subject.p90_ms.value, subject.p99_ms.value, subject.images_per_second.value),
        *((speedup.value, speedup.low, speedup.high) if speedup is not None else ("", "", "")),
        subject.arithmetic.integer_share,
        subject.facts.bytes,
        _peak(subject) or "",
        subject.facts.level.value,
        subject.facts.backend,
        subject.facts.runtime,
        batch,
        subject.facts.threads or "",
    )
