"""How far a quantized model's answers are from FP32's on the same images: what choices between two rest on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class AnswerDivergence:
    """Distance of one model's answers from another's.

    Attributes
    ----------
    kl_divergence : float
        Mean Kullback-Leibler divergence from FP32's probabilities to the model's, nats; 0 is ideal.
    agreement : float
        Share of images with the same answer; 1 is ideal.
    images : int
        How many images.
    """

    kl_divergence: float
    agreement: float
    images: int

    def to_dict(self) -> dict[str, float]:
        """Return JSON values."""
        return asdict(self)


def answer_divergence(reference: NDArray[np.float32], answers: NDArray[np.float32]) -> AnswerDivergence:
    """Compare logits, both (images, classes), with those of FP32."""
    from scipy.special import log_softmax

    expected = log_softmax(reference.astype(np.float64), axis=1)
    found = log_softmax(answers.astype(np.float64), axis=1)
    kl_divergence = (np.exp(expected) * (expected - found)).sum(axis=1)
    same = reference.argmax(axis=1) == answers.argmax(axis=1)
    return AnswerDivergence(float(kl_divergence.mean()), float(same.mean()), len(reference))
