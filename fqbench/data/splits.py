"""Training, validation and test splits that keep every group's share and its share of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def split_rows(
    named: Sequence[str] | None, groups: NDArray[np.str_], labels: NDArray[np.int64], *, seed: int
) -> tuple[NDArray[np.str_], str]:
    """Return the split of each row, and what was done for it: the data's own, completed; where None, a new one."""
    if named is None:
        return stratified_split(groups, labels, seed=seed), ""
    return complete_splits(np.asarray(named), groups, labels, seed=seed)


def complete_splits(
    split: NDArray[np.str_], groups: NDArray[np.str_], labels: NDArray[np.int64], *, seed: int
) -> tuple[NDArray[np.str_], str]:
    """Complete the splits: make a missing train, val or test split from the existing ones.

    Parameters
    ----------
    split : ndarray of str, shape (rows,)
        "train", "val" or "test" as the data have it.
    groups, labels, seed
        See `stratified_split`.

    Returns
    -------
    ndarray of str, shape (rows,)
        The split of each row: train alone is divided 70/10/20; where only test is missing, the data's val is the test
        split, as FairFace's is; a missing val is 10 % of train. Others stay as they are.
    str
        What was done, for reports; empty where nothing was.
    """
    present = set(np.unique(split).tolist())
    if "train" not in present or present == {"train", "val", "test"}:
        return split, ""
    if present == {"train"}:
        return stratified_split(
            groups, labels, seed=seed
        ), f"the data come without splits, split 70/10/20 with seed {seed}"
    made = np.where(split == "val", "test", split)
    train = made == "train"
    made[train] = stratified_split(groups[train], labels[train], seed=seed, shares=VAL_ONLY)
    taken = f"val is 10 % of the data's train split (seed {seed})"
    return made, taken if "test" in present else f"test is the data's own val split, and {taken}"
