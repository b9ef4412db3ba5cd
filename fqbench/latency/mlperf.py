"""MLPerf's own load generator as a second clock: SingleStream and Offline, on the artifacts that are timed here.

Source: https://github.com/mlcommons/inference/tree/master/loadgen. The result is the load generator's own; it is not a
submission, whose rules also fix the model, the data and the duration.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.errors import DataError
from fqbench.latency.modes import MlperfResult
from fqbench.optional import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.plugins import Session

LINE = ":::MLLOG "
NANOSECONDS_A_MILLISECOND = 1e6
HEADROOM = 1.5  # of the expected rate: Offline sends all samples at once, and must not be through too early
FEWEST_QUERIES = 64


def require_loadgen() -> Any:
    """Return the load generator's module.

    Raises
    ------
    UnavailableError
        It is not installed.
    """
    return require("mlperf_loadgen", extra="mlperf")


def run_loadgen(
    session: Session,
    images: NDArray[np.float32],
    *,
    scenario: str,
    seconds: float,
    batch: int = 1,
    images_per_second: float,
) -> MlperfResult:
    """Run one scenario of the load generator.

    Parameters
    ----------
    session : Session
        Warm already.
    images : ndarray of float32, shape (K, 3, H, W)
        Its library of samples.
    scenario : str
        ``single-stream``: one image at a time, the next when the last is answered. ``offline``: all at once, answered
        in batches.
    seconds : float
        Minimum duration.
    batch : int
        Images a call, for ``offline``.
    images_per_second : float
        What to expect, from which ``offline`` draws its number of samples.

    Raises
    ------
    UnavailableError
        mlcommons-loadgen is not installed.
    DataError
        It wrote no result.
    """
    loadgen = require_loadgen()
    kept: list[NDArray[np.float32]] = []  # answers must live until the load generator has read them

    def issue(samples: Any) -> None:
        size = 1 if scenario == "single-stream" else batch
        for start in range(0, len(samples), size):
            chosen = samples[start : start + size]
            logits = np.ascontiguousarray(session.run(images[[sample.index for sample in chosen]]))
            kept[:] = [logits]
            responses = [
                loadgen.QuerySampleResponse(sample.id, row.ctypes.data, row.nbytes)
                for sample, row in zip(chosen, logits, strict=True)
            ]
            loadgen.QuerySamplesComplete(responses)

    settings = loadgen.TestSettings()
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.scenario = loadgen.TestScenario.Offline if scenario == "offline" else loadgen.TestScenario.SingleStream
    settings.min_duration_ms = int(seconds * 1000)
    settings.min_query_count = 1 if scenario == "offline" else FEWEST_QUERIES
    settings.offline_expected_qps = images_per_second * HEADROOM
    with tempfile.TemporaryDirectory(prefix="fqbench-loadgen-") as scratch:
        log = loadgen.LogSettings()
        log.enable_trace = False
        log.log_output.outdir = scratch
        log.log_output.copy_summary_to_stdout = log.log_output.copy_detail_to_stdout = False
        system = loadgen.ConstructSUT(issue, lambda: None)
        library = loadgen.ConstructQSL(len(images), len(images), lambda _rows: None, lambda _rows: None)
        try:
            loadgen.StartTestWithLogSettings(system, library, settings, log)
        finally:
            loadgen.DestroyQSL(library)
            loadgen.DestroySUT(system)
        folder = Path(scratch)
        detail = (folder / "mlperf_log_detail.txt").read_text(encoding="utf-8")
        summary = (folder / "mlperf_log_summary.txt").read_text(encoding="utf-8")
    return read_result(scenario, logged(detail.splitlines()), summary)


def logged(lines: Sequence[str]) -> dict[str, Any]:
    """Return the keys and values of the load generator's detailed log."""
    entries = [json.loads(line.removeprefix(LINE)) for line in lines if line.startswith(LINE)]
    return {entry["key"]: entry["value"] for entry in entries}


def read_result(scenario: str, values: Mapping[str, Any], summary: str) -> MlperfResult:
    """Read the result of one scenario from the detailed log.

    Raises
    ------
    DataError
        It has none.
    """
    key = "result_samples_per_second" if scenario == "offline" else "result_90.00_percentile_latency_ns"
    if key not in values:
        raise DataError(f"MLPerf's load generator wrote no {key} for {scenario}; raise --seconds.")
    offline = scenario == "offline"
    return MlperfResult(
        scenario=scenario,
        value=float(values[key]) / (1 if offline else NANOSECONDS_A_MILLISECOND),
        unit="samples/s" if offline else "ms",
        valid=values.get("result_validity") == "VALID",
        version=str(values.get("loadgen_version", "")).split()[0] if values.get("loadgen_version") else "",
        summary=summary,
    )
