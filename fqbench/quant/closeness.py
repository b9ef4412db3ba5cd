"""How close a quantized model's answers are to FP32's on the same images: what choices between two of them rest on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.plugins import Session


@dataclass(frozen=True)
class Closeness:
    """Distance of one model's answers from another's.

    Attributes
    ----------
    divergence : float
        Mean Kullback-Leibler divergence from FP32's probabilities to the model's, nats; 0 is ideal.
    agreement : float
        Share of images with the same answer; 1 is ideal.
    images : int
        How many images.
    """

    divergence: float
    agreement: float
    images: int

    def to_dict(self) -> dict[str, float]:
        """Return JSON values."""
        return asdict(self)


def closeness(reference: NDArray[np.float32], answers: NDArray[np.float32]) -> Closeness:
    """Compare logits, both (images, classes), with those of FP32."""
    expected, found = _log_softmax(reference), _log_softmax(answers)
    divergence = (np.exp(expected) * (expected - found)).sum(axis=1)
    same = reference.argmax(axis=1) == answers.argmax(axis=1)
    return Closeness(float(divergence.mean()), float(same.mean()), len(reference))


def reference_logits(model: Path, batches: Iterable[NDArray[np.float32]], threads: int) -> NDArray[np.float32]:
    """Answer with the FP32 graph on the core's reference executor."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    logits: NDArray[np.float32] = np.concatenate([session.run(None, {name: batch})[0] for batch in batches])
    return logits


def answers_of(session: Session, batches: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Answer with a loaded artifact."""
    return np.concatenate([session.run(batch) for batch in batches])


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
