"""Sections on costs: latency or size against accuracy, and the distribution of the latencies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from fqbench.latency.results import NANOSECONDS_A_MILLISECOND
from fqbench.report.document import Heading, Section, notes
from fqbench.report.figures import Axis, Candidate, Dot, Line, Lines, TradeOff, distribution, front
from fqbench.report.latency import latency_document
from fqbench.report.page.clouds import REFERENCE, cloud_sections, with_losses
from fqbench.report.page.quantities import GAP, LATENCY, OVERALL, SIZE, UP, WORST

if TYPE_CHECKING:
    from fqbench.fairness import Estimate, GapEstimate
    from fqbench.report.page.material import Material, Measurement, ReportedArtifact, View


def trade_off_section(material: Material) -> Iterator[Section]:
    """Which artifacts no other one beats in cost and accuracy."""
    yield Heading("Trade-offs")
    figures = [(view, _trade_off(material, view)) for view in material.views]
    yield from (figure for _view, figure in figures)
    yield from cloud_sections(
        [
            with_losses(figure, [_largest_loss(one) for one in view.subjects], view.named("trade-offs-in-3d"))
            for view, figure in figures
        ]
    )


def latency_section(material: Material) -> Iterator[Section]:
    """The distribution of the latencies, and the table."""
    yield Heading("Latency")
    measured = material.measurement
    if measured is None:
        yield from notes("No measurement of these artifacts is in the workspace; fqbench bench makes one.")
        return
    title, *sections = latency_document(measured.report, material.names).sections
    yield from notes(title.text[:1].upper() + title.text[1:] + "." if isinstance(title, Heading) else "")
    yield _distributions(measured, material.names)
    yield from sections
    if measured.others:
        yield from notes(
            f"Other measurements of these artifacts: {', '.join(measured.others)}; name one to show it instead."
        )


def _trade_off(material: Material, view: View) -> TradeOff:
    candidates = tuple(_candidate(subject) for subject in view.subjects)
    across = (LATENCY, SIZE) if any(LATENCY.key in one.dots for one in candidates) else (SIZE,)
    fronts = {f"{x.key}|{y.key}": front(candidates, x, y) for x in across for y in UP}
    best = ", ".join(candidates[number].name for number in fronts[f"{across[0].key}|{WORST.key}"])
    return TradeOff(
        name=view.named("trade-offs"),
        title="Cost and accuracy of each artifact",
        description=f"No other artifact beats these in {across[0].axis.label} and {WORST.axis.label}: {best}.",
        caption=(
            "The line joins artifacts that no other one beats in both quantities; where intervals overlap, the order "
            "may be chance. Hollow: simulated or emulated, which have no speed to compare."
        ),
        sources=(view.entry.id, *material.measured),
        across=across,
        up=UP,
        candidates=candidates,
        fronts=fronts,
    )


def _candidate(subject: ReportedArtifact) -> Candidate:
    report, timed = subject.figures.report, subject.latency
    dots = {
        WORST.key: _share(report.gaps["worst_group_accuracy"]),
        OVERALL.key: _share(report.overall.accuracy),
        GAP.key: _share(report.gaps["accuracy_gap"]),
    }
    if not math.isnan(subject.bytes):
        size = subject.bytes / 1e6
        dots[SIZE.key] = Dot(size, math.nan, math.nan, f"{size:.2f} MB")
    if timed is not None and timed.facts.level.has_speed:
        one = timed.p50_ms
        dots[LATENCY.key] = Dot(one.value, one.low, one.high, f"{one.value:.3f} ms [{one.low:.3f}, {one.high:.3f}]")
    return Candidate(subject.name, dots, hollow=not subject.level.has_speed)


def _largest_loss(subject: ReportedArtifact) -> Dot | None:
    """Change of the group that lost most, in points; None where no change is known."""
    change = subject.figures.change
    if change is None:
        return REFERENCE
    known = [row for row in change.groups if not math.isnan(row.accuracy.value)]
    worst = min(known, key=lambda row: row.accuracy.value, default=None)
    if worst is None:
        return None
    one = worst.accuracy
    value, low, high = 100 * one.value, 100 * one.low, 100 * one.high
    return Dot(value, low, high, f"{value:+.1f} [{low:+.1f}, {high:+.1f}] {worst.group}")


def _share(one: Estimate | GapEstimate) -> Dot:
    return Dot(one.value, one.low, one.high, f"{one.value:.1%} [{one.low:.1%}, {one.high:.1%}]")


def _distributions(measured: Measurement, names: Mapping[str, str]) -> Lines:
    latency = measured.report
    lines = []
    for number, subject in enumerate(latency.subjects):
        xs, ys = distribution([one / NANOSECONDS_A_MILLISECOND for one in subject.nanoseconds.tolist()])
        level = subject.facts.level
        lines.append(Line(names[subject.id], xs, ys, dashed=not level.has_speed, colour=number))
    medians = ", ".join(
        f"{line.name} {subject.p50_ms.value:.2f} ms" for line, subject in zip(lines, latency.subjects, strict=True)
    )
    return Lines(
        name="latency-distributions",
        title=f"Distribution of {latency.rounds} latencies per artifact, batch {latency.batch}",
        description=f"Medians: {medians}.",
        caption=(
            "Share of calls that took at most this long, warm-up left out; a logarithmic axis. Dashed: simulated or "
            "emulated, not a speed."
        ),
        sources=(measured.entry.id,),
        across=Axis("milliseconds", log=True),
        up=Axis("share of calls", percent=True),
        lines=tuple(lines),
        steps=True,
    )
