"""Plots of latency measurements: distributions of the raw times, and p50 by batch size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fqbench.report.names import short_names
from fqbench.report.renderers.svg_plot import Curve, Panel, svg
from fqbench.storage import write_whole

if TYPE_CHECKING:
    from fqbench.latency.results import LatencyReport

MILLISECONDS = 1e-6  # in a nanosecond
MOST_STEPS = 400  # of a line; more cannot be seen


def write_latency_plot(reports: Sequence[LatencyReport], path: Path) -> None:
    """Write the plots of measurements of the same artifacts as one SVG file."""
    write_whole(path, svg(latency_panels(reports)))


def latency_panels(reports: Sequence[LatencyReport]) -> tuple[Panel, ...]:
    """Return the distribution of the first measurement's times and, of several batch sizes, p50 by batch size.

    Parameters
    ----------
    reports : sequence of LatencyReport
        Of the same artifacts, one for each batch size and number of threads.
    """
    first = reports[0]
    names = short_names([one.label for one in first.subjects], [one.id for one in first.subjects])
    title = f"batch {first.batch}, {_threads(first)} thread(s)"
    panels = [
        Panel(
            f"distribution of {first.rounds} rounds, {title}",
            "ms a call",
            "share of calls",
            tuple(_distribution(name, one.nanoseconds) for name, one in zip(names, first.subjects, strict=True)),
            log_x=True,
        )
    ]
    if len({report.batch for report in reports}) > 1:
        panels.append(Panel("p50 by batch size", "images a call", "ms a call", _by_batch(reports, names), True, True))
    return tuple(panels)


def _distribution(name: str, nanoseconds: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Curve:
    """The empirical distribution: the share of calls that took at most x, thinned to what can be seen."""
    ordered = np.sort(nanoseconds) * MILLISECONDS
    shares = np.arange(1, len(ordered) + 1) / len(ordered)
    kept = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), MOST_STEPS)).round().astype(np.int64))
    return Curve(name, (float(ordered[0]), *ordered[kept].tolist()), (0.0, *shares[kept].tolist()), steps=True)


def _by_batch(reports: Sequence[LatencyReport], names: Sequence[str]) -> tuple[Curve, ...]:
    threads = list(dict.fromkeys(_threads(report) for report in reports))
    lines = []
    for number in threads:
        own = sorted((one for one in reports if _threads(one) == number), key=lambda report: report.batch)
        for index, name in enumerate(names):
            label = name if len(threads) == 1 or number == threads[0] else f"{name}, {number} threads"
            times = tuple(report.subjects[index].p50_ms.value for report in own)
            lines.append(Curve(label, tuple(float(report.batch) for report in own), times))
    return tuple(lines)


def _threads(report: LatencyReport) -> str:
    return "/".join(sorted({str(subject.facts.threads) for subject in report.subjects}))
