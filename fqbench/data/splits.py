"""Training, validation and test splits that keep every group's share and its share of each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARES: Mapping[str, float] = {"test": 0.20, "val": 0.10}
VAL_ONLY: Mapping[str, float] = {"val": 0.10}  # where the data bring their own test split


def stratified_split(
    groups: NDArray[np.str_], labels: NDArray[np.int64], *, seed: int, shares: Mapping[str, float] = SHARES
) -> NDArray[np.str_]:
    """Assign about 70 % of the rows to train, 10 % to val and 20 % to test, group by group.

    Within a group the held-out rows are taken evenly along the labels, so each class keeps its share to within one
    row. A group of three rows or more occurs in every split.

    Parameters
    ----------
    groups : ndarray of str, shape (rows,)
        Name of the group of each row.
    labels : ndarray of int, shape (rows,)
        Class of each row.
    seed : int
        Seed of the shuffle within each group and class.
    shares : mapping
        Share of the rows that each held-out split gets; the rest is train.

    Returns
    -------
    ndarray of str, shape (rows,)
        "train", "val" or "test".
    """
    generator = np.random.default_rng(seed)
    tie_break = generator.random(len(labels))
    split = np.full(len(labels), "train", dtype="<U5")
    carry = dict.fromkeys(shares, 0.0)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        rows = rows[np.lexsort((tie_break[rows], labels[rows]))]
        size = len(rows)
        for name, share in shares.items():
            wanted = share * size + carry[name]
            least = 1 if size >= 3 else 0
            most = len(rows) - (1 if size >= 3 else 0)
            count = min(max(round(wanted), least), most)
            # What rounding gives or takes is handed to the next group, but no more than one row's worth:
            # many small groups must not starve a large one.
            carry[name] = float(np.clip(wanted - count, -0.5, 0.5))
            if count:
                taken = ((np.arange(count) + generator.random()) * len(rows) / count).astype(np.int64)
                split[rows[taken]] = name
                rows = np.delete(rows, taken)
    return split
