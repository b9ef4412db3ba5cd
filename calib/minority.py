"""Minority sampling: the smaller a group, the more images of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fqbench.data.samples import group_labels

from .balanced import draw
from .shares import apportion

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


class Minority:
    """Small groups over-sampled beyond balance: a group's share is proportional to one over the root of its size.

    A group a hundred times smaller than another gets ten times as many images (``balanced`` gives it as many); with
    replacement where it has too few.
    """

    name = "minority"

    def sample(
        self, samples: pd.DataFrame, n: int, *, by: Sequence[str], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return ``n`` row positions; they repeat only within a group smaller than its share."""
        names, codes = np.unique(group_labels(samples, by), return_inverse=True)
        shares = apportion(np.bincount(codes, minlength=len(names)).astype(np.float64) ** -0.5, n, rng)
        chosen = [draw(np.flatnonzero(codes == code), int(share), rng) for code, share in enumerate(shares)]
        return rng.permutation(np.concatenate(chosen)).astype(np.int64)
