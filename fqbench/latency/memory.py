"""Peak memory and cold start of one artifact, in a fresh process, ``python -m fqbench.latency.memory``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fqbench.contracts.artifacts import Artifact
from fqbench.latency.modes import ColdStart
from fqbench.latency.results import PeakMemory

PROCESS_STATUS = Path("/proc/self/status")
CALLS = 5
PATIENCE = 600.0
MILLISECONDS = 1000.0


@dataclass(frozen=True)
class FreshProcess:
    """What a fresh process that loads an artifact and answers needs; no cold start where it failed."""

    memory: PeakMemory
    cold_start: ColdStart | None = None


def fresh_process(
    artifact: Artifact,
    input_shape: tuple[int, int, int],
    *,
    batch: int = 1,
    threads: int = 1,
    device: str = "cpu",
    options: Mapping[str, Any] | None = None,
) -> FreshProcess:
    """Measure peak memory and cold start of loading an artifact and running it a few times.

    A fresh interpreter does it, since a peak never falls: in this process it would be that of whatever ran before.
    The artifact travels by its path and its backend by its name, so nothing has to be picklable. Only the first call
    is timed. On Linux the peak is ``VmHWM``: ``ru_maxrss`` survives ``exec`` there and would report the parent's.

    Parameters
    ----------
    artifact : Artifact
        Its backend must be installed, not merely defined in this process.
    input_shape : tuple of int
        Channels, height and width of one image; the values are noise.
    batch, threads, device, options
        As for the latency; the options are the backend's own.

    Returns
    -------
    FreshProcess
        Without figures, and with the reason, where the child process failed: a latency report does without.
    """
    question = {
        "artifact": artifact.to_dict() | {"root": str(artifact.root.absolute())},
        "shape": [batch, *input_shape],
        "threads": threads,
        "device": device,
        "options": dict(options or {}),
        "started": time.time(),
    }
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
        reason = lines[-1] if lines else f"the measuring process ended with {error.returncode}"
        return FreshProcess(PeakMemory(None, None, reason))
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError, TypeError) as error:
        return FreshProcess(PeakMemory(None, None, f"{type(error).__name__}: {error}"))
    return FreshProcess(PeakMemory(**answer["memory"]), ColdStart(**answer["cold_start"]))


def _answer(question: dict[str, Any]) -> FreshProcess:
    import numpy as np

    from fqbench.plugins import backend

    artifact = Artifact.from_dict(question["artifact"], Path(question["artifact"]["root"]))
    runtime = backend(artifact.backend, question["options"])
    images = np.random.default_rng(0).standard_normal(question["shape"], dtype=np.float32)
    before = _resident("VmRSS")
    process_ms, begin = (time.time() - question["started"]) * MILLISECONDS, time.perf_counter()
    session = runtime.load(artifact, threads=question["threads"], device=question["device"])
    loaded = time.perf_counter()
    session.run(images)
    answered = time.perf_counter()
    start = ColdStart(process_ms, (loaded - begin) * MILLISECONDS, (answered - loaded) * MILLISECONDS)
    for _ in range(CALLS - 1):
        session.run(images)
    peak = _resident("VmHWM")
    reason = "" if peak is not None else f"{sys.platform} does not report a process's peak memory"
    return FreshProcess(PeakMemory(peak, before, reason), start)


def _resident(field: str) -> int | None:
    """Bytes of one field of Linux's process status, or the equivalent of another system."""
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
