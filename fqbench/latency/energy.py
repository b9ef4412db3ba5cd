"""Energy of the processor package from RAPL's counters, where Linux lets this process read them.

Source: "Power Capping Framework", https://docs.kernel.org/power/powercap/powercap.html: ``energy_uj`` counts
microjoules and starts again at 0 after ``max_energy_range_uj``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fqbench.latency.modes import Energy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fqbench.plugins import Session

POWERCAP = Path("/sys/class/powercap")
MICROJOULES = 1e6
SHORTEST = 2.0  # seconds; the counters are updated about every millisecond


@dataclass(frozen=True)
class EnergyMeter:
    """The counters of all packages.

    Attributes
    ----------
    zones : tuple of Path
        Folders ``intel-rapl:N``; AMD's processors have the same name.
    """

    zones: tuple[Path, ...]

    def read(self) -> tuple[int, ...]:
        """Return microjoules of each package since some time in the past."""
        return tuple(int((zone / "energy_uj").read_text(encoding="ascii")) for zone in self.zones)

    def joules(self, before: Sequence[int], after: Sequence[int]) -> float:
        """Return the energy between two readings, one overflow of a counter included."""
        total = 0
        for zone, old, new in zip(self.zones, before, after, strict=True):
            span = 0 if new >= old else int((zone / "max_energy_range_uj").read_text(encoding="ascii"))
            total += new - old + span
        return total / MICROJOULES


def energy_meter(root: Path = POWERCAP) -> EnergyMeter | str:
    """Return the counters, or why there are none."""
    zones = tuple(sorted(root.glob("intel-rapl:[0-9]"))) if root.is_dir() else ()
    if not zones:
        return f"this machine has no energy counters ({root}/intel-rapl:0)"
    meter = EnergyMeter(zones)
    try:
        meter.read()
    except (OSError, ValueError) as error:
        return f"the energy counters cannot be read ({error}); root may read them"
    return meter


def measure_energy(
    session: Session,
    inputs: Sequence[NDArray[np.float32]],
    *,
    seconds: float,
    meter: EnergyMeter | str,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Energy:
    """Measure the energy of a session that answers for a while; nothing else is timed meanwhile.

    Parameters
    ----------
    session : Session
        Warm already.
    inputs : sequence of ndarray
        Batches.
    seconds : float
        How long, at least two; the package is first left idle for half of it.
    meter : EnergyMeter or str
        The counters, or why there are none.
    clock, sleep : callable
        Seconds.
    """
    if isinstance(meter, str):
        return Energy(None, reason=meter)
    wanted = max(seconds, SHORTEST)
    start, before = clock(), meter.read()
    sleep(wanted / 2)
    idle = meter.joules(before, meter.read()) / (clock() - start)
    start, before, images, turn = clock(), meter.read(), 0, 0
    while (elapsed := clock() - start) < wanted:
        batch = inputs[turn % len(inputs)]
        session.run(batch)
        images, turn = images + len(batch), turn + 1
    joules = meter.joules(before, meter.read())
    return Energy(joules / images, idle, images, elapsed)
