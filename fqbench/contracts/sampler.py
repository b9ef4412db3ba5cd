"""The protocol of calibration samplers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


@runtime_checkable
class Sampler(Protocol):
    """A strategy that chooses calibration images."""

    name: str

    def sample(
        self, samples: pd.DataFrame, n: int, *, by: Sequence[str], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return ``n`` row positions in ``samples``; a position may repeat where a group is too small."""
        ...
