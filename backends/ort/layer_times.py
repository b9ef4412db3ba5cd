"""How long each kernel of ONNX Runtime takes, from its own profiler."""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from .arithmetic import DISABLED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WARM_UP = 3
ENDING = "_kernel_time"
# What the optimizer appends to the name of an operator that it replaces: for a quantized or a blocked layout.
APPENDED = re.compile(r"(_token_\d+|_nchwc)+$")


def profiled_times(
    model: Path | bytes, options: Any, providers: list[str], images: NDArray[np.float32]
) -> dict[str, float]:
    """Return the median milliseconds of each kernel, by the operator that it executes.

    Parameters
    ----------
    model : Path or bytes
        What is loaded.
    options : onnxruntime.SessionOptions
        As it is loaded for answering; profiling is turned on in them.
    providers : list of str
        Execution providers.
    images : ndarray of float32, shape (N, 3, H, W)
        Each is run on its own, after some that only warm up.
    """
    import onnxruntime as ort

    with tempfile.TemporaryDirectory(prefix="fqbench-profile-") as scratch:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch) / "profile")
        session = ort.InferenceSession(model, options, providers=providers, disabled_optimizers=DISABLED)
        name = session.get_inputs()[0].name
        for image in (*images[:WARM_UP], *images):
            session.run(None, {name: image[None]})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return times_of(events, runs=len(images))


def times_of(events: list[dict[str, Any]], runs: int) -> dict[str, float]:
    """Return the medians over the last runs of a profile, in milliseconds."""
    found: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(ENDING):
            found[event["name"].removesuffix(ENDING)].append(event["dur"] / 1000)
    times: dict[str, float] = defaultdict(float)
    for name, durations in found.items():
        times[APPENDED.sub("", name)] += median(durations[-runs:])
    return dict(times)
