"""The conditions of a measurement: the timer and the state of the machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

CPUFREQ = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Conditions:
    """Metadata as pyperf records them; None where this machine does not provide a value.

    Attributes
    ----------
    timer : str
        Name of the clock.
    timer_resolution : float
        Nanoseconds, as the operating system declares it.
    timer_step : float
        Nanoseconds between two readings with nothing in between, median: what each time includes of the clock itself.
    affinity : tuple of int or None
        Cores that the process may use.
    governor : tuple of str or None
        Frequency governors of those cores, each once.
    frequency_mhz : tuple of float or None
        Lowest and highest current frequency of those cores.
    load_average : float or None
        Of the last minute, before the measurement.
    """

    timer: str
    timer_resolution: float
    timer_step: float
    affinity: tuple[int, ...] | None
    governor: tuple[str, ...] | None
    frequency_mhz: tuple[float, float] | None
    load_average: float | None

    def to_dict(self) -> dict[str, object]:
        """Return JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def conditions(clock: Callable[[], int]) -> Conditions:
    """Read the conditions now, and time the clock itself."""
    affinity = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None
    cores = affinity if affinity is not None else tuple(range(os.cpu_count() or 1))
    governors = _readings(cores, "scaling_governor")
    frequencies = _frequencies(cores)
    return Conditions(
        timer=getattr(clock, "__name__", type(clock).__name__),
        timer_resolution=time.get_clock_info("perf_counter").resolution * 1e9,
        timer_step=timer_step(clock),
        affinity=affinity,
        governor=tuple(sorted(set(governors))) or None,
        frequency_mhz=(min(frequencies), max(frequencies)) if frequencies else None,
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def timer_step(clock: Callable[[], int], readings: int = 1000) -> float:
    """Return the median difference of consecutive readings of ``clock``, in its own unit."""
    differences = []
    for _ in range(readings):
        start = clock()
        stop = clock()
        differences.append(stop - start)
    return float(sorted(differences)[readings // 2])


def _frequencies(cores: tuple[int, ...]) -> list[float]:
    import psutil

    try:
        every_core = psutil.cpu_freq(percpu=True)
    except (OSError, NotImplementedError, AttributeError):  # containers and some systems hide it
        return []
    found = [every_core[core].current for core in cores if core < len(every_core)]
    return [float(frequency) for frequency in found if frequency > 0]


def _readings(cores: tuple[int, ...], name: str) -> list[str]:
    found = []
    for core in cores:
        try:
            found.append((CPUFREQ / f"cpu{core}" / "cpufreq" / name).read_text(encoding="ascii").strip())
        except OSError:
            continue
    return found
