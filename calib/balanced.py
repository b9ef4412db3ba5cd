"""Balanced sampling: equal counts per intersectional group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fqbench.data.samples import group_labels

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


class Balanced:
    """The same number of images from every group; with replacement only in groups that are too small.

    If ``n`` is not a multiple of the number of groups, the groups that get one more image are drawn.
    """

    name = "balanced"

    def sample(
        self, samples: pd.DataFrame, n: int, *, by: Sequence[str], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return ``n`` row positions; they repeat only within a group smaller than its share."""
        names, codes = np.unique(group_labels(samples, by), return_inverse=True)
        shares = np.full(len(names), n // len(names))
        shares[rng.permutation(len(names))[: n % len(names)]] += 1
        chosen = [draw(np.flatnonzero(codes == code), int(share), rng) for code, share in enumerate(shares)]
        return rng.permutation(np.concatenate(chosen)).astype(np.int64)


def draw(rows: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw ``n`` of ``rows``: each as often as the others, one more for a random few where ``n`` exceeds them."""
    whole, rest = divmod(n, len(rows))
    return np.concatenate([np.tile(rows, whole), rng.choice(rows, size=rest, replace=False)])
