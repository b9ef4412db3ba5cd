"""The table of samples: one row an image, with its split, label and sensitive features."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fqbench.errors import DataError, InputError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

SPLITS = ("train", "val", "test")
GROUP_SEPARATOR = "×"
FIXED_COLUMNS = ("sample_id", "path", "split", "label")


@dataclass(frozen=True)
class Problem:
    """Something about a data set that its reader met and did not take.

    Attributes
    ----------
    what : str
        What it is, and what was done.
    count : int
        How many files or rows.
    first : tuple of str
        The first few of them.
    """

    what: str
    count: int
    first: tuple[str, ...]


@dataclass(frozen=True)
class Samples:
    """A data set as a table; the pictures stay where they are.

    Attributes
    ----------
    name : str
        Name of the data set.
    root : Path
        Folder that the paths in ``frame`` are relative to.
    frame : DataFrame
        Columns ``sample_id`` (str, unique), ``path`` (str), ``split`` ("train", "val" or "test"), ``label``
        (int64, an index into ``classes``), then one str column a sensitive feature.
    classes : tuple of str
        Names of the classes.
    sensitive_features : tuple of str
        Names of the sensitive-feature columns.
    notice : str
        What every report on this data set has to say (for synthfaces: that it is no evidence about people).
    problems : tuple of Problem
        What the reader left out.
    """

    name: str
    root: Path
    frame: pd.DataFrame
    classes: tuple[str, ...]
    sensitive_features: tuple[str, ...]
    notice: str = ""
    problems: tuple[Problem, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the rows and the names of the classes: what later stages depend on."""
        columns = [*FIXED_COLUMNS, *self.sensitive_features]
        text = self.frame[columns].to_csv(index=False, lineterminator="\n")
        head = repr((self.name, self.classes, self.sensitive_features))
        return hashlib.sha256((head + "\n" + text).encode()).hexdigest()

    def split(self, name: str) -> pd.DataFrame:
        """Return the rows of one split, in table order.

        Raises
        ------
        InputError
            The data set has no rows in that split.
        """
        rows = self.frame[self.frame["split"] == name]
        if rows.empty:
            present = sorted(self.frame["split"].unique())
            raise InputError(f"{self.name} has no images in split {name!r}: {did_you_mean(name, present)}")
        return rows

    def features(self, by: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return the sensitive features asked for, all of them by default.

        Raises
        ------
        InputError
            A name is not a sensitive feature of this data set.
        """
        wanted = tuple(by) if by else self.sensitive_features
        for feature in wanted:
            if feature not in self.sensitive_features:
                hint = did_you_mean(feature, self.sensitive_features)
                raise InputError(f"{self.name} has no sensitive feature {feature!r}: {hint}")
        return wanted

    def require_groups(self, split: str, by: Sequence[str]) -> None:
        """Check that every group of the data set has images in ``split``.

        Raises
        ------
        DataError
            A group that occurs elsewhere in the data set has no image in this split; the message lists them.
        """
        present = set(group_labels(self.split(split), by))
        missing = sorted(set(group_labels(self.frame, by)) - present)
        if missing:
            raise DataError(
                f"{self.name}: no image in split {split!r} for group(s) {', '.join(missing)}; "
                "give these groups images there, or group by fewer features with --by."
            )


def group_labels(frame: pd.DataFrame, by: Sequence[str]) -> NDArray[np.str_]:
    """Name the group of each row: the values of the sensitive features ``by``, joined with ``×``.

    Parameters
    ----------
    frame : DataFrame
        Rows with one column a feature.
    by : sequence of str
        Sensitive features; a group is an intersection of their values. Empty: one group named "all".

    Returns
    -------
    ndarray of str, shape (rows,)
    """
    import numpy as np

    if not by:
        return np.full(len(frame), "all")
    columns = [frame[feature].astype(str) for feature in by]
    joined = columns[0]
    for column in columns[1:]:
        joined = joined.str.cat(column, sep=GROUP_SEPARATOR)
    return np.asarray(joined, dtype=np.str_)
