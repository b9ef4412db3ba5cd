"""The reference executor of FP32 graphs: ONNX Runtime on the CPU, one set of options for parity and observing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.optional import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROVIDER = "CPUExecutionProvider"


def reference_session(
    model: Path | bytes,
    *,
    threads: int | None = None,
    optimize: bool = True,
    settings: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> Any:
    """Open an ONNX model for reference answers.

    Parameters
    ----------
    model : Path or bytes
        The file, or the serialized model.
    threads : int, optional
        Threads within an operator; onnxruntime's default where none are given.
    optimize : bool
        Whether the graph may be fused and rewritten.
    settings : mapping, optional
        Further entries of the session's configuration.
    quiet : bool
        Whether errors are raised only, and not written to stderr, too: for graphs that are tried.
    """
    ort = require("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 4 if quiet else 3
    options.inter_op_num_threads = 1
    # Idle threads of one session would spin on the cores that the next one needs.
    for name, value in {"session.force_spinning_stop": "1", **(settings or {})}.items():
        options.add_session_config_entry(name, value)
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if threads is not None:
        options.intra_op_num_threads = threads
    return ort.InferenceSession(model, options, providers=[PROVIDER])


def reference_logits(
    model: Path | bytes, batches: Iterable[NDArray[np.float32]], threads: int | None = None
) -> NDArray[np.float32]:
    """Return the first output of an FP32 graph for batches of images, concatenated."""
    session = reference_session(model, threads=threads)
    name = session.get_inputs()[0].name
    logits: NDArray[np.float32] = np.concatenate([session.run(None, {name: batch})[0] for batch in batches])
    return logits
