"""Peak memory of one artifact, measured in a process of its own, ``python -m fqbench.latency.memory``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fqbench.contracts.artifacts import Artifact
from fqbench.contracts.scheme import Scheme

PROCESS_STATUS = Path("/proc/self/status")
CALLS = 5
PATIENCE = 600.0


@dataclass(frozen=True)
class PeakMemory:
    """How much memory a process takes that loads an artifact and answers.

    Attributes
    ----------
    peak : int or None
        Largest resident set of the process, bytes: Python, the runtime and the model. None where not measurable.
    before : int or None
        Resident set before the artifact was loaded; the runtime itself is usually loaded after that.
    reason : str
        Why there is no figure.
    """

    peak: int | None
    before: int | None
    reason: str = ""

    @property
    def added(self) -> int | None:
        """What runtime and model took on top of Python."""
        return None if self.peak is None or self.before is None else self.peak - self.before

    def to_dict(self) -> dict[str, int | str | None]:
        """Return JSON values."""
        return {**asdict(self), "added": self.added}


def peak_memory(
    artifact: Artifact, input_shape: tuple[int, int, int], *, batch: int = 1, threads: int = 1, device: str = "cpu"
) -> PeakMemory:
    """Measure the peak memory of loading an artifact and running it a few times.

    A fresh interpreter does it, since a peak never falls: in this process it would be that of whatever ran before.
    The artifact travels by its path and its backend by its name, so nothing has to be picklable. The run's times are
    dropped. On Linux the peak is ``VmHWM``: ``ru_maxrss`` survives ``exec`` there and would report the parent's.

    Parameters
    ----------
    artifact : Artifact
        Its backend must be installed, not merely defined in this process.
    input_shape : tuple of int
        Channels, height and width of one image; the values are noise.
    batch, threads, device
        As for the latency.

    Returns
    -------
    PeakMemory
        Without figures, and with the reason, where the child process failed: a latency report does without.
    """
    question = _question(artifact, [batch, *input_shape], threads, device)
    # The child finds the same plug-ins, also those on a path that only this process knows.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        child = subprocess.run(
            [sys.executable, "-m", "fqbench.latency.memory"],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            env=environment,
            timeout=PATIENCE,
            check=True,
        )
        answer = json.loads(child.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines()
        return PeakMemory(None, None, lines[-1] if lines else f"the measuring process ended with {error.returncode}")
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError, TypeError) as error:
        return PeakMemory(None, None, f"{type(error).__name__}: {error}")
    return PeakMemory(answer["peak"], answer["before"], answer["reason"])


def _question(artifact: Artifact, shape: list[int], threads: int, device: str) -> dict[str, Any]:
    return {
        "artifact": {
            "backend": artifact.backend,
            "scheme": artifact.scheme.model_dump(mode="json"),
            "root": str(artifact.root.absolute()),
            "files": list(artifact.files),
            "details": dict(artifact.details),
        },
        "shape": shape,
        "threads": threads,
        "device": device,
    }


def _answer(question: dict[str, Any]) -> PeakMemory:
    import numpy as np

    from fqbench.plugins import backend

    described = question["artifact"]
    artifact = Artifact(
        backend=described["backend"],
        scheme=Scheme.model_validate(described["scheme"]),
        root=Path(described["root"]),
        files=tuple(described["files"]),
        details=described["details"],
    )
    runtime = backend(artifact.backend)
    images = np.random.default_rng(0).standard_normal(question["shape"], dtype=np.float32)
    before = _resident("VmRSS")
    session = runtime.load(artifact, threads=question["threads"], device=question["device"])
    for _ in range(CALLS):
        session.run(images)
    peak = _resident("VmHWM")
    return PeakMemory(peak, before, "" if peak is not None else f"{sys.platform} does not tell a process's peak memory")


def _resident(field: str) -> int | None:
    """Bytes of one field of Linux's process status; elsewhere what the system has instead."""
    if PROCESS_STATUS.is_file():
        for line in PROCESS_STATUS.read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0]) * 1024
        return None
    import psutil

    info = psutil.Process().memory_info()
    if field == "VmRSS":
        return int(info.rss)
    windows_peak = getattr(info, "peak_wset", None)
    if windows_peak is not None:
        return int(windows_peak)
    return _largest_resident_set()


def _largest_resident_set() -> int | None:
    if sys.platform != "darwin":
        return None
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes there, and its exec starts at zero


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_answer(json.load(sys.stdin)))) + "\n")
