"""Hypothesis strategies for counts and predictions, for fqbench's own tests and other packages'."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from fqbench.fairness.counts import Counts, PairedCounts

if TYPE_CHECKING:
    from numpy.typing import NDArray

Predictions = tuple["NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.str_]"]


@st.composite
def tables(draw: st.DrawFn, *, groups: int, classes: int = 2, axes: int = 2, largest: int = 40) -> NDArray[np.int64]:
    """Draw a table of counts (groups, classes, ...); many cells are 0, so whole groups and classes can be missing."""
    cells = groups * classes**axes
    cell = st.one_of(st.just(0), st.integers(0, largest))
    values = draw(st.lists(cell, min_size=cells, max_size=cells))
    return np.asarray(values, dtype=np.int64).reshape(groups, *[classes] * axes)


@st.composite
def counts(draw: st.DrawFn, *, classes: int = 2, largest_groups: int = 5) -> Counts:
    """Draw counts of 1 to ``largest_groups`` groups; some may be empty, or lack positives or negatives."""
    groups = draw(st.integers(1, largest_groups))
    table = draw(tables(groups=groups, classes=classes))
    return Counts(tuple(f"g{i}" for i in range(groups)), tuple(map(str, range(classes))), table)


@st.composite
def full_counts(draw: st.DrawFn, *, classes: int = 2, largest_groups: int = 5) -> Counts:
    """Draw counts of 2 or more groups in which no cell is empty: every rate is defined."""
    groups = draw(st.integers(2, largest_groups))
    table = draw(tables(groups=groups, classes=classes)) + 1
    return Counts(tuple(f"g{i}" for i in range(groups)), tuple(map(str, range(classes))), table)


@st.composite
def paired_counts(draw: st.DrawFn, *, classes: int = 2, largest_groups: int = 4) -> PairedCounts:
    """Draw paired counts of 1 to ``largest_groups`` groups; cells may be empty."""
    groups = draw(st.integers(1, largest_groups))
    table = draw(tables(groups=groups, classes=classes, axes=3, largest=15))
    return PairedCounts(tuple(f"g{i}" for i in range(groups)), tuple(map(str, range(classes))), table)


def expand(table: Counts) -> Predictions:
    """Return arrays ``y_true, y_pred, groups`` that have exactly these counts; classes are integers."""
    group, label, pred = (np.repeat(axis.ravel(), table.table.ravel()) for axis in np.indices(table.table.shape))
    return label.astype(np.int64), pred.astype(np.int64), np.asarray(table.groups, dtype=np.str_)[group]
