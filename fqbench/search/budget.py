"""The time that a search may take: read from ``20m``, and counted across interruptions."""

from __future__ import annotations

import re
import time
from pathlib import Path

from fqbench.errors import InputError
from fqbench.storage import write_whole

UNITS = {"s": 1, "m": 60, "h": 3600}
FILE = "seconds.txt"


def seconds_of(text: str) -> float:
    """Read ``90s``, ``20m`` or ``1.5h``.

    Raises
    ------
    InputError
        It is something else, or nothing could be tried in it.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh])\s*", text)
    if not found:
        raise InputError(f"--budget takes a time with its unit, as in 90s, 20m or 1.5h; not {text!r}.")
    seconds = float(found[1]) * UNITS[found[2]]
    if seconds == 0:
        raise InputError("a --budget of zero leaves no time for a single trial; give some minutes, as in 20m.")
    return seconds


class Budget:
    """Seconds that are left; what an interrupted run of the same search has used is kept in a folder.

    Parameters
    ----------
    seconds : float
        In all.
    kept : Path
        Folder that the time used is written to.
    """

    def __init__(self, seconds: float, kept: Path) -> None:
        self.seconds, self._file = seconds, kept / FILE
        try:
            self._before = float(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # the first run, or a damaged file: nothing was used
            self._before = 0.0
        self._start = time.monotonic()

    @property
    def used(self) -> float:
        """Seconds used so far, those of interrupted runs included."""
        return self._before + time.monotonic() - self._start

    @property
    def left(self) -> bool:
        """Whether there is time for another trial."""
        return self.used < self.seconds

    def keep(self) -> None:
        """Write down what was used."""
        write_whole(self._file, f"{self.used:.1f}\n")
