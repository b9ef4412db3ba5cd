"""Further figures of one subject: cold start, throughput of several sessions, energy, and MLPerf's scenarios."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fqbench.latency.interval import Interval


@dataclass(frozen=True)
class ColdStart:
    """One start of a fresh process that answers one batch.

    Attributes
    ----------
    process_ms : float
        From the start of the process until Python and fqbench are loaded.
    load_ms : float
        Loading the runtime and the artifact.
    first_answer_ms : float
        The first call.
    """

    process_ms: float
    load_ms: float
    first_answer_ms: float

    @property
    def total_ms(self) -> float:
        """From the start of the process to the first answer."""
        return self.process_ms + self.load_ms + self.first_answer_ms

    def to_dict(self) -> dict[str, float]:
        """Return JSON values."""
        return {**asdict(self), "total_ms": self.total_ms}


@dataclass(frozen=True)
class Throughput:
    """Images a second of several sessions that answer at the same time.

    Attributes
    ----------
    sessions : int
        Each in a thread of its own, with the runtime's own threads.
    images_per_second : Interval
        Images over time of all windows; bootstrap over windows.
    windows : tuple of (int, int)
        Images and nanoseconds of each window, in order.
    calls_ns : tuple of int
        Every call of every session.
    """

    sessions: int
    images_per_second: Interval
    windows: tuple[tuple[int, int], ...]
    calls_ns: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, raw times included."""
        return {
            "sessions": self.sessions,
            "images_per_second": self.images_per_second.to_dict(),
            "windows": [list(window) for window in self.windows],
            "calls_ns": list(self.calls_ns),
        }


@dataclass(frozen=True)
class Energy:
    """Energy of one subject, read from the processor's own counters.

    Attributes
    ----------
    joules_per_image : float or None
        Of the whole processor package, whatever else it does; None where it cannot be read.
    idle_watts : float or None
        Of the package while this process slept, before.
    images : int
        Images answered.
    seconds : float
        For how long.
    reason : str
        Why there is no figure.
    """

    joules_per_image: float | None
    idle_watts: float | None = None
    images: int = 0
    seconds: float = 0.0
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class MlperfResult:
    """What MLPerf's load generator says of one subject in one scenario; not a submission.

    Attributes
    ----------
    scenario : str
        ``single-stream`` or ``offline``.
    value : float
        Milliseconds at the 90th percentile, or samples a second.
    unit : str
        ``ms`` or ``samples/s``.
    valid : bool
        Whether the load generator's own rules hold for this duration.
    version : str
        Of the load generator.
    summary : str
        Its summary, as it wrote it.
    """

    scenario: str
    value: float
    unit: str
    valid: bool
    version: str
    summary: str

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)
