"""The sheets below a latency table: cold start, throughput of several sessions, energy, MLPerf."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING

from fqbench.report.document import Note, Sheet, notes, warnings
from fqbench.report.names import said_once, short_ids

if TYPE_CHECKING:
    from fqbench.latency.results import LatencyReport, SubjectLatency

Named = tuple[tuple[str, str, "SubjectLatency"], ...]  # name, short id


def further_sheets(report: LatencyReport, names: Sequence[str]) -> Iterator[Sheet | Note]:
    """Yield a sheet, or a note why there is none, for each kind of further figure that a measurement has."""
    named = tuple(zip(names, short_ids([one.id for one in report.subjects]), report.subjects, strict=True))
    if any(one.facts.cold_starts for *_, one in named):
        yield _cold_start(named)
    if any(one.throughput for *_, one in named):
        yield _throughput(named)
    if any(one.energy for *_, one in named):
        yield from _energy(named)
    if any(one.mlperf for *_, one in named):
        yield _mlperf(named)


def _cold_start(named: Named) -> Sheet:
    rows = []
    for name, short, one in named:
        starts = one.facts.cold_starts
        if starts:
            parts = [
                median(getattr(start, part) for start in starts)
                for part in ("process_ms", "load_ms", "first_answer_ms", "total_ms")
            ]
            rows.append((name, short, str(len(starts)), *(f"{part:.0f}" for part in parts)))
    columns = ("artifact", "id", ">processes", ">Python ms", ">load ms", ">first answer ms", ">in all ms")
    told = notes("Medians of fresh processes; files may be in the system's cache.")
    return Sheet("cold start", columns, tuple(rows), told)


def _throughput(named: Named) -> Sheet:
    rows = []
    for name, short, one in named:
        if one.throughput is not None:
            rate, alone = one.throughput.images_per_second, one.images_per_second.value
            figures = f"{rate.value:.0f} [{rate.low:.0f}, {rate.high:.0f}]"
            rows.append((name, short, str(one.throughput.sessions), figures, f"{rate.value / alone:.2f}x"))
    columns = ("artifact", "id", ">sessions", ">images/s", ">of one session")
    return Sheet("throughput of several sessions at a time", columns, tuple(rows))


def _energy(named: Named) -> Iterator[Sheet | Note]:
    rows, reasons = [], []
    for name, short, one in named:
        energy = one.energy
        if energy is None:
            continue
        if energy.joules_per_image is None:
            reasons.append((name, f"{energy.reason}."))
            continue
        per_image, idle = f"{energy.joules_per_image * 1000:.2f}", f"{energy.idle_watts or 0:.1f}"
        rows.append((name, short, per_image, idle, str(energy.images)))
    if rows:
        told = notes("Of the whole processor package, whatever else it did.")
        yield Sheet("energy", ("artifact", "id", ">mJ an image", ">idle W", ">images"), tuple(rows), told)
    yield from said_once(reasons, [name for name, *_ in named])


def _mlperf(named: Named) -> Sheet:
    rows = [
        (name, short, result.scenario, f"{result.value:.3f} {result.unit}", "valid" if result.valid else "not valid")
        for name, short, one in named
        for result in one.mlperf
    ]
    versions = sorted({result.version for *_, one in named for result in one.mlperf})
    told = notes(
        f"LoadGen {', '.join(versions)}: 90th percentile of single-stream, samples a second of offline. Valid by its "
        "own rules for this duration; not a submission."
    )
    broken = any(not result.valid for *_, one in named for result in one.mlperf)
    doubt = warnings("a run is not valid: raise --seconds.") if broken else ()
    return Sheet("MLPerf", ("artifact", "id", "scenario", ">result", "state"), tuple(rows), (*told, *doubt))
