"""Probabilities where logits are expected: how they are recognized, and the logits that they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST = 1e-7  # the least probability whose logarithm is taken
PERCENT = 100.0
FEWEST = 16  # numbers from 0 to 1 that are taken for independent probabilities; as many logits would not all be


def are_independent(values: NDArray[np.floating[Any]]) -> bool:
    """Whether numbers are probabilities of their own: at least 16 of them, all from 0 to 1."""
    return bool(values.size >= FEWEST and values.min() >= 0 and values.max() <= 1)


def whole_of(values: NDArray[np.floating[Any]]) -> float | None:
    """Return what each row (images, classes) of probabilities of classes sums to, 1 or 100 within 0.1 %, else None."""
    if values.shape[1] < 2 or not (values >= 0).all():
        return None
    sums = values.sum(axis=1)
    return next((whole for whole in (1.0, PERCENT) if np.allclose(sums / whole, 1, rtol=0, atol=1e-3)), None)


def log_odds(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the logits of independent probabilities, of any shape; both sides are at least 1e-7."""
    given = np.asarray(probabilities, dtype=np.float64)
    return np.asarray(np.log(np.maximum(given, LEAST)) - np.log(np.maximum(1 - given, LEAST)))


def logarithms(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the logits of probabilities of classes, of any shape; each is at least 1e-7."""
    return np.asarray(np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), LEAST)))
