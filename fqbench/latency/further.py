"""The measurements that are made after the rounds, where they were asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fqbench.latency.energy import energy_meter, measure_energy
from fqbench.latency.mlperf import run_loadgen
from fqbench.latency.throughput import measure_throughput
from fqbench.reporter import Reporter, Silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fqbench.config import BenchOptions
    from fqbench.latency.protocol import Subject
    from fqbench.latency.results import LatencyReport
    from fqbench.plugins import Session


def with_further(
    report: LatencyReport,
    subjects: Sequence[Subject],
    images: NDArray[np.float32],
    *,
    loaders: Sequence[Callable[[], Session]],
    asked: BenchOptions,
    reporter: Reporter | None = None,
) -> LatencyReport:
    """Return a report with throughput of several sessions, energy and MLPerf's figures, where they were asked for.

    Parameters
    ----------
    report : LatencyReport
        Of these subjects, in this order.
    subjects : sequence of Subject
        Warm from the rounds.
    images : ndarray of float32, shape (K, 3, H, W)
        Prepared inputs.
    loaders : sequence of callable
        Load a further session of each.
    asked : BenchOptions
        Sessions, energy, scenarios, seconds.
    reporter : Reporter, optional
        Told what begins.

    Raises
    ------
    UnavailableError
        MLPerf's load generator is not installed.
    """
    reporter, batch, found = reporter or Silent(), report.batch, list(report.subjects)
    if asked.sessions:
        reporter.say(f"measuring throughput with {asked.sessions} session(s) at a time")
        rates = measure_throughput(
            loaders, images, batch=batch, sessions=asked.sessions, seconds=asked.seconds, seed=asked.seed
        )
        found = [replace(one, throughput=rate) for one, rate in zip(found, rates, strict=True)]
    if asked.energy:
        meter = energy_meter()
        reporter.say(meter if isinstance(meter, str) else "measuring energy")
        inputs = [images[start : start + batch] for start in range(0, len(images) - batch + 1, batch)]
        read = [measure_energy(one.session, inputs, seconds=asked.seconds, meter=meter) for one in subjects]
        found = [replace(one, energy=energy) for one, energy in zip(found, read, strict=True)]
    for scenario in asked.mlperf:
        reporter.say(f"running MLPerf's load generator: {scenario}")
        results = [
            run_loadgen(
                subject.session,
                images,
                scenario=scenario,
                seconds=asked.seconds,
                batch=batch,
                images_per_second=one.images_per_second.value,
            )
            for subject, one in zip(subjects, found, strict=True)
        ]
        found = [replace(one, mlperf=(*one.mlperf, result)) for one, result in zip(found, results, strict=True)]
    return replace(report, subjects=tuple(found))
