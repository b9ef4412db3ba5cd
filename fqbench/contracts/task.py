"""What the outputs of a model stand for: classes that exclude each other, or attributes that are each there or not."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PredictionTask(StrEnum):
    """What is predicted.

    ``CLASSES``: one class per image, the one with the largest logit. ``ATTRIBUTES``: several attributes per image, each
    by a logit of its own, and present from a logit of 0 on (a probability of one half).
    """

    CLASSES = "classes"
    ATTRIBUTES = "attributes"

    def answers(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Return what logits (images, outputs) predict.

        Returns
        -------
        ndarray of int64
            The class of each image, shape (images,), or 0 and 1 for each attribute, shape (images, attributes).
        """
        if self is PredictionTask.ATTRIBUTES:
            return np.asarray(logits > 0, dtype=np.int64)
        return np.asarray(np.argmax(logits, axis=1), dtype=np.int64)

    def agreement(self, logits: NDArray[np.floating[Any]], others: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return for each image the share of the answers that two models share, shape (images,)."""
        same = self.answers(logits) == self.answers(others)
        return np.asarray(same.mean(axis=1) if same.ndim == 2 else same, dtype=np.float64)

    def divergence(self, logits: NDArray[np.floating[Any]], others: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the KL divergence of each image from the probabilities of the first to those of the second model.

        Returns
        -------
        ndarray of float64, shape (images,)
            Nats; for attributes the mean over them of the divergence of two outcomes.
        """
        expected, found = self._log_probabilities(logits), self._log_probabilities(others)
        per_output = (np.exp(expected) * (expected - found)).sum(axis=-1)
        return np.asarray(per_output.mean(axis=1) if per_output.ndim == 2 else per_output)

    def probabilities(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return probabilities (images, outputs) in float64: a softmax of the classes, or a sigmoid per attribute."""
        found = np.exp(self._log_probabilities(logits))
        return np.asarray(found[..., 1] if self is PredictionTask.ATTRIBUTES else found)

    def _log_probabilities(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        from scipy.special import log_softmax

        values = logits.astype(np.float64)
        values = two_classes(values) if self is PredictionTask.ATTRIBUTES else values
        return np.asarray(log_softmax(values, axis=-1))


def two_classes(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the logits of "no" and "yes" for attributes of any shape; two logits are put in a new last axis."""
    half = logits.astype(np.float64) / 2
    return np.stack([-half, half], axis=-1)
