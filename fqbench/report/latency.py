"""A measurement of latency as a sheet for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fqbench.report.sheets import Sheet

if TYPE_CHECKING:
    from fqbench.latency.results import LatencyReport, SubjectLatency

COLUMNS = (
    "artifact", ">p50 ms", ">p90 ms", ">p99 ms", ">images/s",
    ">speed-up at p50", ">int8 MACs", ">MB", ">peak MB", "level", "runtime",
)  # fmt: skip


def latency_sheet(report: LatencyReport) -> Sheet:
    """Return one row an artifact, with every doubt about the figures below."""
    machine = report.machine
    features = ", ".join(machine.features) or "none of the INT8 instructions"
    threads = "/".join(sorted({str(subject.facts.threads) for subject in report.subjects}))
    title = (
        f"latency, batch {report.batch}, {threads} thread(s), {report.rounds} interleaved rounds, "
        f"on {machine.cpu} ({features})"
    )
    rows = tuple(_row(subject, reference=subject.id == report.reference) for subject in report.subjects)
    doubts = [f"! {subject.label}: {mark.text}" for subject in report.subjects for mark in subject.marks]
    parts = [_parts(subject) for subject in report.subjects if subject.phases]
    return Sheet(title, COLUMNS, rows, (*parts, *doubts, *(f"! {mark.text}" for mark in report.marks)))


def _parts(subject: SubjectLatency) -> str:
    """What a session timed of its own parts, by the runtime's own names."""
    return f"{subject.label}: {', '.join(f'{name} {ms:.3f} ms' for name, ms in subject.phases.items())} (medians)"


def _row(subject: SubjectLatency, *, reference: bool) -> tuple[str, ...]:
    speedup, arithmetic = subject.speedup, subject.arithmetic
    if reference or speedup is None:
        ratio = "1 (reference)" if reference else "-"
    else:
        ratio = f"{speedup.value:.2f}x [{speedup.low:.2f}, {speedup.high:.2f}]"
    left_out = f" (not {', '.join(arithmetic.uncounted)})" if arithmetic.uncounted else ""
    peak = subject.facts.peak_memory.peak if subject.facts.peak_memory else None
    return (
        subject.label,
        f"{subject.p50_ms.value:.3f} [{subject.p50_ms.low:.3f}, {subject.p50_ms.high:.3f}]",
        f"{subject.p90_ms.value:.3f}",
        f"{subject.p99_ms.value:.3f}",
        f"{subject.images_per_second.value:.0f}",
        ratio,
        f"{arithmetic.integer_share:.1%}{left_out}",
        f"{subject.facts.bytes / 1e6:.2f}",
        f"{peak / 1e6:.0f}" if peak else "-",
        subject.facts.level.value,
        f"{subject.facts.backend} {subject.facts.runtime}",
    )
