"""Columns of a user's table: which one is the label, which ones are sensitive features, and what the values mean."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fqbench.data.labels import MISSING, refuse_lookalikes
from fqbench.data.samples import FIXED_COLUMNS, GROUP_SEPARATOR, SPLITS, group_labels
from fqbench.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

MAX_VALUES = 20
UNKNOWN = "unknown"
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}

logger = logging.getLogger(__name__)


def label_column(table: pd.DataFrame, label: str | None, where: str, taken: Collection[str]) -> str:
    """Return the column of the label.

    Parameters
    ----------
    table : DataFrame
        The table.
    label : str or None
        The column asked for; None means ``label``.
    where : str
        Name of the table in messages.
    taken : collection of str
        Columns with another purpose: the file name, the split.

    Raises
    ------
    InputError
        There is no such column.
    """
    columns = [column for column in table.columns if column not in taken]
    if label is None:
        if "label" in columns:
            return "label"
        raise InputError(
            f"{where} has no column 'label'; add --label COLUMN with one of: {', '.join(columns) or '(it has none)'}."
        )
    if label not in columns:
        raise InputError(f"{where} has no label column {label!r}: {_hint(label, columns, where)}")
    return label


def sensitive_columns(
    table: pd.DataFrame, sensitive: Sequence[str] | None, where: str, taken: Collection[str]
) -> tuple[str, ...]:
    """Return the columns of the sensitive features: those asked for, else every named one with at most 20 values.

    Raises
    ------
    InputError
        There is no such column.
    """
    columns = [column for column in table.columns if column and column not in {*taken, *FIXED_COLUMNS}]
    if sensitive is not None:
        for feature in sensitive:
            if feature in FIXED_COLUMNS and feature in table.columns and feature not in taken:
                raise InputError(f"{where}: a sensitive feature cannot be called {feature!r}; rename that column.")
            if feature not in columns:
                raise InputError(f"{where} has no sensitive column {feature!r}: {_hint(feature, columns, where)}")
        return tuple(dict.fromkeys(sensitive))
    chosen = tuple(column for column in columns if table[column].nunique() <= MAX_VALUES)
    left_out = [column for column in columns if column not in chosen]
    if left_out:
        logger.warning(
            "%s: columns with more than %d values are not used as sensitive features unless you name them: %s.",
            where,
            MAX_VALUES,
            ", ".join(left_out),
        )
    return chosen


@dataclass(frozen=True)
class Grouping:
    """The groups of a table's rows.

    Attributes
    ----------
    features : tuple of str
        Names of the sensitive features.
    values : DataFrame of str
        A column for each.
    groups : ndarray of str, shape (rows,)
        The group of each row.
    """

    features: tuple[str, ...]
    values: pd.DataFrame
    groups: NDArray[np.str_]


def group_rows(
    table: pd.DataFrame,
    features: Sequence[str],
    codes: NDArray[np.int64],
    sensitive: Sequence[str] | None,
    where: str,
) -> Grouping:
    """Group the rows of a table by its sensitive features.

    Features that only spell the label in another way are left out, unless they were asked for: a group would have one
    class.

    Parameters
    ----------
    table : DataFrame of str
        Has a column for each feature.
    features : sequence of str
        As `sensitive_columns` chose them.
    codes : ndarray of int64, shape (rows,)
        The class of each row.
    sensitive : sequence of str or None
        The features that were asked for.
    where : str
        Name of the table in messages.

    Raises
    ------
    InputError
        As `groups_of` does.
    """
    kept = without_copies(features, table, codes, sensitive, where)
    values = groups_of(table, kept, where)
    return Grouping(kept, values, group_labels(values, kept))


def without_copies(
    features: Sequence[str],
    table: pd.DataFrame,
    codes: NDArray[np.int64],
    sensitive: Sequence[str] | None,
    where: str,
) -> tuple[str, ...]:
    """Leave out features that only spell the label in another way; see `group_rows`."""
    if sensitive is not None or len(table) <= MAX_VALUES:  # so few may agree by chance
        return tuple(features)
    classes = len(set(codes.tolist()))
    copies = [
        feature
        for feature in features
        if table[feature].nunique() == classes == len(set(zip(table[feature], codes.tolist(), strict=True)))
    ]
    if copies:
        logger.warning(
            "%s: columns that only repeat the label are not used as sensitive features unless you name them: %s.",
            where,
            ", ".join(copies),
        )
    return tuple(feature for feature in features if feature not in copies)


def groups_of(table: pd.DataFrame, features: Sequence[str], where: str) -> pd.DataFrame:
    """Return the columns of the sensitive features; a missing value becomes "unknown".

    Raises
    ------
    InputError
        Two values of a feature look like the same, or one holds the sign that joins values to groups.
    """
    import pandas as pd

    columns = {feature: table[feature].mask(table[feature].isin(MISSING), UNKNOWN) for feature in features}
    for feature, column in columns.items():
        values = column.unique().tolist()
        refuse_lookalikes(values, feature, where)
        joined = [value for value in values if GROUP_SEPARATOR in value]
        if joined:
            raise InputError(
                f"{where}: {joined[0]!r} in column {feature!r} contains {GROUP_SEPARATOR!r}, which separates the "
                "features of a group; write it with an x."
            )
    return pd.DataFrame(columns, index=table.index)


def named_splits(column: Sequence[str], names: Sequence[str], where: str) -> list[str]:
    """Return the split of each row, "train", "val" or "test", from the various names that tables use for them.

    Raises
    ------
    InputError
        A row has another one.
    """
    wrong = [(name, value) for name, value in zip(names, column, strict=True) if value.lower() not in SPLIT_NAMES]
    if wrong:
        name, value = wrong[0]
        raise InputError(
            f"{where}: {len(wrong)} row(s) have an unknown split, first {value!r} for {name}; "
            f"use {', '.join(SPLITS)}, or leave the column out to have the images split here."
        )
    return [SPLIT_NAMES[value.lower()] for value in column]


def _hint(name: str, columns: list[str], where: str) -> str:
    return did_you_mean(name, columns) if columns else f"add that column to {where}."
