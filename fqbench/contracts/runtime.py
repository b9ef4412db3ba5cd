"""What a backend reports: its availability, its support of a scheme, and where the arithmetic of an artifact runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True)
class Availability:
    """What a backend can do on this machine; if something is missing, the reason and the remedy.

    Attributes
    ----------
    version : str or None
        Version of the runtime that would execute artifacts; None where it is not installed.
    devices : tuple of str
        Devices that it can execute on here; the first is the default.
    reason, remedy : str
        Why artifacts cannot be executed here, and how to change that.
    writer : str or None
        Version of what writes artifacts, where that is not the runtime itself.
    device_names : mapping
        Model names of devices that are not this machine's CPU.
    """

    version: str | None
    devices: tuple[str, ...] = ()
    reason: str = ""
    remedy: str = ""
    writer: str | None = None
    device_names: Mapping[str, str] = field(default_factory=dict)

    @property
    def can_run(self) -> bool:
        """Whether artifacts can be executed here."""
        return self.version is not None and bool(self.devices)

    @property
    def can_write(self) -> bool:
        """Whether artifacts can be written here."""
        return self.writes_with is not None

    @property
    def writes_with(self) -> str | None:
        """The version that an artifact's bytes depend on."""
        return self.writer or self.version


class Level(StrEnum):
    """How a scheme or a session is executed.

    ``native``: integer kernels (for a float scheme, kernels of its own type). ``packed``: stored at fewer bits, widened
    when it is loaded, and run in integer kernels. ``simulated``: integers rounded in float. ``emulated``: another
    runtime executes the graph. ``no``: not at all.
    """

    NATIVE = "native"
    PACKED = "packed"
    SIMULATED = "simulated"
    EMULATED = "emulated"
    NO = "no"

    @property
    def has_speed(self) -> bool:
        """Whether a latency at this level is meaningful for the runtime that ships the model."""
        return self in {Level.NATIVE, Level.PACKED}


@dataclass(frozen=True)
class Support:
    """How a runtime executes a scheme, on any machine; ``reason`` says why it cannot, ``nearest`` what to use instead.

    Never `Level.EMULATED`: whether a runtime is replaced by another one is a fact of a session, not of a scheme.
    """

    level: Level
    reason: str = ""
    nearest: str = ""


@dataclass(frozen=True)
class Arithmetic:
    """Where a loaded model's multiply-accumulates run, read from the runtime's own optimised graph.

    Attributes
    ----------
    integer_macs, total_macs : int
        Multiply-accumulates of one image that run in integer kernels, and all that were counted.
    uncounted : tuple of str
        Operator types that multiply but that could not be counted; the share is a lower bound where there are any.
    half_macs : int
        Those in kernels of 16-bit floating-point numbers.
    fallback_macs : int
        Those that another device than the one asked for computes: what a GPU's provider leaves to the CPU.
    """

    integer_macs: int
    total_macs: int
    uncounted: tuple[str, ...] = ()
    half_macs: int = 0
    fallback_macs: int = 0

    @property
    def half_share(self) -> float:
        """Share of multiply-accumulates in kernels of 16-bit floats, 0 to 1; NaN where nothing multiplies."""
        return self.half_macs / self.total_macs if self.total_macs else float("nan")

    @property
    def fallback_share(self) -> float:
        """Share of multiply-accumulates that fell back to the CPU, 0 to 1; NaN where nothing multiplies."""
        return self.fallback_macs / self.total_macs if self.total_macs else float("nan")

    @property
    def integer_share(self) -> float:
        """Share of multiply-accumulates in integer kernels, 0 to 1; NaN where nothing multiplies."""
        return self.integer_macs / self.total_macs if self.total_macs else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "uncounted": list(self.uncounted)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Arithmetic:
        """Read what `to_dict` returned."""
        later = {name: values[name] for name in ("half_macs", "fallback_macs") if name in values}
        return cls(values["integer_macs"], values["total_macs"], tuple(values["uncounted"]), **later)
