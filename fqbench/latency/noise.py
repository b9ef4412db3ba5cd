"""What else the machine did while it measured: other programs, its host, and the clock of its cores."""

from __future__ import annotations

import os
from dataclasses import dataclass

from fqbench.latency.conditions import conditions
from fqbench.latency.steadiness import Doubt, Mark
from fqbench.machine import physical_cores, usable_cores

LARGEST_OTHER_SHARE = 0.10
LARGEST_STOLEN_SHARE = 0.02
LARGEST_FREQUENCY_CHANGE = 0.10
STEADY_GOVERNOR = "performance"


@dataclass(frozen=True)
class Glance:
    """The machine at one moment.

    Attributes
    ----------
    busy, stolen, total : float
        Seconds of all cores since the start of the system: busy, taken by a hypervisor, and all of them.
    own : float
        Seconds of this process, on all its threads.
    frequency_mhz : float or None
        Lowest current frequency of the cores that this process may use.
    """

    busy: float
    stolen: float
    total: float
    own: float
    frequency_mhz: float | None


def glance() -> Glance:
    """Look at the machine now."""
    import psutil

    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    stolen = getattr(times, "steal", 0.0)
    # Guests are counted among the user's seconds already.
    total = sum(getattr(times, name) for name in times._fields if not name.startswith("guest"))
    own = os.times()
    frequency = conditions(_still).frequency_mhz
    return Glance(
        total - idle - stolen, stolen, total, own.user + own.system, None if frequency is None else frequency[0]
    )


def noise(before: Glance, after: Glance, *, threads: int | None, governors: tuple[str, ...] | None) -> tuple[Mark, ...]:
    """Return the marks for what happened between two glances.

    Parameters
    ----------
    before, after : Glance
        Around the measured rounds.
    threads : int, optional
        Largest number of threads of a subject.
    governors : tuple of str, optional
        Frequency governors of the cores.
    """
    marks = []
    total = after.total - before.total
    if total > 0:
        other = max(0.0, (after.busy - before.busy) - (after.own - before.own)) / total
        if other > LARGEST_OTHER_SHARE:
            text = "of the cores' time went to other programs while this was measured; stop them and measure again."
            marks.append(Mark(Doubt.OTHER_LOAD, f"{other:.0%} {text}"))
        stolen = (after.stolen - before.stolen) / total
        if stolen > LARGEST_STOLEN_SHARE:
            marks.append(Mark(Doubt.STOLEN, f"{stolen:.0%} of the cores' time was taken by the host of this machine."))
    if before.frequency_mhz and after.frequency_mhz:
        change = after.frequency_mhz / before.frequency_mhz - 1
        if abs(change) > LARGEST_FREQUENCY_CHANGE:
            text = f"the cores' frequency changed by {change:+.0%} while this was measured; fix it, or let it warm up."
            marks.append(Mark(Doubt.FREQUENCY, text))
    if governors is not None and set(governors) != {STEADY_GOVERNOR}:
        text = f"the frequency governor is {', '.join(governors)}; `cpupower frequency-set -g performance` fixes it."
        marks.append(Mark(Doubt.GOVERNOR, text))
    cores = physical_cores()
    if threads is not None and cores is not None and cores < threads <= usable_cores():
        text = f"{threads} threads share {cores} real core(s), whose units for arithmetic exist once; use {cores}."
        marks.append(Mark(Doubt.FEW_CORES, text))
    return tuple(marks)


def _still() -> int:
    return 0
