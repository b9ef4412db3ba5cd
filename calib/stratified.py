"""Stratified sampling: every group in the data's own proportion, exactly."""

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


class Stratified:
    """As many images of each group as its share of the data says, to within one image (largest remainders).

    A group whose share is below one image gets one, as long as there are as many images as groups: ranges that know
    nothing of a group cannot be weighted for it.
    """

    name = "stratified"

    def sample(
        self, samples: pd.DataFrame, n: int, *, by: Sequence[str], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return ``n`` row positions; they repeat only where ``n`` exceeds the data."""
        names, codes = np.unique(group_labels(samples, by), return_inverse=True)
        shares = apportion(np.bincount(codes, minlength=len(names)).astype(np.float64), n, rng)
        chosen = [draw(np.flatnonzero(codes == code), int(share), rng) for code, share in enumerate(shares)]
        return rng.permutation(np.concatenate(chosen)).astype(np.int64)
