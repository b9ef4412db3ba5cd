"""The time that a search may take: read from ``20m``, and counted across interruptions."""

from __future__ import annotations

import re
import time
from pathlib import Path

from fqbench.errors import InputError
from fqbench.storage import write_whole

UNITS = {"h": 3600, "m": 60, "s": 1}
FILE = "seconds.txt"


def seconds_of(text: str) -> float:
    """Read ``90s``, ``20m``, ``1.5h`` or ``1h30m``.

    Raises
    ------
    InputError
        It is something else, or nothing could be tried in it.
    """
    found = re.fullmatch(r"\s*" + "".join(rf"(?:(\d+(?:\.\d+)?)\s*{unit}\s*)?" for unit in UNITS), text)
    if not found or not any(found.groups()):
        raise InputError(f"--budget takes a time with its unit, as in 90s, 20m or 1h30m; not {text!r}.")
    seconds = sum(float(count or 0) * size for count, size in zip(found.groups(), UNITS.values(), strict=True))
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
